#!/usr/bin/python3
"""100,000 connections opened by the library one after the other, then 100,000 accepted by it;
memory and descriptors do not grow.

Compared are the middle and the end. Up to some 50,000 connections memory grows without any leak, as
bounded tables are touched for the first time: over a 4 GiB arena 8 MiB of slots for connections,
which the tuples hit at random, and a TIME-WAIT record (184 bytes, 60 s) for each of the kernel's
14,116 even ports, which it takes in random steps. From 50,000 to 100,000 that is less than 100 KiB.
"""
import harness
from harness import KERNEL4, STACK4, check, equal, numbers

COUNT = 100000
GROWTH = 256  # KiB; 8 bytes lost with each connection of the second half are 390


def no_growth(program, what):
    text = program.out().decode()
    early, late = (numbers(r"after %d: resident (\d+) descriptors (\d+)" % n, text)
                   for n in (COUNT // 2, COUNT))
    equal(late[1], early[1], what + ": descriptors")
    check(late[0] <= early[0] + GROWTH,
          "%s: memory grew from %d to %d KiB" % (what, early[0], late[0]))
    print(what, text.replace("\n", "; "))


def test(net):
    binary = harness.compile_program("cycles")
    server = net.kernel(binary, "server", KERNEL4, "9100", str(COUNT))
    harness.eventually(lambda: ":238C " in open("/proc/net/tcp", encoding="ascii").read(), "the server")
    client = net.wrapped(binary, "client", KERNEL4, "9100", str(COUNT)).expect(0, 150)
    equal(server.wait(), 0, "the kernel's server")
    no_growth(client, "client")
    net.quiet(client)

    server = net.wrapped(binary, "server", STACK4, "9101", str(COUNT))

    def first():
        client = net.kernel(binary, "client", STACK4, "9101", "1")
        return client.wait() == 0

    harness.eventually(first, "the wrapped server")
    client = net.kernel(binary, "client", STACK4, "9101", str(COUNT - 1)).expect(0, 150)
    equal(server.wait(), 0, "the wrapped server")
    no_growth(server, "server")
    net.quiet(server)


harness.run(test)
