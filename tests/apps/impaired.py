#!/usr/bin/python3
"""1 GiB each way through 1 % loss, 1 % duplication and 5 % reordering; the hashes are equal. To the
stack in one connection, from it in eight.

sch_netem is not everywhere, so the link is a small program (programs/impair.c) between two veth
devices: the stack's TAP is bridged to the one, the kernel's address is on the far side of the other."""
import os
import subprocess

import harness
from harness import KERNEL4, STACK4, check, equal

SIZE = 1 << 30


def bad_link(net):
    """us0 (the TAP, or veth in native mode) - bridge - left | impair | right - kernel's address."""
    binary = harness.compile_program("impair")
    # Only the device that has the address answers for it; else the bridge would, and the link would
    # be passed by.
    harness.sysctl("ipv4/conf/all/arp_ignore", "1")
    harness.sysctl("ipv4/conf/all/rp_filter", "0")
    harness.ip("addr flush dev us0", "link add left type veth peer name left1", "link add right type veth peer name right1",
               "link add bridge0 type bridge", "link set us0 master bridge0", "link set left master bridge0",
               "link set right address 02:00:00:77:00:01", "link set us0 address 02:00:00:77:00:05",
               "link set left up", "link set left1 up", "link set right up", "link set right1 up",
               "link set bridge0 up", "addr add 10.77.0.1/24 dev right", "addr add fd77::1/64 dev right nodad")
    for device in ("left", "left1", "right", "right1"):
        subprocess.run(["ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off"],
                       check=True, capture_output=True)
    # What the kernel bridges from the TAP may be a large segment; a veth without offloads cuts it.
    return net.kernel(binary, "left1", "right1", "10", "10", "50", "77")


def attempt(start, path, address, port):
    with open(path, "rb") as file:
        client = start("nc", "-N", address, port, stdin=file)
        return client if client.wait(200) == 0 else None


def one_stream(net):
    path, digest = harness.make_file("data", SIZE)
    listener = net.wrapped("sh", "-c", "nc -l -N %s 7500 | sha256sum" % STACK4)
    harness.eventually(lambda: attempt(net.kernel, path, STACK4, "7500"), "nc connects", 60)
    listener.expect(0, 60)
    equal(listener.out().decode().split()[0], digest, "1 GiB to the stack")
    net.quiet(listener)
    os.unlink(path)


def eight_streams(net):
    """Until there is RACK-TLP, a lost retransmission or a lost last ACK costs the sender a time-out;
    eight processes that share the stack wait at the same time."""
    files, listeners, senders = [], [], []
    for i in range(8):
        files.append(harness.make_file("data.%d" % i, SIZE // 8, seed=i))
        listeners.append(net.kernel("sh", "-c", "nc -l -N %s %d | sha256sum" % (KERNEL4, 7600 + i)))
    harness.eventually(lambda: all(":%04X 00000000:0000 0A" % (7600 + i) in open(
        "/proc/net/tcp", encoding="ascii").read() for i in range(8)), "eight listeners")
    for i, (path, _) in enumerate(files):
        with open(path, "rb") as file:
            senders.append(net.wrapped("nc", "-N", KERNEL4, 7600 + i, stdin=file))
    for sender, listener, (_, digest) in zip(senders, listeners, files):
        sender.expect(0, 200)
        listener.expect(0, 60)
        equal(listener.out().decode().split()[0], digest, "128 MiB from the stack")
        net.quiet(sender)


def test(net):
    harness.need("ethtool", "nc")
    link = bad_link(net)
    one_stream(net)
    eight_streams(net)
    link.stop()
    for line in link.out().decode().strip().split("\n"):
        frames, lost, doubled, reordered = harness.numbers(
            r"frames (\d+) lost (\d+) doubled (\d+) reordered (\d+)", line)
        check(lost > frames * 0.008 and doubled > frames * 0.008 and reordered > frames * 0.02,
              "the link was too good: " + line)
        check(frames > SIZE / 1448, "the link was passed by: " + line)
        print(line)


harness.run(test)
