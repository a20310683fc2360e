#!/usr/bin/python3
"""Bad configuration and exhausted resources: one clear line that names the variable and the value, or
the right errno; never the kernel in silence."""
import os
import shutil
import signal
import subprocess

import harness
from harness import KERNEL4, WORK, check, equal

ARENA = "200000000000"


def complaint(program, *words):
    lines = [line for line in program.errors().splitlines() if line.strip()]
    equal(len(lines), 1, "lines on stderr: %s" % lines)
    for word in words:
        check(word in lines[0], "%r is not in %r" % (word, lines[0]))
    check(lines[0].startswith("userstack: "), "it does not say who speaks: %r" % lines[0])
    print(lines[0])


def refused(net, probe, variables, *words):
    program = net.wrapped(probe, "socket", environment=variables)
    equal(program.wait(), 0, "exit status")
    equal(program.out(), b"socket: ENETDOWN\nsecond: ENETDOWN\n", "what the program saw with %s" % variables)
    complaint(program, *words)


def malformed(net, probe):
    for variable, value in (
            ("USERSTACK_ADDR", "10.77.0.2/24,banana"), ("USERSTACK_ADDR", "10.77.0.2/33"),
            ("USERSTACK_ADDR", "10.77.0.300/24"), ("USERSTACK_ADDR", "fd77::2/129"),
            ("USERSTACK_GATEWAY", "10.77.0"), ("USERSTACK_MTU", "12"), ("USERSTACK_MTU", "many"),
            ("USERSTACK_MAC", "02:00:00:77:00"), ("USERSTACK_MAC", "01:00:00:00:00:01"),
            ("USERSTACK_CC", "vegas"), ("USERSTACK_DEV", "tap"), ("USERSTACK_DEV", "banana:us0"),
            ("USERSTACK_DEV", "tap:a-name-that-is-too-long"), ("USERSTACK_SPIN_US", "-5"),
            ("USERSTACK_KERNEL", "127.0.0.0/8,nowhere"), ("USERSTACK_LOG", "loud"),
            ("USERSTACK_MEMORY", "a lot"), ("USERSTACK_MEMORY", "1M")):
        refused(net, probe, {variable: value}, variable, value.split(",")[-1])
    # Each right by itself, and not together.
    refused(net, probe, {"USERSTACK_ADDR": "10.77.0.2/24,10.77.0.2/16"}, "USERSTACK_ADDR=10.77.0.2/16", "accepted")
    refused(net, probe, {"USERSTACK_GATEWAY": "10.78.0.1"}, "USERSTACK_GATEWAY=10.78.0.1", "accepted")
    refused(net, probe, {"USERSTACK_BANANA": "1"}, "USERSTACK_BANANA")
    refused(net, probe, {"USERSTACK_CONFIG": "/nowhere.toml"}, "USERSTACK_CONFIG", "/nowhere.toml")


def devices(net, probe):
    # A device that is not there is made by root; someone else cannot.
    binary, library = WORK + "/probe", WORK + "/libuserstack.so"
    shutil.copy(probe, binary)
    shutil.copy(net.library, library)
    shutil.copy(os.path.join(os.path.dirname(net.library), "libuserstack-decode.so"), WORK)
    os.chmod(binary, 0o755)
    os.chmod(library, 0o755)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    variables = {"LD_PRELOAD": library, "USERSTACK_DEV": "tap:us0"}
    program = net.wrapped(*nobody, binary, "socket", environment=variables).expect(0)
    equal(program.out(), b"socket: ENETDOWN\nsecond: ENETDOWN\n", "nobody on root's device")
    complaint(program, "USERSTACK_DEV", "tap:us0")
    # A stack without an address is one, which says so.
    program = net.wrapped(probe, "socket", environment={"USERSTACK_ADDR": "", "USERSTACK_GATEWAY": ""}).expect(0)
    equal(program.out(), b"socket: ok\nsecond: ok\n", "a stack without an address")
    complaint(program, "USERSTACK_ADDR is not set", "expected")
    # A device that is busy.
    holder_in, holder_write = os.pipe()
    echo = net.kernel(harness.compile_program("echo_server"), KERNEL4, "9300", "0")
    harness.wait_port(9300, KERNEL4, echo)
    holder = net.wrapped(probe, "hold", KERNEL4, "9300", stdin=holder_in)
    os.close(holder_in)
    harness.eventually(lambda: b"connect: ok" in holder.out(), "the first program connects")
    program = net.wrapped(probe, "socket", environment={"USERSTACK_ADDR": "10.77.0.9/24", "USERSTACK_GATEWAY": ""}).expect(0)
    equal(program.out(), b"socket: ENETDOWN\nsecond: ENETDOWN\n", "another stack on a busy device")
    complaint(program, "USERSTACK_DEV", "tap:us0", "busy")
    # With the same configuration it is the same stack.
    program = net.wrapped(probe, "socket").expect(0)
    equal(program.out(), b"socket: ok\nsecond: ok\n", "a second program on the same stack")
    check(holder.alive(), "the first program died")
    os.close(holder_write)
    equal(holder.wait(), 0, "the first program's status")
    harness.ip("link add dummy9 type veth peer name dummy8")
    program = net.wrapped(probe, "socket", environment={"USERSTACK_DEV": "tap:dummy9"}).expect(0)
    equal(program.out(), b"socket: ENETDOWN\nsecond: ENETDOWN\n", "a device that is no TAP")
    complaint(program, "USERSTACK_DEV", "dummy9")
    # The device's owner needs no privilege.
    subprocess.run(["ip", "tuntap", "add", "mode", "tap", "name", "us9", "user", "65534"], check=True)
    harness.ip("link set us9 up", "addr add 10.79.0.1/24 dev us9")
    variables = {"LD_PRELOAD": library, "USERSTACK_DEV": "tap:us9", "USERSTACK_ADDR": "10.79.0.2/24",
                 "USERSTACK_GATEWAY": "10.79.0.1"}
    if os.stat("/dev/net/tun").st_mode & 0o006 == 0o006:
        program = net.wrapped(*nobody, binary, "connect", "10.79.0.1", "1", environment=variables)
        program.wait()
        equal(program.out(), b"connect: ECONNREFUSED\n", "nobody on nobody's device")
    return echo


def arena(net, probe):
    program = net.wrapped(probe, "map", ARENA).expect(0)
    equal(program.out(), b"map: ok\nsocket: ENETDOWN\nsecond: ENETDOWN\npage: mine\n", "the arena's address is taken")
    complaint(program, ARENA)
    # A small stack, on a device of its own: what is left of the others still has us0.
    harness.ip("tuntap add mode tap name us8", "link set us8 up", "addr add 10.80.0.1/24 dev us8")
    echo = net.kernel(harness.compile_program("echo_server"), "10.80.0.1", "9301", "0")
    harness.wait_port(9301, "10.80.0.1", echo)
    program = net.wrapped(probe, "exhaust", "10.80.0.1", "9301", environment={
        "USERSTACK_MEMORY": "32M", "USERSTACK_DEV": "tap:us8", "USERSTACK_ADDR": "10.80.0.2/24",
        "USERSTACK_GATEWAY": "10.80.0.1"})
    program.wait(60)
    print(program.errors())
    lines = program.out().decode().splitlines()
    check(lines[2:3] in (["new sockets: ENOBUFS"], ["new sockets: ENOMEM"]), "exhausted: %s" % lines)
    equal(lines[:2] + lines[3:], ["connect: ok", "old connection before: alive",
                                  "old connection while exhausted: alive", "old connection afterwards: alive",
                                  "connect: ok", "new connection: alive"], "old ones live on")


def handed_over(net, probe):
    """A memory file, sealed as an arena is, that is too small for one: it is left alone."""
    for size in (1, 4096, 8192):
        program = net.kernel("/usr/bin/python3", "-c", """
import fcntl, os, sys
seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
file = os.memfd_create("arena", os.MFD_ALLOW_SEALING)
os.truncate(file, int(sys.argv[1]))
os.set_inheritable(file, True)
fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
os.environ.update(word.split("=", 1) for word in sys.argv[3:])
os.environ["USERSTACK_ATTACH"] = "%d:%d:%d" % (file, file, file)
os.execv(sys.argv[2], [sys.argv[2], "socket"])""", size, probe, *(
            "%s=%s" % item for item in net.stack_variables().items())).expect(0)
        equal(program.out(), b"socket: ok\nsecond: ok\n", "with an arena of %d bytes" % size)
        equal(program.errors(), "", "what it says")


def stopped(net, probe):
    """The program that holds the device is stopped; who waits for it can be ended all the same."""
    holder = net.wrapped("/usr/bin/python3", "-c", "import socket, time\ns = socket.socket()\n"
                         "print('ready', flush=True)\ntime.sleep(300)")
    harness.eventually(holder.out, "the holder")
    holder.process.send_signal(signal.SIGSTOP)
    program = net.wrapped("timeout", "0.5", probe, "socket")
    equal(program.wait(), 124, "status of a program that is ended while it waits")
    equal(program.errors(), "", "what it says: it has not waited to the end")
    refused(net, probe, {}, "USERSTACK_DEV=", "do not answer")
    holder.stop(signal.SIGKILL)


def test(net):
    probe = harness.compile_program("probe")
    if net.native:
        equal(net.wrapped(probe, "socket").expect(0).out(), b"socket: ok\nsecond: ok\n", "a plain program")
        return
    program = net.wrapped(probe, "socket").expect(0)
    equal(program.out(), b"socket: ok\nsecond: ok\n", "a good configuration")
    equal(program.errors(), "", "a good configuration's stderr")
    malformed(net, probe)
    echo = devices(net, probe)
    arena(net, probe)
    handed_over(net, probe)
    stopped(net, probe)
    check(echo.alive(), "the echo server died")
    # No configuration: everything passes, and stderr is silent at the default level.
    program = net.kernel(probe, "socket", environment={"LD_PRELOAD": net.library}).expect(0)
    equal(program.out(), b"socket: ok\nsecond: ok\n", "without configuration")
    equal(program.errors(), "", "without configuration, stderr")


harness.run(test)
