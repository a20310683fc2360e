#!/usr/bin/python3
"""Readers of bulk are killed in mid-read, with what had landed in their memory or without: who shares
the socket reads on, and finds the stream as Linux would leave it, or a connection that the audit gave
up because the dead one was in the middle of changing it. One stream, whose frames land; and
three, on a TAP of several queues, which get one each."""
import re

import harness
from harness import KERNEL4, check, equal

KILLS = 300


def storm(net, program, streams, seed):
    wrapped = net.wrapped(program, KERNEL4, "9310", KILLS, streams, seed, environment={"USERSTACK_LOG": "info"})
    status = wrapped.wait(60)
    found = re.findall(r"audit: .*|a process died inside the stack and.*", wrapped.errors())
    lines = wrapped.out().decode().splitlines()
    check(status == 0, "%d streams, seed %d: status %d: %s %s" % (streams, seed, status, lines, found))
    equal(lines[0], "kills %d" % KILLS, "after the storm")
    audits = sum(line.startswith("audit") for line in found)
    resets = int(lines[2].split()[1])
    check(resets <= audits, "%d streams, seed %d: %d resets, of which the audit explains %d: %s" % (
        streams, seed, resets, audits, found))
    with_lock = len(re.findall("a process died inside the stack", wrapped.errors()))
    print("%d streams: %s, %d of them with the lock; %s; %s" % (streams, lines[0], with_lock, lines[1], lines[2]))
    return with_lock


def test(net):
    program = harness.compile_program("landing_storm")
    sender = net.kernel(program, "send", KERNEL4, "9310")
    harness.wait_port(9310, KERNEL4, sender)
    with_lock = sum(storm(net, program, 1, seed) for seed in (1, 2))
    if not net.native and not net.xdp:
        harness.ip("link del us0", "tuntap add mode tap multi_queue name us0")
        net.configure("us0", 1)
        with_lock += sum(storm(net, program, streams, 3) for streams in (1, 3))
    check(net.native or with_lock > 0, "nobody died with the lock: the storm tested nothing")


harness.run(test)
