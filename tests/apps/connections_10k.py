#!/usr/bin/python3
"""10,000 connections at once to an epoll server under the library; none is lost, every byte is right."""
import harness
from harness import STACK4, check, equal


def test(net):
    server_binary = harness.compile_program("echo_server")
    client_binary = harness.compile_program("load_client")
    harness.sysctl("ipv4/ip_local_port_range", "10000 65000")
    server = net.wrapped(server_binary, STACK4, "9000", "0")
    harness.wait_port(9000, STACK4, server)
    client = net.kernel(client_binary, STACK4, "9000", "10000", "3", "100").expect(0, 120)
    equal(client.out(), b"connections 10000 lost 0 wrong 0\n", "the client's count")
    # And again: everything that the first ten thousand took was given back.
    client = net.kernel(client_binary, STACK4, "9000", "10000", "1", "0").expect(0, 120)
    equal(client.out(), b"connections 10000 lost 0 wrong 0\n", "the second time")
    net.owns_no_socket(server)
    equal(server.stop(), 0, "the server's status")
    check(b"errors 0" in server.out(), "the server's count: %r" % server.out())
    check(b"taken 20001 " in server.out(), "the server's count: %r" % server.out())
    net.quiet(server)


harness.run(test)
