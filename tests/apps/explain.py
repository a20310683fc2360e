#!/usr/bin/python3
"""userstack explain: each socket of a live process, whose it is and why; one line for a process that is
not there, is somebody else's, has no stack, or dies meanwhile."""
import json
import os
import signal
import subprocess
import time

import harness
from harness import KERNEL4, STACK4, check, equal

PROGRAM = """
import os, select, signal, socket
silent = socket.socket(socket.AF_UNIX)
kernel = socket.create_server(('127.0.0.1', 7001))
listener = socket.create_server(('0.0.0.0', 7002))
listener6 = socket.create_server(('fd77::2', 7003), family=socket.AF_INET6)
out = socket.create_connection(('10.77.0.1', 7004))
accepted, _ = listener.accept()
free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tied = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); tied.connect(('10.77.0.1', 9))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
epoll = select.epoll(); epoll.register(listener)
local = socket.create_connection(('127.0.0.1', 7001))
print({name: value.fileno() for name, value in list(globals().items()) if hasattr(value, 'fileno')}, flush=True)
signal.pause()
"""


def explain(net, pid, *options):
    tool = os.path.join(os.path.dirname(net.library), "userstack")
    return net.kernel(tool, "explain", str(pid), *options)


def rows(net, program):
    found = json.loads(explain(net, program.pid, "--json").expect(0).out())
    equal(found["schema"], 1, "schema")
    return found, {row["fd"]: row for row in found["descriptors"]}


def whole(net):
    server = net.kernel("nc", "-lk", "7004")
    harness.wait_port(7004, KERNEL4)
    program = net.wrapped("/usr/bin/python3", "-c", PROGRAM)
    client = net.kernel("nc", "-d", STACK4, "7002")
    harness.eventually(program.out, "the program's sockets", 20)
    numbers = eval(program.out())  # our own program's
    found, by_number = rows(net, program)
    check(found["attached"] and net.stack_variables()["USERSTACK_DEV"] in found["summary"], "summary: %s" % found["summary"])

    def said(name, kind, state, owner, why, local="", peer=""):
        row = by_number[numbers[name]]
        equal((row["kind"], row["state"], row["owner"]), (kind, state, owner), name)
        check(why in row["why"], "%s: %r is not in %r" % (name, why, row["why"]))
        check(row["local"].startswith(local) and row["peer"].startswith(peer), "%s: %s" % (name, row))
    said("kernel", "tcp", "LISTEN", "kernel", "USERSTACK_KERNEL leaves 127.0.0.0/8", "127.0.0.1:7001")
    said("local", "tcp", "ESTAB", "kernel", "USERSTACK_KERNEL leaves 127.0.0.0/8", "127.0.0.1:", "127.0.0.1:7001")
    said("listener", "tcp", "LISTEN", "stack", "made while", "0.0.0.0:7002")
    said("listener6", "tcp", "LISTEN", "stack", "made while", "[fd77::2]:7003")
    said("out", "tcp", "ESTAB", "stack", "made while", STACK4, KERNEL4 + ":7004")
    said("accepted", "tcp", "ESTAB", "stack", "accepted", STACK4 + ":7002", KERNEL4)
    said("free", "udp", "UNCONN", "stack", "undecided")
    said("tied", "udp", "ESTAB", "stack", "made while", STACK4, KERNEL4 + ":9")
    said("raw", "raw", "UNCONN", "stack", "made while")
    said("epoll", "epoll", "", "stack", "watches")
    said("silent", "other", "", "kernel", "not an Internet socket")
    equal(len(by_number), len(numbers), "sockets, none of them the library's own: %s" % by_number)
    table = explain(net, program.pid).expect(0).out().decode()
    equal(len(table.splitlines()), 2 + len(numbers), "lines: %s" % table)

    # A process that is stopped, wherever it stands, can be looked at, and goes on.
    os.kill(program.pid, signal.SIGSTOP)
    equal(rows(net, program)[1], by_number, "the same of a stopped process")
    os.kill(program.pid, signal.SIGCONT)
    # A number that the program gave back, and another kind of thing took.
    check(client.alive() and server.alive() and program.alive(), "everybody lives")
    program.stop(signal.SIGKILL)


def refuses(net, pid, words):
    program = explain(net, pid)
    equal(program.wait(), 125, "status for " + words)
    equal(len(program.errors().splitlines()), 1, "lines: %s" % program.errors())
    check(words in program.errors(), "%r is not in %r" % (words, program.errors()))
    equal(program.out(), b"", "nothing on stdout")


def others(net):
    refuses(net, 4000000, "there is none")
    plain = net.kernel("nc", "-l", "7009")
    harness.eventually(lambda: len(rows(net, plain)[1]) == 1, "nc's socket")
    found, by_number = rows(net, plain)
    check("libuserstack.so is not loaded" in found["summary"], found["summary"])
    check(all(row["owner"] == "kernel" for row in by_number.values()), "%s" % by_number)
    check("not loaded" in list(by_number.values())[0]["why"], "%s" % by_number)
    idle = net.wrapped("sleep", "1000")
    harness.eventually(lambda: "no stack yet" in rows(net, idle)[0]["summary"], "sleep has no stack")
    dead = subprocess.Popen(["true"])
    harness.eventually(lambda: "Z" in open("/proc/%d/stat" % dead.pid).read().rsplit(")", 1)[1], "a zombie")
    refuses(net, dead.pid, "has ended")
    dead.wait()
    program = net.kernel("setpriv", "--reuid=65534", "--clear-groups", *explain_words(net, idle.pid))
    equal(program.wait(), 125, "status for somebody else's")
    check("belongs to user" in program.errors() and len(program.errors().splitlines()) == 1, program.errors())


def explain_words(net, pid):
    return [os.path.join(os.path.dirname(net.library), "userstack"), "explain", str(pid)]


def busy(net):
    """Processes that come, talk and die while they are looked at: an answer or one line, never more."""
    program = net.wrapped("/usr/bin/python3", "-c", """
import os, socket, time
l = socket.create_server(('0.0.0.0', 7020)); print('ready', flush=True)
while True:
    pid = os.fork()
    if pid == 0:
        for i in range(200):
            c = socket.create_connection(('10.77.0.2', 7020)); a, _ = l.accept(); c.send(b'x'); c.close(); a.close()
        os._exit(0)
    os.waitpid(pid, 0)
""")
    harness.eventually(program.out, "the program", 20)
    answers = failures = 0
    end = time.monotonic() + 5
    while time.monotonic() < end:
        for pid in harness.descendants(program.pid):
            one = subprocess.run(explain_words(net, pid), capture_output=True, text=True)
            check(one.returncode in (0, 125), "status %s of a look: %s" % (one.returncode, one.stderr))
            if one.returncode == 0:
                answers += 1
                check("kernel  not hooked" not in one.stdout, "a socket of the stack shown as the kernel's: " + one.stdout)
            else:
                failures += 1
                equal(len(one.stderr.splitlines()), 1, "lines: " + one.stderr)
    check(answers > 5, "only %d answers, %d failures" % (answers, failures))
    check(program.alive(), "the program died")


def test(net):
    if net.native:
        harness.skip("there is nothing to explain without the library")
    harness.need("nc", "setpriv")
    whole(net)
    others(net)
    busy(net)


harness.run(test)
