#!/usr/bin/python3
"""A TAP of several queues: threads that read bulk side by side get one each, and one that waits for
several streams one for each; they lose no byte, and leave none open, neither when they end nor when
they are killed. A reader that changes to another way of
waiting is not forgotten there."""
import os
import signal
import socket
import subprocess
import threading
import time
import zlib

import harness
from harness import STACK4, check

RECEIVERS = """
import socket, sys, threading, zlib
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
def receive(connection):
    memory = bytearray(1 << 17)
    view = memoryview(memory)
    count = crc = 0
    while n := connection.recv_into(memory):
        crc = zlib.crc32(view[:n], crc)
        count += n
    connection.sendall(b"%d %d" % (count, crc))
    connection.close()
print("ready", flush=True)
while True:
    threading.Thread(target=receive, args=(listener.accept()[0],), daemon=True).start()
"""

# One thread for all. SIGUSR1: from then on its epoll instance is waited for in another.
SEVERAL = """
import select, signal, socket, sys, zlib
way = sys.argv[3] if len(sys.argv) > 3 else "select"
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
connections = {listener.fileno(): [listener, 0, 0]}
inner = select.epoll() if way == "epoll" else select.poll()
outer = None
nests = False
def nest(*_):
    global nests
    nests = True
signal.signal(signal.SIGUSR1, nest)
inner.register(listener, select.POLLIN)
def ready():
    if way in ("select", "again"):
        return select.select(list(connections), [], [], 0 if way == "again" else None)[0]
    if outer is not None:
        outer.poll()
    return [fd for fd, _ in inner.poll(0 if outer is not None else None)]
memory = memoryview(bytearray(1 << 17))
lies = 0
print("ready", flush=True)
while True:
    if nests and outer is None:
        outer = select.epoll()
        outer.register(inner, select.EPOLLIN)
    for fd in ready():
        connection = connections[fd]
        if connection[0] is listener:
            accepted = listener.accept()[0]
            accepted.setblocking(False)
            connections[accepted.fileno()] = [accepted, 0, 0]
            inner.register(accepted, select.POLLIN)
            continue
        try:
            n = connection[0].recv_into(memory)
        except BlockingIOError:
            lies += 1
            continue
        connection[1] += n
        connection[2] = zlib.crc32(memory[:n], connection[2])
        if n == 0:
            inner.unregister(fd)
            connection[0].sendall(b"%d %d" % (connection[1], connection[2]))
            del connections[fd]
            connection[0].close()
            print("lies", lies, flush=True)
"""

# An idle process of the same stack, which starts the one that receives.
PARENT = """
import socket, subprocess, sys
listener = socket.create_server((sys.argv[1], 7102))
child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1], "7103"])
print("child", child.pid, flush=True)
while True:
    connection = listener.accept()[0]
    connection.sendall(connection.recv(100))
    connection.close()
"""

# Reads bulk of zeros until one byte is none; then answers each message, which it awaits in many ways.
CHANGING = """
import select, socket, sys, threading
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
memory = bytearray(1 << 17)
def spin(c, size):
    c.setblocking(False)
    while True:
        try:
            c.recv(size)
            break
        except BlockingIOError:
            pass
    c.setblocking(True)
def select_poll(c, size):
    wait = select.poll()
    wait.register(c, select.POLLIN)
    wait.poll()
    c.recv(size)
def select_epoll(c, size):
    wait = select.epoll()
    wait.register(c, select.EPOLLIN)
    wait.poll()
    c.recv(size)
    wait.close()
def select_select(c, size):
    select.select([c], [], [])
    c.recv(size)
WAYS = (lambda c, size: c.recv_into(memory), lambda c, size: c.recv(size),
        lambda c, size: c.recv(size, socket.MSG_WAITALL), spin, select_poll, select_epoll, select_select)
def receive(c):
    mine = bytearray(1 << 17)
    while mine[c.recv_into(mine) - 1] == 0: pass
    c.sendall(b"x")
    for way in eval(c.recv(100)):
        for _ in range(50):
            WAYS[way](c, 1000)
            c.sendall(b"x")
    c.close()
print("ready", flush=True)
while True:
    threading.Thread(target=receive, args=(listener.accept()[0],), daemon=True).start()
"""

STREAMS = 4
LEAST = 64 << 20  # bytes of each stream
LONGEST = 20  # seconds until the queues must have been seen


def queues():
    """How many the kernel delivers to. sysfs shows the network namespace that it was mounted in."""
    if not os.path.isdir("sys"):
        os.mkdir("sys")
        subprocess.run(["mount", "-t", "sysfs", "sysfs", "sys"], check=True)
    return sum(name.startswith("tx-") for name in os.listdir("sys/class/net/us0/queues"))


class Sender(threading.Thread):
    """Sends until it is told to stop, and at least LEAST; then asks what arrived."""

    def __init__(self, port, seed):
        super().__init__(daemon=True)
        self.connection = socket.create_connection((STACK4, port))
        self.connection.settimeout(60)
        self.block = bytes((i * seed + i // 251) & 255 for i in range(1 << 18))
        self.stopping = False
        self.count = self.crc = 0
        self.answer = b""
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.stopping or self.count < LEAST:
                self.connection.sendall(self.block)
                self.count += len(self.block)
                self.crc = zlib.crc32(self.block, self.crc)
            self.connection.shutdown(socket.SHUT_WR)
            self.answer = self.connection.recv(100)
        except OSError as error:
            self.error = error
        self.connection.close()


def until_queues_are_open(net, senders):
    if net.native:
        return
    until = time.monotonic() + LONGEST
    while queues() < 3:
        check(time.monotonic() < until, "%d queues were open in %d s" % (queues(), LONGEST))
        check(all(sender.error is None for sender in senders), "the senders go on")
        time.sleep(0.01)


def round_trips(connection, ways):
    """A quarter of them is faster, for each way."""
    connection.sendall(b"\xff")
    connection.recv(1)
    connection.sendall(str(ways).encode())
    times = []
    for _ in ways:
        each = []
        for _ in range(50):
            begun = time.monotonic()
            connection.sendall(b"m" * 1000)
            check(connection.recv(1) == b"x", "a message is answered")
            each.append(time.monotonic() - begun)
        times.append(sorted(each)[12])
    return times


def changing_ways(net):
    """What is awaited otherwise than by a large read comes about as soon, though the connection has a
    queue from before: frames lie 10 ms on one that nobody watches."""
    server = net.wrapped("python3", "-c", CHANGING, STACK4, 7104)
    harness.eventually(lambda: b"ready" in server.out(), "the server is ready")
    block = bytes(1 << 18)
    connections = [socket.create_connection((STACK4, 7104)) for _ in range(3)]
    stopping = threading.Event()

    def send(connection):
        while not stopping.is_set():
            connection.sendall(block)

    threads = [threading.Thread(target=send, args=(each,), daemon=True) for each in connections]
    for thread in threads:
        thread.start()
    if not net.native:
        harness.eventually(lambda: queues() >= 4, "each has a queue")
    stopping.set()
    for thread in threads:
        thread.join(60)
    for last, connection in enumerate(connections):
        connection.settimeout(20)
        ways = [0, 1, 2, 3, 4 + last]
        times = round_trips(connection, ways)
        print("us: %s" % [round(each * 1e6) for each in times])
        for way, each in zip(ways, times):
            check(each < max(20 * times[0], 0.005), "way %d of waiting: %d us; a large read: %d us" % (
                way, each * 1e6, times[0] * 1e6))
        connection.close()
    server.stop()


def all_closed(net):
    return net.native or queues() == 1


def all_arrives(net, port, server, meanwhile=lambda: None):
    harness.eventually(lambda: b"ready" in server.out(), "the server is ready")
    senders = [Sender(port, seed) for seed in (3, 5, 7, 11)][:STREAMS]
    until_queues_are_open(net, senders)
    meanwhile()
    for sender in senders:
        sender.stopping = True
    for sender in senders:
        sender.join(60)
        check(sender.answer == b"%d %d" % (sender.count, sender.crc),
              "sent %d bytes, crc %d; the other end says %s (%s)" % (
                  sender.count, sender.crc, sender.answer, sender.error))
    harness.eventually(lambda: all_closed(net), "no queue is left open")


def several_in_one_thread(net):
    """Who waits for several streams gets a queue for each, is told of none that has nothing, and gives
    them back when its instance is waited for in another."""
    for number, way in enumerate(("select", "poll", "again", "epoll")):
        server = net.wrapped("python3", "-c", SEVERAL, STACK4, 7110 + number, way)

        def nest(process=server):
            os.kill(process.pid, signal.SIGUSR1)
            harness.eventually(lambda: all_closed(net), "no queue is left when the instance is nested")

        all_arrives(net, 7110 + number, server, nest if way == "epoll" else lambda: None)
        harness.eventually(lambda process=server: process.out().count(b"lies") == STREAMS, "all have ended")
        check(b"lies 0" in server.out().splitlines()[-1], "%s: ready, and nothing there: %s" % (way, server.out()))
        server.stop()


def test(net):
    server = net.wrapped("python3", "-c", RECEIVERS, STACK4, 7101)
    all_arrives(net, 7101, server)
    server.stop()
    several_in_one_thread(net)
    changing_ways(net)
    if not net.native:
        killed(net, RECEIVERS)
        killed(net, SEVERAL)


def killed(net, program):
    parent = net.wrapped("python3", "-c", PARENT, STACK4, program)
    harness.eventually(lambda: b"ready" in parent.out(), "the child is ready")
    child = int(parent.out().split(b"child ")[1].split()[0])
    senders = [Sender(7103, seed) for seed in (3, 5, 7)]
    until_queues_are_open(net, senders)
    os.kill(child, signal.SIGKILL)
    for sender in senders:
        sender.join(60)
        check(sender.error is not None, "a connection of the killed process ended with an error")
    harness.eventually(lambda: all_closed(net), "no queue of the killed process is left open")
    for _ in range(20):
        with socket.create_connection((STACK4, 7102), timeout=10) as connection:
            connection.sendall(b"still here")
            check(connection.recv(100) == b"still here", "the parent answers")
    parent.stop()


if __name__ == "__main__":
    harness.run(test, multi_queue=True)
