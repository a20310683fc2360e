#!/usr/bin/python3
"""Go programs make their system calls without libc: with USERSTACK_REWRITE=on an HTTP server and
client are on the stack, as a fixed, a position-independent and a static program; children leave the
sockets alone. (go_debian.py: programs of Debian's.)"""
import hashlib
import os
import subprocess

import harness
from harness import BUILD, HERE, KERNEL4, STACK4, WORK, check, equal

ON = {"USERSTACK_REWRITE": "on"}


def build(name, mode, **more):
    source = os.path.join(HERE, "programs", "web.go")
    binary = os.path.join(BUILD, name)
    os.makedirs(BUILD, exist_ok=True)
    if not os.path.exists(binary) or os.path.getmtime(binary) < os.path.getmtime(source):
        environment = {**os.environ, "GOCACHE": os.path.join(BUILD, "go-cache"), "GO111MODULE": "off",
                       "GOFLAGS": "", "HOME": WORK, **more}
        subprocess.run(["go", "build", "-buildmode=" + mode, "-o", binary + ".new", source], check=True,
                       env=environment)
        os.rename(binary + ".new", binary)
    return binary


def large():
    digest = hashlib.sha256()
    for i in range(256):
        digest.update(bytes([i]) + bytes((1 << 16) - 1))
    return digest.hexdigest()


def talk(net, web, port, run=()):
    there = "http://%s:%d" % (STACK4, port)
    server = net.wrapped(*run, web, "serve", "%s:%d" % (STACK4, port), environment=ON)
    harness.wait_port(port, STACK4, server)
    program = net.kernel("curl", "-sS", "-d", "@/etc/passwd", there + "/post").expect(0)
    equal(program.out(), b"POST /post %d" % len(open("/etc/passwd").read().replace("\n", "")), "POST")
    net.kernel("curl", "-sS", "-o", WORK + "/large", there + "/large").expect(0)
    equal(harness.sha256_file(WORK + "/large"), large(), "sixteen mebibytes from the server")
    here = net.kernel(web, "serve", "%s:%d" % (KERNEL4, port))
    harness.wait_port(port, KERNEL4, here)
    program = net.wrapped(*run, web, "fetch", "http://%s:%d/large" % (KERNEL4, port), 20, environment=ON,
                          traced=True).expect(0)
    equal(program.out().decode(), "20 200 %s\n" % large(), "twenty downloads at a time")
    net.quiet(program)
    program = net.wrapped(*run, web, "children", "%s:%d" % (KERNEL4, port), environment=ON, traced=True).expect(0)
    equal(program.out(), b"true <nil>\n", "the connection after children")
    net.no_kernel_sockets()
    net.owns_no_socket(server)
    net.quiet(server)
    check(server.alive(), "the server died")


def test(net):
    harness.need("go", "curl")
    if net.native:
        harness.skip("there is nothing to rewrite without the library")
    talk(net, build("web", "exe"), 8081)
    talk(net, build("web-pie", "pie"), 8082)
    run = (os.path.join(os.path.dirname(net.library), "userstack"), "run", "--")
    static = build("web-static", "exe", CGO_ENABLED="0")
    talk(net, static, 8083, run)
    subprocess.run(["strip", "-o", WORK + "/web-stripped", static], check=True)
    talk(net, WORK + "/web-stripped", 8084, run)


harness.run(test)
