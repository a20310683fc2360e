#!/usr/bin/python3
"""Processes that wait in accept on one listener: a connection wakes one of them, and none is left
waiting when that one is killed or has a signal handled, or when the listener is shut down."""
import os
import signal
import socket
import threading
import time

import harness
from harness import STACK4, check

SERVER = """
import os, signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, lambda *_: None)
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=100)
for _ in range(8):
    if os.fork() != 0:
        continue
    while True:
        try:
            c, _ = listener.accept()
        except OSError:
            os._exit(0)
        switches = sum(int(line.split()[1]) for line in open("/proc/self/status") if "ctxt" in line)
        c.sendall(b"%d %d" % (os.getpid(), switches))
        c.close()
signal.signal(signal.SIGUSR1, lambda *_: listener.shutdown(socket.SHUT_RD))
print("ready", flush=True)
while True:
    signal.pause()
"""

PORT = 7301
CONNECTIONS = 200
CHILDREN = 8


def ask():
    with socket.create_connection((STACK4, PORT), timeout=20) as connection:
        pid, switches = connection.recv(100).split()
        check(connection.recv(100) == b"", "the end")
        return int(pid), int(switches)


def children(server):
    with open("/proc/%d/task/%d/children" % (server.pid, server.pid), encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


def switches_of(pids):
    total = 0
    for pid in pids:
        with open("/proc/%d/status" % pid, encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if "voluntary_ctxt" in line)
    return total


def test(net):
    server = net.wrapped("python3", "-c", SERVER, STACK4, str(PORT))
    harness.eventually(lambda: b"ready" in server.out(), "the server is ready")
    pids = children(server)
    check(len(pids) == CHILDREN, "eight accept: %s" % pids)

    before = switches_of(pids)
    answers = [ask()[0] for _ in range(CONNECTIONS)]
    each = (switches_of(pids) - before) / CONNECTIONS
    print("%.1f switches of the children a connection; %d of them answered" % (each, len(set(answers))))
    check(each < CHILDREN - 1, "%.1f switches a connection: more than one was woken" % each)

    # Some are killed or interrupted at any time; every connection is answered by somebody else.
    stopping = threading.Event()

    def disturb():
        for number, pid in enumerate(pids[2:] * 20):
            if stopping.is_set():
                return
            try:
                os.kill(pid, signal.SIGKILL if number % 17 == 16 else signal.SIGUSR2)
            except ProcessLookupError:
                pass
            time.sleep(0.002)

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    lost = 0
    for _ in range(CONNECTIONS):
        try:
            ask()
        except (ConnectionResetError, ValueError):
            lost += 1  # taken by one that was then killed
    stopping.set()
    thread.join()
    check(lost <= CHILDREN, "%d connections ended without an answer" % lost)

    os.kill(server.pid, signal.SIGUSR1)
    harness.eventually(lambda: children(server) == [], "each is told that the listener was shut down")
    server.stop()


harness.run(test)
