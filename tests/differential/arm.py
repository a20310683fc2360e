#!/usr/bin/python3
"""One run of one program in fresh namespaces, with its peer: `arm.py native|stack LIBRARY PROGRAM`.

native: two namespaces joined by a veth pair; the program has eth0 in one, the peer us0 in the other.
stack:  one namespace with the TAP us0; the program has LIBRARY preloaded, the peer is the kernel's.

Either way the program sees eth0 with 10.77.0.2/24, fd77::2/64 and a gateway. The namespaces belong
to the processes and go when they go. The program's stdout and stderr are ours; its exit is printed
as the last line.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PEER_DESCRIPTOR = 100
SECONDS = 60
libc = ctypes.CDLL(None, use_errno=True)

SYSCTLS = {
    "ipv4/tcp_congestion_control": "cubic",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/router_solicitations": "0",
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
}


def unshare_network():
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, value in SYSCTLS.items():
        try:
            with open("/proc/sys/net/" + name, "w", encoding="ascii") as file:
                file.write(value)
        except (FileNotFoundError, PermissionError):
            pass  # a kernel without it, or one that does not let a namespace choose


def ip(*lines):
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


def configure(name, host):
    """Addresses of `name` as .1 (the peer) or .2 (the program)."""
    ip("link set lo up",
       "link set %s address 02:00:00:77:00:0%d" % (name, host),
       "link set %s up" % name,
       "addr add 10.77.0.%d/24 brd 10.77.0.255 dev %s" % (host, name),
       "addr add fd77::%d/64 dev %s nodad" % (host, name))


def stack_environment(library):
    return {
        "LD_PRELOAD": os.path.abspath(library),
        "USERSTACK_DEV": "tap:us0",
        "USERSTACK_ADDR": "10.77.0.2/24,fd77::2/64",
        "USERSTACK_GATEWAY": "10.77.0.1,fd77::1",
        "USERSTACK_MAC": "02:00:00:77:00:02",
    }


def run_program(program, control, environment):
    os.dup2(control.fileno(), PEER_DESCRIPTOR)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    os.execve(program, [program], environment)


def program_process(mode, library, program, control, ready, go):
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    for name in os.environ:
        if name.startswith("DIFFERENTIAL_"):
            environment[name] = os.environ[name]
    if mode == "native":
        unshare_network()
        os.write(ready, b"x")
        os.read(go, 1)
        configure("eth0", 2)
        ip("route add default via 10.77.0.1", "route add ::/0 via fd77::1")
    else:
        os.read(go, 1)
        environment.update(stack_environment(library))
        for name in os.environ:  # what the person who debugs wants to add: USERSTACK_LOG and so on
            if name.startswith("USERSTACK_"):
                environment[name] = os.environ[name]
    os.close(ready)
    os.close(go)
    run_program(program, control, environment)


def main():
    mode, library, program = sys.argv[1:4]
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if mode == "stack":
        unshare_network()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            program_process(mode, library, os.path.abspath(program), theirs, ready_write, go_read)
        except BaseException as error:
            print("arm:", error, flush=True)
        os._exit(126)
    theirs.close()
    os.close(ready_write)  # so that the read ends when the child dies
    if mode == "native":
        os.read(ready_read, 1)
        unshare_network()
        ip("link add us0 type veth peer name eth0 index 2 netns %d" % child)
    else:
        ip("tuntap add mode tap name us0")
    configure("us0", 1)
    os.write(go_write, b"x")

    server = os.fork()
    if server == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        peer.serve(ours)
        os._exit(0)
    ours.close()

    def too_long(*_):
        print("arm: still running after %d s" % SECONDS, flush=True)
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    os.kill(server, signal.SIGKILL)
    try:
        os.killpg(child, signal.SIGKILL)  # children that it left
    except ProcessLookupError:
        pass
    if os.WIFSIGNALED(status):
        print("exit: signal %d" % os.WTERMSIG(status))
    else:
        print("exit: %d" % os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
