#!/usr/bin/python3
"""AF_XDP on a veth: hashes in both directions and modes, the kernel beside it, down and up, removal."""
import signal
import subprocess
import time

import harness
from harness import KERNEL4, KERNEL6, STACK4, STACK6, check, equal

SERVER = """
import socket, sys
listener = socket.create_server(("10.77.0.2", int(sys.argv[1])))
print("listening", flush=True)
while True:
    sock, _ = listener.accept()
    while data := sock.recv(1 << 16):
        sock.sendall(data)
    sock.close()
"""


def wrapped_fetch(net, digest, url, **variables):
    program = net.wrapped("curl", "-sS", "-g", "--fail", url, traced=True, environment=variables)
    program.expect(0)
    equal(harness.sha256_file(program.out_path), digest, url + " wrapped")


def modes(net, digest):
    for device in ("xdp:eth0", "xdp:eth0,mode=native", "xdp:eth0,queue=0,copy"):
        wrapped_fetch(net, digest, "http://%s:8080/large" % KERNEL4, USERSTACK_DEV=device)
        wrapped_fetch(net, digest, "http://[%s]:8080/large" % KERNEL6, USERSTACK_DEV=device)


def serving(net, configuration, digest):
    """nginx and its workers share the queue."""
    server = harness.start_nginx(net.wrapped, configuration, STACK4, 8080)
    for address in (STACK4, "[%s]" % STACK6):
        equal(harness.fetch_hash(net, "http://%s:8080/large" % address), digest, "from nginx wrapped")
    net.owns_no_socket(server)
    # The interface's own addresses stay the kernel's.
    net.inside("ip", "addr", "add", "10.77.0.9/24", "dev", "eth0")
    equal(net.inside("curl", "-sS", "--fail", "-o", "/dev/null", "http://%s:8080/small" % KERNEL4)
          .returncode, 0, "the kernel's own curl on the interface")
    joined = net.wrapped("curl", "-sS", "--fail", "http://%s:8080/small" % KERNEL4)
    joined.expect(0)  # the same stack: one more process on the same queue
    other = net.wrapped("curl", "-sS", "http://%s:8080/small" % KERNEL4,
                        environment={"USERSTACK_DEV": "xdp:eth0,queue=0"})
    check(other.wait() != 0, "another stack on the same queue")
    lines = [line for line in other.errors().splitlines() if line.startswith("userstack:")]
    equal(len(lines), 1, "lines of a refused stack")
    check("busy" in lines[0], lines[0])
    equal(server.stop(signal.SIGKILL), -signal.SIGKILL, "nginx killed")
    subprocess.run(["pkill", "-KILL", "-x", "nginx"], check=False)  # a process namespace of our own
    net.clean()


def interrupted(net, digest):
    """A transfer lives through the interface's being down for a moment."""
    program = net.wrapped("curl", "-sS", "--fail", "--limit-rate", "40M",
                          "http://%s:8080/large" % KERNEL4)
    harness.eventually(lambda: len(program.out()) > 1000000, "the transfer has begun")
    equal(net.inside("ip", "link", "set", "eth0", "down").returncode, 0, "down")
    equal(net.inside("ip", "link", "set", "eth0", "up").returncode, 0, "up")
    program.expect(0, 60)
    equal(harness.sha256_file(program.out_path), digest, "through down and up")


def stalled(net, digest):
    """Nobody empties the ring for a second: what did not fit is sent again."""
    program = net.wrapped("curl", "-sS", "--fail", "http://%s:8080/large" % KERNEL4)
    harness.eventually(lambda: len(program.out()) > 1000000, "the transfer has begun")
    program.process.send_signal(signal.SIGSTOP)
    time.sleep(1)  # this is the fault, not a wait for something
    program.process.send_signal(signal.SIGCONT)
    program.expect(0, 60)
    equal(harness.sha256_file(program.out_path), digest, "through a full ring")


def removed(net):
    """The interface goes for good: the program is told, and nobody spins or hangs."""
    server = net.wrapped("/usr/bin/python3", "-c", SERVER, "9001")
    harness.wait_port(9001, STACK4, server)
    equal(harness.exchange(STACK4, 9001, b"x" * 100000), b"x" * 100000, "echo")
    net.inside("ip", "link", "del", "eth0")
    # Nobody sends: the server sleeps in accept.
    harness.eventually(lambda: "the interface was deleted" in server.errors(), "the cause is said")
    program = net.wrapped("curl", "-sS", "--connect-timeout", "2", "http://%s:8080/" % KERNEL4)
    check(program.wait(30) in (7, 28), "curl without an interface: %s" % program.errors())
    check(server.alive(), "the server died")
    server.stop(signal.SIGKILL)


def test(net):
    harness.need("curl", "nginx")
    if not net.xdp:
        harness.skip("only over AF_XDP")
    _, digest = harness.make_file("www/large", 64 << 20)
    harness.make_file("www/small", 12345)
    configuration = harness.nginx_configuration(harness.WORK + "/www", workers=2,
                                                listen=("8080", "[::]:8080"))
    nginx = harness.start_nginx(net.kernel, configuration, KERNEL4, 8080)
    modes(net, digest)
    interrupted(net, digest)
    stalled(net, digest)
    serving(net, harness.nginx_configuration(harness.WORK + "/www", workers=2,
                                             listen=("8080", "[::]:8080")), digest)
    if nginx.alive():
        nginx.stop()
    nginx = harness.start_nginx(net.kernel, configuration, KERNEL4, 8080)
    removed(net)


harness.run(test, wire="xdp")
