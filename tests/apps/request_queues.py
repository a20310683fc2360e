#!/usr/bin/python3
"""Many processes with a connection each, on a TAP of several queues: those that wait for requests get
a queue each. Whatever its owner does then (works for long, is stopped, forks, execs, is killed) keeps
nobody else waiting, and no queue is left open."""
import os
import signal
import socket
import time

import harness
from harness import STACK4, check
from queues import queues

# A process a connection. It waits by epoll, with a descriptor of the kernel's in the set as well.
SERVER = """
import os, select, signal, socket, sys, time
SERVE = '''
import os, select, signal, socket, sys, time
def serve(c):
    wait = select.epoll()
    wait.register(c, select.EPOLLIN)
    wait.register(os.pipe()[0], select.EPOLLIN)
    while True:
        wait.poll()
        message = c.recv(1000)
        if not message:
            os._exit(0)
        word = message.split()[0]
        c.sendall(b"%d" % os.getpid())
        if word == b"work":
            time.sleep(float(message.split()[1]))
        elif word == b"fork":
            if os.fork() != 0:
                os._exit(0)
        elif word == b"exec":
            os.set_inheritable(c.fileno(), True)
            os.execv(sys.executable, [sys.executable, "-c", sys.argv[3] + "serve(socket.socket(fileno=%d))"
                                      % c.fileno(), "", "", sys.argv[3]])
        elif word == b"poll":
            other = select.poll()
            other.register(c, select.POLLIN)
            for _ in range(20):
                other.poll()
                c.recv(1000)
                c.sendall(b"x")
        elif word == b"both":
            mine, theirs = socket.socketpair()
            listener = socket.create_server((c.getsockname()[0], 0))
            wait.register(listener, select.EPOLLIN)
'''
exec(SERVE)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sys.argv[3:] = [SERVE]
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=100)
print("ready", flush=True)
while True:
    c, _ = listener.accept()
    if os.fork() == 0:
        listener.close()
        serve(c)
    c.close()
"""

PORT = 7201
CLIENTS = 6
CONNECTS = 20


def connect():
    connection = socket.create_connection((STACK4, PORT), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection, message=b"ping"):
    connection.sendall(message)
    return connection.recv(100)


def ask_all(connections, message=b"ping"):
    """One request each at a time, answered by each one's process."""
    for connection in connections:
        connection.sendall(message)
    answers = [connection.recv(100) for connection in connections]
    check(all(answers), "each is answered: %s" % answers)
    return [int(answer) for answer in answers]


def until_each_has_a_queue(net, connections):
    """Frames of several at once are what makes them get in each other's way."""
    if net.native:
        return ask_all(connections)

    def have():
        for _ in range(100):
            ask_all(connections)
        return queues() >= len(connections)

    # The last one is alone on the first queue.
    harness.eventually(have, "each process but one has a queue")
    return ask_all(connections)


def quickest_half(action):
    times = []
    for _ in range(CONNECTS):
        begun = time.monotonic()
        action()
        times.append(time.monotonic() - begun)
    return sorted(times)[CONNECTS // 2]


def test_connects(connections, alone, what):
    """A first frame comes by any queue."""
    took = quickest_half(lambda: connect().close())
    print("%s: us to connect: %d, before: %d" % (what, took * 1e6, alone * 1e6))
    check(took < max(20 * alone, 0.006), "%s: a connection takes %d us, before %d" % (
        what, took * 1e6, alone * 1e6))


def test(net):
    server = net.wrapped("python3", "-c", SERVER, STACK4, str(PORT))
    harness.eventually(lambda: b"ready" in server.out(), "the server is ready")
    alone = quickest_half(lambda: connect().close())
    connections = [connect() for _ in range(CLIENTS)]
    pids = until_each_has_a_queue(net, connections)
    check(len(set(pids)) == CLIENTS, "a process each: %s" % pids)

    ask_all(connections, b"work 1")
    test_connects(connections, alone, "owners that work")
    ask_all(connections)

    pids = until_each_has_a_queue(net, connections)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    test_connects(connections, alone, "owners that are stopped")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    check(ask_all(connections) == pids, "they go on")

    # Another way to wait, and another socket to wait for, with a queue from before.
    until_each_has_a_queue(net, connections)
    ask(connections[0], b"poll")
    ask(connections[1], b"both")
    for each in connections[:2]:
        took = quickest_half(lambda: ask(each))
        check(took < max(20 * alone, 0.006), "an answer takes %d us" % (took * 1e6))

    for word in (b"fork", b"exec"):
        before = until_each_has_a_queue(net, connections)
        ask_all(connections, word)
        after = ask_all(connections)
        check((before == after) == (word == b"exec"), "%s: %s, then %s" % (word, before, after))

    pids = until_each_has_a_queue(net, connections)
    for pid in pids[:CLIENTS // 2]:
        os.kill(pid, signal.SIGKILL)
    for each in connections[:CLIENTS // 2]:
        try:
            check(each.recv(100) == b"", "the end of a killed process's connection")
        except ConnectionResetError:
            pass
        each.close()
    check(ask_all(connections[CLIENTS // 2:]) == pids[CLIENTS // 2:], "the others go on")
    again = [connect() for _ in range(CLIENTS // 2)] + connections[CLIENTS // 2:]
    until_each_has_a_queue(net, again)
    for each in again:
        each.close()
    harness.eventually(lambda: net.native or queues() == 1, "no queue is left open")
    server.stop()


if __name__ == "__main__":
    harness.run(test, multi_queue=True)
