#!/usr/bin/python3
"""socat under the library: forking servers, clients, UDP, IPv6, relays through the stack."""
import os
import socket

import harness
from harness import KERNEL4, STACK4, STACK6, check, equal


def test(net):
    harness.need("socat")
    data = os.urandom(8 << 20)
    # A forking echo server: every connection is a child process and an exec.
    server = net.wrapped("socat", "TCP-LISTEN:7100,fork,reuseaddr,backlog=64", "EXEC:cat", traced=True)
    harness.wait_port(7100, STACK4, server)
    for _ in range(5):
        check(harness.exchange(STACK4, 7100, data) == data, "the forking server's echo")
    clients = [socket.create_connection((STACK4, 7100), 10) for _ in range(10)]
    for number, client in enumerate(clients):
        client.sendall(b"client %d" % number)
    for number, client in enumerate(clients):
        equal(client.recv(100), b"client %d" % number, "one of ten at once")
        client.close()
    net.quiet(server)
    server.stop()
    # IPv6 without fork: PIPE echoes within the process.
    server = net.wrapped("socat", "TCP6-LISTEN:7101,fork,reuseaddr", "PIPE")
    harness.wait_port(7101, STACK6, server)
    equal(harness.exchange(STACK6, 7101, data[:100000]), data[:100000], "echo over IPv6")
    # A relay: in over the stack, out over the stack.
    kernel = net.kernel("socat", "TCP-LISTEN:7102,bind=%s,fork,reuseaddr" % KERNEL4, "EXEC:cat")
    harness.wait_port(7102, KERNEL4, kernel)
    relay = net.wrapped("socat", "TCP-LISTEN:7103,fork,reuseaddr", "TCP:%s:7102" % KERNEL4)
    harness.wait_port(7103, STACK4, relay)
    check(harness.exchange(STACK4, 7103, data) == data, "through the relay")
    # A client.
    path = "/mnt/data"
    with open(path, "wb") as file:
        file.write(data)
    with open(path, "rb") as file:
        client = net.wrapped("socat", "-t", "10", "-", "TCP:%s:7102" % KERNEL4, stdin=file, traced=True)
        client.expect(0)
    check(client.out() == data, "the client's echo")
    # Datagrams, both ways.
    kernel = net.kernel("socat", "UDP-RECVFROM:7104,bind=%s,fork" % KERNEL4, "EXEC:cat")
    harness.eventually(lambda: ":1BC0 " in open("/proc/net/udp", encoding="ascii").read(), "kernel socat")
    with open("/mnt/line", "w", encoding="ascii") as file:
        file.write("a datagram")
    with open("/mnt/line", "rb") as file:
        client = net.wrapped("socat", "-t", "2", "-", "UDP:%s:7104" % KERNEL4, stdin=file).expect(0)
    equal(client.out(), b"a datagram", "the answer to a datagram")
    server = net.wrapped("socat", "UDP4-RECVFROM:7105,fork", "EXEC:cat")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0.5)

    def answered():
        sock.sendto(b"to the stack", (STACK4, 7105))
        try:
            return sock.recv(100) == b"to the stack"
        except (TimeoutError, ConnectionRefusedError):
            return False

    harness.eventually(answered, "an answer from the UDP server")
    check(server.alive(), "the UDP server died")
    equal(net.wrapped("socat", "-", "TCP:%s:7199" % KERNEL4).wait(), 1, "status when refused")


harness.run(test)
