#!/usr/bin/python3
"""userstack-open: an unprivileged program gets TAP and AF_XDP devices from one with privilege."""
import os
import signal
import socket
import subprocess

import harness
from harness import KERNEL4, STACK4, check, equal

NOBODY = "65534"


def opener(net):
    path = os.path.join(os.path.dirname(net.library), "userstack-open")
    if not os.path.exists(path):
        harness.skip("no userstack-open beside the library")
    return path


def start(net, device, *command, user=NOBODY, wrapped=True):
    """The command as `user`, with the library in it (or not), and not in the opener."""
    variables = net.stack_variables()
    del variables["USERSTACK_DEV"]
    library = variables.pop("LD_PRELOAD")
    variables.pop("USERSTACK_MAC")
    options = ["--user", user] if user else []
    wrapper = ["env", "LD_PRELOAD=" + library] if wrapped else []
    return harness.Program([opener(net), *options, device, *wrapper, *command],
                           net.environment(variables), None, None,
                           harness.Enter(net.program_namespace) if net.program_namespace else None,
                           "/")


def unprivileged(net, device, digest):
    # A child of the one that was started, and after it another, with nothing left of the first.
    script = ("grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status >&2; for i in 1 2; do "
              "curl -sS --fail http://%s:8080/large; done" % KERNEL4)
    program = start(net, device, "sh", "-c", script).expect(0)
    with open(program.out_path, "rb") as file:
        data = file.read()
    equal(len(data), 2 << 24, "bytes of two fetches")
    equal(harness.sha256(data[:1 << 24]), digest, "first fetch")
    equal(harness.sha256(data[1 << 24:]), digest, "second fetch")
    check("Uid:\t65534\t65534\t65534\t65534" in program.errors(), program.errors())
    check("CapEff:\t0000000000000000" in program.errors(), program.errors())
    check("NoNewPrivs:\t1" in program.errors(), program.errors())


def serving(net, device):
    server = start(net, device, "/usr/bin/python3", "-m", "http.server", "-d", harness.WORK + "/www",
                   "--bind", STACK4, "8000")
    harness.wait_port(8000, STACK4, server)
    check(harness.fetch_hash(net, "http://%s:8000/small" % STACK4), "nothing came")
    net.owns_no_socket(server)
    equal(server.stop(signal.SIGKILL), -signal.SIGKILL, "killed")


def after_another(net, device):
    """A device whose last program left a connection in TIME-WAIT is given up for who opens it."""
    for _ in range(2):
        # Ours closes first, and waits for the peer's FIN.
        start(net, device, "/usr/bin/python3", "-c", "import socket\ns = socket.create_connection(('%s', 8080))\n"
              "s.shutdown(socket.SHUT_WR)\nassert s.recv(1) == b''" % KERNEL4).expect(0)


# Answers 16 connections and closes each first: they stay in TIME-WAIT.
SERVER = """
import socket
listener = socket.create_server(('%s', 8001), backlog=16)
for _ in range(16):
    connection, _ = listener.accept()
    connection.sendall(b'here')
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b''
"""


def answered():
    try:
        with socket.create_connection((STACK4, 8001), timeout=5) as connection:
            return connection.recv(4) == b"here"
    except OSError:
        return False


def of_several_queues(net):
    """Such a TAP could be opened beside its holder, and each would get a part of the connections."""
    if net.xdp:
        return
    harness.ip("link del us0", "tuntap add mode tap multi_queue name us0")
    net.configure("us0", 1)
    for _ in range(3):
        server = start(net, "tap:us0", "/usr/bin/python3", "-c", SERVER % STACK4)
        harness.eventually(answered, "an answer")
        for _ in range(15):
            check(answered(), "one of many connections was not answered")
        equal(server.wait(), 0, "status of the server")
    server = start(net, "tap:us0", "/usr/bin/python3", "-m", "http.server", "--bind", STACK4, "8000")
    harness.wait_port(8000, STACK4, server)
    beside = start(net, "tap:us0", "true")
    equal(beside.wait(), 125, "status beside a program that stays")
    check("device is busy" in beside.errors(), beside.errors())
    server.stop(signal.SIGKILL)


def refusals(net, device):
    wrong = device[:4] + "nothing9" if device.startswith("xdp:") else "tap:lo"
    program = start(net, wrong, "true")
    equal(program.wait(), 125, "status of a device that cannot be opened")
    check("USERSTACK_DEV=" + wrong in program.errors(), program.errors())
    equal(start(net, device, "sh", "-c", "exit 3").wait(), 3, "the command's own status")
    path = os.path.join(harness.WORK, "www/small")
    for command, status in ((path, 126), ("/nowhere/command", 127)):
        program = start(net, device, command, wrapped=False)
        equal(program.wait(), status, "status of a command that cannot be run: " + program.errors())
    usage = subprocess.run([opener(net), "--help"], capture_output=True, text=True, check=True)
    check(usage.stdout.startswith("usage: userstack-open"), usage.stdout)
    usage = subprocess.run([opener(net), "--nonsense"], capture_output=True, text=True, check=False)
    equal(usage.returncode, 125, "status of bad usage")
    check("usage: userstack-open" in usage.stderr, usage.stderr)
    # What was handed over is another device than USERSTACK_DEV names: said, not used.
    program = start(net, device, "env", "USERSTACK_DEV=" + device[:4] + "other0", "curl", "-sS",
                    "http://%s:8080/" % KERNEL4)
    check(program.wait() != 0, "another device than was handed over")
    check(device[:4] + "other0" in program.errors(), program.errors())


def test(net):
    harness.need("curl", "nginx")
    if net.native:
        harness.skip("only with the library")
    _, digest = harness.make_file("www/large", 1 << 24)
    harness.make_file("www/small", 12345)
    os.chmod(harness.WORK, 0o777)
    configuration = harness.nginx_configuration(harness.WORK + "/www")
    harness.start_nginx(net.kernel, configuration, KERNEL4, 8080)
    device = "xdp:eth0" if net.xdp else "tap:us0"
    unprivileged(net, device, digest)
    after_another(net, device)
    serving(net, device)
    refusals(net, device)
    of_several_queues(net)


harness.run(test)
