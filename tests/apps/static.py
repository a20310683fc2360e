#!/usr/bin/python3
"""Static programs, loaded by `userstack run`: of glibc and musl, position-independent and stripped,
busybox as client and server, Go's; shells that start them and that they start; and programs that
cannot be run, each with one line."""
import os
import shutil
import subprocess
import time

import harness
from harness import KERNEL4, STACK4, WORK, check, equal

EXPECTED = b"""own file 1
break 1
threads 1 fetched 64 handled 1 wrong 0
fork 5
vfork 6
system 4
popen
recv -1 EINTR 1 handled 1
restarted 1
fetched 1
masks 0 handled 1
masks on it 0
alternate 1 flags 0
"""
VARIANTS = {
    "guest-glibc": ["gcc", "-static"],
    "guest-pie": ["gcc", "-static-pie"],
    "guest-stripped": ["gcc", "-static", "-s"],
    "guest-musl": ["musl-gcc", "-static"],
    "guest-musl-stripped": ["musl-gcc", "-static", "-s"],
    "guest-dynamic": ["gcc"],
}


def tool(net):
    return os.path.join(os.path.dirname(net.library), "userstack")


def run(net, *argv, **options):
    return net.wrapped(tool(net), "run", "--", *argv, **options)


def build(name, compiler):
    source = os.path.join(harness.HERE, "programs", "guest.c")
    binary = os.path.join(harness.BUILD, name)
    os.makedirs(harness.BUILD, exist_ok=True)
    if not os.path.exists(binary) or os.path.getmtime(binary) < os.path.getmtime(source):
        subprocess.run([*compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-pthread", "-o", binary + ".new",
                        source], check=True)
        os.rename(binary + ".new", binary)
    return binary


def guests(net):
    for name, compiler in VARIANTS.items():
        program = run(net, build(name, compiler), KERNEL4, 8000, traced=True)
        equal(program.wait(), -15, name + "'s end by SIGTERM; " + program.errors())
        equal(program.out(), EXPECTED, name)
        net.quiet(program)
    net.no_kernel_sockets()


def busybox(net, digest):
    for _ in range(2):  # the second from the cache
        program = run(net, "busybox", "wget", "-q", "-O", "-", "http://%s:8000/file" % KERNEL4,
                      traced=True).expect(0)
        equal(harness.sha256(program.out()), digest, "what busybox's wget got")
        net.quiet(program)
    server = run(net, "busybox", "httpd", "-f", "-p", STACK4 + ":8080", "-h", WORK + "/www")
    harness.wait_port(8080, STACK4, server)
    for _ in range(10):
        equal(harness.fetch_hash(net, "http://%s:8080/file" % STACK4), digest, "busybox's httpd")
    net.owns_no_socket(server)
    server.stop()
    # An end of its input would be an end of the sender.
    receiver = run(net, "busybox", "nc", "-l", "-p", "8081", stdin=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while True:  # the port must not be tried: the first connection is the one
        sender = net.kernel("sh", "-c", "busybox nc %s 8081 < www/file" % STACK4)
        if sender.wait() == 0:
            break
        check(time.monotonic() < deadline, "busybox nc does not listen: " + receiver.errors())
        time.sleep(0.05)
    receiver.expect(0)
    equal(harness.sha256(receiver.out()), digest, "what busybox's nc received")


def chains(net, digest):
    """From shell to shell; every link is asked who it is and fetches."""
    got = "wget -q -O - http://%s:8000/file | sha256sum" % KERNEL4
    link = "busybox readlink /proc/self/exe; busybox " + got
    inner = "bash -c '%s; curl -sS http://%s:8000/file | sha256sum'" % (link, KERNEL4)
    whole = "%s; busybox sh -c \"%s; %s\"" % (link, link, inner)
    expected = [os.path.realpath(shutil.which("busybox")), digest + "  -"] * 3 + [digest + "  -"]
    for start in (lambda: run(net, "dash", "-c", whole, traced=True),
                  lambda: net.wrapped("dash", "-c", whole, environment={"USERSTACK_REWRITE": "on"}, traced=True)):
        program = start().expect(0)
        equal(program.out().decode().splitlines(), expected, "a chain of shells")
        net.quiet(program)
    with open(WORK + "/script", "w", encoding="ascii") as file:
        file.write("#!/bin/busybox sh\nbusybox readlink /proc/$$/exe >&2\necho \"$0\" \"$@\"\n" + got + "\n")
    os.chmod(WORK + "/script", 0o755)
    for argv in (["./script", "a b", "c"], ["sh", "-c", "./script 'a b' c"]):
        program = run(net, *argv, traced=True).expect(0)
        equal(program.out().decode().splitlines(), ["./script a b c", digest + "  -"], "a script")
    net.no_kernel_sockets()
    # Sockets go with exec, there and back.
    server = net.kernel("busybox", "nc", "-l", "-p", "8002")
    time.sleep(0.2)
    program = run(net, "bash", "-c", "exec 3<>/dev/tcp/%s/8002; exec busybox sh -c "
                  "'echo one >&3; exec bash -c \"echo two >&3; exec busybox echo three >&3\"'" % KERNEL4).expect(0)
    server.expect(0)
    equal(server.out(), b"one\ntwo\nthree\n", "what came through a socket that was handed on: " + program.errors())


def said(program, status, words):
    equal(program.wait(), status, "status of %s (%s)" % (program.argv, program.errors()))
    lines = program.errors().splitlines()
    equal(len(lines), 1, "lines on stderr: %s" % lines)
    check(words in lines[0], "%r is not in %r" % (words, lines[0]))


def refusals(net):
    said(run(net, "no-such-program"), 127, "not found")
    said(run(net, "/etc/passwd"), 126, "Permission denied")
    whole = open(build("guest-glibc", VARIANTS["guest-glibc"]), "rb").read()

    def damaged(data):
        with open(WORK + "/damaged", "wb") as file:
            file.write(data)
        os.chmod(WORK + "/damaged", 0o755)
        return run(net, "./damaged")

    said(damaged(whole[:5000]), 126, "cut off")
    said(damaged(whole[:40]), 126, "cut off")
    said(damaged(b"text\n"), 126, "neither a program nor a script")
    said(damaged(b"#!/no/such/interpreter\n"), 127, "/no/such/interpreter")
    said(damaged(whole[:18] + b"\xb7" + whole[19:]), 123, "another machine")
    dynamic = open("/bin/true", "rb").read().replace(b"/lib64/ld-linux-x86-64.so.2\0", b"/lib64/ld-linux-x86-64.no.2\0")
    said(damaged(dynamic), 127, "ld-linux-x86-64.no.2")
    os.makedirs(WORK + "/noexec")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", WORK + "/noexec"], check=True)
    shutil.copy(build("guest-glibc", VARIANTS["guest-glibc"]), WORK + "/noexec/guest")
    said(run(net, "./noexec/guest"), 126, "Permission denied")
    shutil.copy("/bin/busybox", WORK + "/setuid")
    os.chown(WORK + "/setuid", 1, 1)
    os.chmod(WORK + "/setuid", 0o4755)
    said(run(net, "./setuid", "true"), 123, "changes its user")
    # A wrapped program starts one that cannot be on the stack: one line, and it runs.
    program = net.wrapped("bash", "-c", "exec busybox true", environment={"USERSTACK_REWRITE": "off"}).expect(0)
    equal(program.errors().count("runs on the kernel"), 1, program.errors())


def test(net):
    harness.need("busybox", "musl-gcc", "gcc", "curl")
    if net.native:
        harness.skip("there is nothing to load without the library")
    _, digest = harness.make_file("www/file", 3 << 20)
    server = net.kernel("/usr/bin/python3", "-m", "http.server", "8000", "--bind", KERNEL4, cwd=WORK + "/www")
    harness.wait_port(8000, KERNEL4, server)
    guests(net)
    busybox(net, digest)
    chains(net, digest)
    refusals(net)


if __name__ == "__main__":
    harness.run(test)
