#!/usr/bin/python3
"""nc (openbsd) under the library in both roles, TCP and UDP, both families."""
import time

import harness
from harness import KERNEL4, KERNEL6, STACK4, STACK6, check, equal


def transfer(net, path, digest, wrapped_sends, address, options=(), traced=False):
    port = "7001"
    sender, receiver = (net.wrapped, net.kernel) if wrapped_sends else (net.kernel, net.wrapped)
    trace = {"traced": True} if traced else {}
    listener = receiver("nc", *options, "-l", "-N", address, port, **({} if wrapped_sends else trace))

    def attempt():
        with open(path, "rb") as file:
            client = sender("nc", *options, "-N", address, port, stdin=file,
                            **(trace if wrapped_sends else {}))
            return client if client.wait() == 0 else None

    # nc takes one connection only, so trying it is the only way to see that it listens.
    client = harness.eventually(attempt, "nc connects to " + address)
    listener.expect(0)
    equal(harness.sha256_file(listener.out_path), digest, "%s to %s" % (path, address))
    net.quiet(client)
    net.quiet(listener)


def datagram(net, wrapped_sends):
    address, port = (KERNEL4 if wrapped_sends else STACK4), "7002"
    sender, receiver = (net.wrapped, net.kernel) if wrapped_sends else (net.kernel, net.wrapped)
    listener = receiver("nc", "-u", "-l", address, port)
    with open("/mnt/line", "w", encoding="ascii") as file:
        file.write("one datagram\n")

    def attempt():
        with open("/mnt/line", "rb") as file:
            sender("nc", "-u", "-w", "1", address, port, stdin=file).wait()
        return listener.out().startswith(b"one datagram\n")

    harness.eventually(attempt, "a datagram arrives at " + address)
    listener.stop()


def test(net):
    harness.need("nc")
    path, digest = harness.make_file("data", 32 << 20)
    transfer(net, path, digest, True, KERNEL4, traced=True)
    transfer(net, path, digest, False, STACK4, traced=True)
    transfer(net, path, digest, True, KERNEL6, ("-6",))
    transfer(net, path, digest, False, STACK6, ("-6",))
    datagram(net, True)
    datagram(net, False)
    # -z: open and closed ports, by exit status.
    listener = net.kernel("nc", "-l", "-k", KERNEL4, "7003")
    harness.wait_port(7003, KERNEL4, listener)
    equal(net.wrapped("nc", "-z", KERNEL4, "7003").wait(), 0, "status for an open port")
    equal(net.wrapped("nc", "-z", KERNEL4, "7004").wait(), 1, "status for a closed port")
    started = time.monotonic()
    equal(net.wrapped("nc", "-z", "-w", "1", "10.78.0.1", "7004").wait(), 1, "status of a time-out")
    check(time.monotonic() - started < 5, "-w 1 took %.1f s" % (time.monotonic() - started))


harness.run(test)
