#!/usr/bin/python3
"""Frames longer than an IP packet can say, which a TAP's kernel is sent: they arrive at a reader of
its own, and wherever it passes them on to. Every byte is compared, and that such frames were sent is
counted by a packet socket, as tcpdump would see them."""
import os
import shutil
import socket
import subprocess
import threading

import harness
from harness import KERNEL4, check, ip, sysctl

LONGEST_PACKET = 65535 + 14  # with its Ethernet header
ETH_P_ALL = 3
BULK = 192 << 20
INNER = "10.77.0.9"  # of a namespace behind the kernel

# Such frames want a window of eight. A reader that keeps up with its sender may never give one, nor
# ask the sender for one, and CUBIC's may stop growing before (HyStart): so it begins to read when 3 MB have come.
RECEIVER = """
import array, fcntl, socket, sys, termios, time, zlib
SO_RCVBUFFORCE = 33
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
print("ready", flush=True)
c = listener.accept()[0]
waiting = array.array("i", [0])
for _ in range(3000):
    fcntl.ioctl(c, termios.FIONREAD, waiting)
    if waiting[0] >= 3 << 20:
        break
    time.sleep(0.001)
memory = bytearray(1 << 20)
view = memoryview(memory)
count = crc = 0
while n := c.recv_into(memory):
    crc = zlib.crc32(view[:n], crc)
    count += n
c.sendall(b"%d %d" % (count, crc))
"""

# Ends with what it sent, what the other end got, and how many segments went again.
SENDER = """
import random, socket, struct, sys, zlib
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
block = random.Random(7).randbytes(128 << 10)
count = crc = 0
while count < int(sys.argv[3]):
    part = count.to_bytes(8, "big") + block[8:]
    c.sendall(part)
    crc = zlib.crc32(part, crc)
    count += len(part)
c.shutdown(socket.SHUT_WR)
again = struct.unpack_from("I", c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 100)[0]
print("%d %d," % (count, crc), c.recv(100).decode() + ",", again)
"""


class Counter(threading.Thread):
    """Counts the frames on us0 that are longer than an IP packet."""

    def __init__(self):
        super().__init__(daemon=True)
        # Of every protocol: one of IP alone comes after the bridge.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.bind(("us0", ETH_P_ALL))
        self.count = 0
        self.start()

    def run(self):
        memory = bytearray(64)
        while True:
            try:
                if self.socket.recv_into(memory, 0, socket.MSG_TRUNC) > LONGEST_PACKET:
                    self.count += 1
            except OSError:
                return


class Inner:
    """A namespace behind a veth pair of MTU 1500; INNER is there, and us0 answers for it."""

    def __init__(self, *options):
        sysctl("ipv4/ip_forward", "1")
        sysctl("ipv4/conf/us0/proxy_arp", "1")
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        self.namespace = "/proc/%d/ns/net" % self.holder.pid
        mine = os.readlink("/proc/self/ns/net")
        harness.eventually(lambda: os.readlink(self.namespace) != mine, "there is a namespace")
        ip("link add fwd0 type veth peer name eth0 netns %d" % self.holder.pid,
           "link set fwd0 up", "route add %s/32 dev fwd0 src %s" % (INNER, KERNEL4))
        with harness.Inside(self.namespace):
            ip("link set lo up", "link set eth0 up", "addr add %s/32 dev eth0" % INNER,
               "route add %s dev eth0" % KERNEL4, "route add default via %s dev eth0" % KERNEL4)
        for name in options:
            subprocess.run(["ethtool", "-K", "fwd0", name, "off"], check=True, capture_output=True)

    def end(self):
        ip("link del fwd0")
        self.holder.terminate()
        self.holder.wait()
        sysctl("ipv4/conf/us0/proxy_arp", "0")


def sends_them(net):
    """backend/tap.cc, kHostSegmentationSince."""
    release = [int(part) for part in os.uname().release.split("-")[0].split(".")[:2]]
    return not net.native and not net.xdp and release >= [6, 6]


def once(net, name, port, at, to, namespace):
    """BULK bytes to `to` (at a receiver on `at`); how many frames were longer than a packet."""
    if namespace is None:
        receiver = net.kernel("python3", "-c", RECEIVER, at, port)
    else:
        receiver = net.kernel("nsenter", "--net=" + namespace, "python3", "-c", RECEIVER, at, port)
    harness.eventually(lambda: b"ready" in receiver.out(), "the receiver is ready")
    counter = Counter()
    sender = net.wrapped("python3", "-c", SENDER, to or at, port, BULK)
    sender.expect(0, 120)
    receiver.expect(0)
    counter.socket.close()
    sent, got, repeated = sender.out().decode().strip().split(", ")
    print("%s: %d frames longer than a packet, %s segments again" % (name, counter.count, repeated))
    check(sent == got, "%s: sent %s, arrived %s" % (name, sent, got))
    # After sixteen the library gives such frames up. What is cut may overrun a queue behind.
    lossless = namespace is None and sends_them(net)
    check(not lossless or int(repeated) < 16, "%s: %s segments went again" % (name, repeated))
    return counter.count


def transfer(net, name, port, at=KERNEL4, to=None, namespace=None):
    """Until such frames were sent: windows are the machine's to give, now and then too small ones."""
    most = 0
    for _ in range(5):
        most = max(most, once(net, name, port, at, to, namespace))
        if most > 100 or not sends_them(net):
            return
    check(False, "%s: %d frames were longer than a packet" % (name, most))


def nft(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


INVALID_IS_DROPPED = """
flush ruleset
table ip filter {
  counter odd {
  }
  chain input {
    type filter hook input priority 0
    policy drop
    ct state invalid counter name odd drop
    ct state established,new accept
  }
  chain forward {
    type filter hook forward priority 0
    policy drop
    ct state invalid counter name odd drop
    ct state established,new accept
  }
}
table ip nat {
  chain prerouting {
    type nat hook prerouting priority -100
    tcp dport 7305 dnat to %s
  }
}
""" % INNER


def none_was_odd():
    listed = subprocess.run(["nft", "list", "counter", "ip", "filter", "odd"], text=True, check=True,
                            capture_output=True).stdout
    check("packets 0 " in listed, "conntrack finds every packet in order: " + listed)


def test(net):
    harness.need("ethtool", "unshare", "nsenter")
    transfer(net, "a local reader", 7301)
    inner = Inner()
    transfer(net, "forwarded", 7302, at=INNER, namespace=inner.namespace)
    inner.end()
    inner = Inner("tso", "gso", "sg", "tx")
    transfer(net, "forwarded without offloads", 7303, at=INNER, namespace=inner.namespace)
    inner.end()
    if shutil.which("nft") is not None:
        inner = Inner()
        nft(INVALID_IS_DROPPED)
        transfer(net, "connections tracked", 7304)
        transfer(net, "translated and forwarded", 7305, at=INNER, to=KERNEL4,
                 namespace=inner.namespace)
        none_was_odd()
        inner.end()
    # The bridge has its port's address, so the frames are for the kernel itself.
    ip("link add br0 address 02:00:00:77:00:01 type bridge", "addr flush dev us0",
       "link set us0 master br0", "link set br0 up", "addr add 10.77.0.1/24 dev br0")
    sysctl("bridge/bridge-nf-call-iptables", "1")
    transfer(net, "through a bridge", 7306)


harness.run(test)
