#!/usr/bin/python3
"""Debian's Go programs as they are, with USERSTACK_REWRITE=on: caddy as server and as client of another,
etcd as server, etcdctl as client."""
import os

import harness
from harness import KERNEL4, STACK4, WORK, check, equal

ON = {"USERSTACK_REWRITE": "on"}


def caddy(net):
    path, digest = harness.make_file("www/file", 8 << 20)
    root = os.path.dirname(path)
    server = net.wrapped("caddy", "file-server", "--listen", STACK4 + ":8090", "--root", root, environment=ON)
    harness.wait_port(8090, STACK4, server)
    equal(harness.fetch_hash(net, "http://%s:8090/file" % STACK4), digest, "caddy's file")
    net.owns_no_socket(server)
    behind = net.kernel("caddy", "file-server", "--listen", KERNEL4 + ":8091", "--root", root)
    harness.wait_port(8091, KERNEL4, behind)
    # No certificates of its own: as root it would have this machine trust them.
    with open(WORK + "/Caddyfile", "w", encoding="ascii") as file:
        file.write("{\n  admin off\n  auto_https off\n  skip_install_trust\n}\nhttp://%s:8092 {\n  reverse_proxy %s:8091\n}\n"
                   % (STACK4, KERNEL4))
    proxy = net.wrapped("caddy", "run", "--adapter", "caddyfile", "--config", WORK + "/Caddyfile", environment=ON)
    harness.wait_port(8092, STACK4, proxy)
    for _ in range(5):
        equal(harness.fetch_hash(net, "http://%s:8092/file" % STACK4), digest, "the file through caddy")
    net.owns_no_socket(proxy)
    net.quiet(server)
    net.quiet(proxy)


def start_etcd(start, address, name, **options):
    client, peer = "http://%s:2379" % address, "http://%s:2380" % address
    program = start("etcd", "--name", name, "--data-dir", WORK + "/" + name, "--listen-client-urls", client,
                    "--advertise-client-urls", client, "--listen-peer-urls", peer,
                    "--initial-advertise-peer-urls", peer, "--initial-cluster", "%s=%s" % (name, peer), **options)
    harness.wait_port(2379, address, program)
    return program


def exercise(start, address, **options):
    """A writer, a reader, a watcher."""
    def control(*words):
        return start("etcdctl", "--endpoints", "http://%s:2379" % address, *words, **options)
    for i in range(10):
        equal(control("put", "key%d" % i, "value%d" % i).expect(0).out(), b"OK\n", "put")
    equal(control("get", "--prefix", "key", "--keys-only", "--limit", "10").expect(0).out().split(),
          [b"key%d" % i for i in range(10)], "get")
    watcher = control("watch", "watched")

    def seen():
        control("put", "watched", "now").expect(0)
        return b"now" in watcher.out()
    harness.eventually(seen, "what was watched", 30)
    watcher.process.kill()
    check(b"is healthy" in (lambda p: p.out() + p.errors().encode())(control("endpoint", "health").expect(0)),
          "health")


def etcd(net):
    # etcd logs its start to stderr; only lines of the library's matter.
    server = start_etcd(net.wrapped, STACK4, "wrapped", environment=ON)
    exercise(net.kernel, STACK4)
    net.owns_no_socket(server)
    net.quiet(server)
    plain = start_etcd(net.kernel, KERNEL4, "plain")
    exercise(net.wrapped, KERNEL4, environment=ON, traced=True)
    net.no_kernel_sockets()
    check(server.alive() and plain.alive(), "a server died")


def test(net):
    harness.need("caddy", "etcd", "etcdctl", "curl")
    os.environ["ETCDCTL_API"] = "3"
    caddy(net)
    etcd(net)


harness.run(test)
