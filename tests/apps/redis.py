#!/usr/bin/python3
"""redis-server under the library with kernel clients, and redis-benchmark under the library."""
import re

import harness
from harness import KERNEL4, STACK4, check, equal


def benchmark(start, host, port, *options):
    program = start("redis-benchmark", "-h", host, "-p", port, "-q", "--csv", *options).expect(0, 90)
    rows = re.findall(r'^"([^"]+)","([0-9.]+)"', program.out().decode(), re.M)
    check(len(rows) >= 2, "redis-benchmark: %r" % program.out()[-500:])
    for name, rate in rows:
        check(float(rate) > 100, "%s: %s requests a second" % (name, rate))
        print("%s %s: %s/s" % (host, name, rate))
    return program


def client(start, host, port, *words):
    return start("redis-cli", "-h", host, "-p", port, *words).expect(0).out().decode().strip()


def test(net):
    harness.need("redis-server", "redis-benchmark", "redis-cli")
    options = ("--save", "", "--appendonly", "no", "--protected-mode", "no", "--daemonize", "no",
               "--dir", "/mnt", "--loglevel", "warning")
    server = net.wrapped("redis-server", "--port", "6379", "--bind", STACK4, *options)
    harness.wait_port(6379, STACK4, server)
    benchmark(net.kernel, STACK4, 6379, "-t", "ping,set,get,lpush,lpop,mset", "-n", "5000", "-c", "50")
    benchmark(net.kernel, STACK4, 6379, "-t", "set,get", "-n", "20000", "-c", "50", "-P", "16")
    benchmark(net.kernel, STACK4, 6379, "-t", "set,get", "-n", "2000", "-c", "20", "-d", "50000")
    value = "".join(chr(97 + i % 26) for i in range(100000))
    equal(client(net.kernel, STACK4, 6379, "set", "key", value), "OK", "set")
    equal(client(net.kernel, STACK4, 6379, "get", "key"), value, "get")
    equal(client(net.kernel, STACK4, 6379, "ping"), "PONG", "ping")
    net.owns_no_socket(server)
    # A saving child is a fork with the sockets open.
    equal(client(net.kernel, STACK4, 6379, "bgsave"), "Background saving started", "bgsave")
    harness.eventually(lambda: "rdb_bgsave_in_progress:0" in client(
        net.kernel, STACK4, 6379, "info", "persistence"), "the end of bgsave")
    equal(client(net.kernel, STACK4, 6379, "get", "key"), value, "get after bgsave")

    kernel = net.kernel("redis-server", "--port", "6380", "--bind", KERNEL4, *options)
    harness.wait_port(6380, KERNEL4, kernel)
    # Replication: the wrapped server is a client of the kernel's.
    equal(client(net.kernel, KERNEL4, 6380, "set", "origin", "kernel"), "OK", "set")
    equal(client(net.kernel, STACK4, 6379, "replicaof", KERNEL4, "6380"), "OK", "replicaof")
    harness.eventually(lambda: client(net.kernel, STACK4, 6379, "get", "origin") == "kernel", "replication")
    equal(client(net.kernel, STACK4, 6379, "replicaof", "no", "one"), "OK", "end of replication")
    equal(server.stop(), 0, "exit status")
    net.quiet(server)

    program = benchmark(net.wrapped, KERNEL4, 6380, "-t", "ping,set,get", "-n", "5000", "-c", "50")
    net.quiet(program)
    benchmark(net.wrapped, KERNEL4, 6380, "-t", "set,get", "-n", "20000", "-c", "50", "-P", "16")
    program = net.wrapped("redis-cli", "-h", KERNEL4, "-p", "6380", "get", "origin", traced=True).expect(0)
    equal(program.out(), b"kernel\n", "redis-cli under the library")
    server = net.wrapped("redis-server", "--port", "6381", "--bind", STACK4, *options, traced=True)
    harness.wait_port(6381, STACK4, server)


harness.run(test)
