#!/usr/bin/python3
"""A wrapped program that waits costs nothing, also just after it was busy: no CPU, no wake-ups."""
import os
import socket
import time

import harness
from harness import STACK4, check

SERVER = """
import select, socket, threading
listener = socket.create_server(("%s", 7001))
blocked = socket.create_server(("%s", 7002))
def read():
    connection, _ = blocked.accept()
    while data := connection.recv(100):
        connection.sendall(data)
threading.Thread(target=read, daemon=True).start()
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN)
print("ready", flush=True)
connections = {}
while True:
    for number, _ in epoll.poll():
        if number == listener.fileno():
            connection, _ = listener.accept()
            connections[connection.fileno()] = connection
            epoll.register(connection, select.EPOLLIN)
        else:
            connections[number].sendall(connections[number].recv(100))
""" % (STACK4, STACK4)

SECONDS = 3
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def spent(pid):
    """(CPU seconds, times that a thread was put on a core) of a process so far."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    switches = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, task), encoding="ascii") as file:
            switches += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND, switches


def ask(connections, times):
    for _ in range(times):
        for connection in connections:
            connection.sendall(b"x")
            check(connection.recv(1) == b"x", "an echo")


def test(net):
    server = net.wrapped("python3", "-c", SERVER)
    harness.eventually(lambda: b"ready" in server.out(), "the server is ready")
    connections = [socket.create_connection((STACK4, port)) for port in (7001, 7002)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ask(connections, 2000)  # waits are short now: its threads poll
    time.sleep(1)
    cpu, switches = spent(server.pid)
    time.sleep(SECONDS)
    cpu, switches = (now - then for now, then in zip(spent(server.pid), (cpu, switches)))
    print("in %d s: %.2f s of CPU, %d switches" % (SECONDS, cpu, switches))
    check(cpu <= 0.03, "an idle server spent %.2f s of CPU in %d s" % (cpu, SECONDS))
    # The pump looks at its process every two seconds, and the wire's kernel asks for neighbours.
    check(switches <= 60, "an idle server was woken %d times in %d s" % (switches, SECONDS))
    ask(connections, 10)
    server.stop()


harness.run(test)
