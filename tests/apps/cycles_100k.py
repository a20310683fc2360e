#!/usr/bin/python3
"""100,000 connections one after the other, half of them opened by the library and half accepted by it;
memory and descriptors do not grow."""
import harness
from harness import KERNEL4, STACK4, check, equal, numbers


def no_growth(program, what):
    text = program.out().decode()
    early, late = (numbers(r"after %d: resident (\d+) descriptors (\d+)" % n, text) for n in (5000, 50000))
    equal(late[1], early[1], what + ": descriptors")
    check(late[0] <= early[0] + 2048, "%s: memory grew from %d to %d KiB" % (what, early[0], late[0]))
    print(what, text.replace("\n", "; "))


def test(net):
    binary = harness.compile_program("cycles")
    server = net.kernel(binary, "server", KERNEL4, "9100", "50000")
    harness.eventually(lambda: ":238C " in open("/proc/net/tcp", encoding="ascii").read(), "the server")
    client = net.wrapped(binary, "client", KERNEL4, "9100", "50000").expect(0, 150)
    equal(server.wait(), 0, "the kernel's server")
    no_growth(client, "client")
    net.quiet(client)

    server = net.wrapped(binary, "server", STACK4, "9101", "50000")

    def first():
        client = net.kernel(binary, "client", STACK4, "9101", "1")
        return client.wait() == 0

    harness.eventually(first, "the wrapped server")
    client = net.kernel(binary, "client", STACK4, "9101", "49999").expect(0, 150)
    equal(server.wait(), 0, "the wrapped server")
    no_growth(server, "server")
    net.quiet(server)


harness.run(test)
