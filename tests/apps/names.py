#!/usr/bin/python3
"""Names are resolved on the stack, with rewriting and without: every function of libc's resolver, real
programs, answers over UDP and TCP, EDNS, search lists, servers that are silent; a name server that the
rules leave to the kernel is asked there; and USERSTACK_RESOLV_CONF stands in for /etc/resolv.conf."""
import os
import shutil
import signal
import subprocess

import harness
from harness import HERE, KERNEL4, KERNEL6, WORK, check, equal

WORKING = WORK + "/working.conf"
LOG = WORK + "/dns.log"

# What a Linux host with these addresses says; the test's native mode shows that it does.
RESOLVED = """res_init: 0
res_ninit: 0
res_query: 1 records, truncated 0
res_query long: 16 records, truncated 0
res_query none: none, h_errno 1
res_search: 1 records, truncated 0
res_querydomain: 1 records, truncated 0
res_send: 1 records, truncated 0
res_nquery: 1 records, truncated 0
res_nsearch: 1 records, truncated 0
res_nquerydomain: 1 records, truncated 0
res_nsend: 1 records, truncated 0
gethostbyname: host.test 192.0.2.7
gethostbyname none: none, h_errno 1
gethostbyname2: host.test 2001:db8::7
gethostbyaddr: host.test 192.0.2.7
gethostbyname_r: four.test 10.77.0.1
gethostbyname2_r: host.test 192.0.2.7
gethostbyaddr_r: host.test 192.0.2.7
getnameinfo: 0 host.test
getaddrinfo host.test: 192.0.2.7 2001:db8::7 (2) 
getaddrinfo web.test: fd77::1 10.77.0.1 (2) 
getaddrinfo alias.test: 10.77.0.1 (1) four.test
getaddrinfo many.test: 198.51.100.1 198.51.100.2 198.51.100.3 (100) 
getaddrinfo no.test: Name or service not known (0) 
getaddrinfo 127.0.0.1: 127.0.0.1 (1) 
"""


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def questions():
    with open(LOG, encoding="ascii") as file:
        return file.read().splitlines()


class Names:
    def __init__(self, net, environment):
        self.net = net
        self.environment = {"USERSTACK_RESOLV_CONF": WORKING, **environment}

    def run(self, *argv, status=0, more=None):
        program = self.net.wrapped(*argv, environment={**self.environment, **(more or {})}, traced=True)
        program.expect(status)
        self.net.quiet(program)
        return program.out().decode()

    def functions(self):
        """All of libc's, one program."""
        before = len(questions())
        binary = harness.compile_program("resolve", "-lresolv")
        got = self.run(binary)
        equal(got, RESOLVED, "what libc's functions say")
        asked = questions()[before:]
        check("tcp 16 long.test" in asked, "the long answer came over TCP: %s" % asked)
        check("udp 1 short.search.test" in asked, "the search list: %s" % asked)
        if self.net.native:
            return  # without the environment
        before = len(questions())
        got = self.run("getent", "ahosts", "host.test", more={"RES_OPTIONS": "edns0"})
        check("192.0.2.7" in got and "2001:db8::7" in got, got)
        check("udp 1 host.test edns" in questions()[before:], "EDNS: %s" % questions()[before:])

    def programs(self):
        equal(self.run("getent", "hosts", "host.test").split(), ["2001:db8::7", "host.test"], "getent hosts")
        equal(self.run("getent", "hosts", "192.0.2.7").split(), ["192.0.2.7", "host.test"], "by address")
        self.run("getent", "ahosts", "no.test", status=2)
        got = self.run("/usr/bin/python3", "-c", """
import socket, threading
print(sorted({a[4][0] for a in socket.getaddrinfo('host.test', 80)}))
print(socket.gethostbyname_ex('alias.test'), socket.getfqdn('192.0.2.7'))
ends = []
def look(): ends.append(socket.gethostbyname('four.test'))
threads = [threading.Thread(target=look) for _ in range(20)]
for t in threads: t.start()
for t in threads: t.join()
print(set(ends), len(ends))
""")
        equal(got.splitlines(), ["['192.0.2.7', '2001:db8::7']",
                                 "('four.test', ['alias.test'], ['10.77.0.1']) host.test",
                                 "{'10.77.0.1'} 20"], "python3")
        for name in ("web.test", "four.test", "alias.test"):
            equal(self.run("curl", "-sS", "http://%s:8090/file" % name), "contents\n", "curl " + name)
        if shutil.which("node"):
            got = self.run("node", "-e", """
const dns = require('dns');
dns.lookup('web.test', {all: true}, (e, a) => { console.log(e || a.map(x => x.address).sort().join());
dns.resolve4('host.test', (e, a) => { console.log(e || a.join());
dns.resolve('no.test', e => { console.log(e.code);
require('http').get('http://web.test:8090/file', r => r.on('data', d => process.stdout.write(d))); }); }); });""")
            equal(got, "10.77.0.1,fd77::1\n192.0.2.7\nENOTFOUND\ncontents\n", "node")
        if shutil.which("ssh"):
            server = self.net.kernel("nc", "-l", "7100")
            harness.eventually(lambda: ":7100" in subprocess.run(["ss", "-ltn"], capture_output=True,
                                                                 text=True).stdout, "nc")
            program = self.net.wrapped("ssh", "-F", "none", "-o", "BatchMode=yes", "-p", "7100",
                                       "user@four.test", environment=self.environment, traced=True)
            harness.eventually(server.out, "ssh's greeting", 20)
            check(server.out().startswith(b"SSH-2.0"), "%r" % server.out())
            program.stop(signal.SIGKILL)
            server.stop(signal.SIGKILL)
        if shutil.which("java"):
            write(WORK + "/Look.java", "class Look { public static void main(String[] a) throws Exception {"
                  " System.out.println(java.net.InetAddress.getByName(\"four.test\").getHostAddress()); } }")
            equal(self.run("java", "-XX:-UsePerfData", WORK + "/Look.java"), "10.77.0.1\n", "java")

    def silence(self):
        """The first server does not answer, the second does; and none does."""
        write(WORK + "/silent.conf", "nameserver 10.77.0.9\nnameserver %s\noptions timeout:1 attempts:1\n" % KERNEL6)
        got = self.run("getent", "ahostsv4", "four.test",
                       more={"USERSTACK_RESOLV_CONF": WORK + "/silent.conf"})
        check("10.77.0.1" in got, got)
        # A handler may leave by a jump, as curl's does, and the thread goes on.
        got = self.run(harness.compile_program("resolve", "-lresolv"), "jump")
        equal(got, "jumped 5 times, 10.77.0.1\n", "after jumps out of the resolver")
        program = self.net.wrapped("curl", "-sS", "-m", "1", "http://silent.test/", environment=self.environment,
                                   traced=True)
        equal(program.wait(), 28, "curl's status when time is up")

    def edges(self):
        """Threads that are cancelled while they wait; SIGSYS with a handler of the program's, or blocked."""
        binary = harness.compile_program("resolver_edges")
        equal(self.run(binary, "cancel"), "cancelled 0\n" * 5, "cancelled threads")
        equal(self.run(binary, "trap"), "77 0\n" * 3 + "1 77\n", "a program with traps of its own")
        equal(self.run(binary, "blocked"), "0 1 1\n", "a program that blocks SIGSYS")
        if self.net.native or self.environment["USERSTACK_REWRITE"] == "on":
            return
        program = self.net.wrapped(binary, "none", environment=self.environment, traced=True).expect(0)
        equal(program.out(), b"1 Network is down\n1\n", "without Syscall User Dispatch")
        lines = [line for line in program.errors().splitlines() if "userstack:" in line]
        check(len(lines) == 1 and "no Syscall User Dispatch" in lines[0], "lines: %s" % lines)

    def local(self):
        """127.0.0.53 is the kernel's by the rules, and said so; nobody of the stack serves it."""
        if self.net.native or self.net.xdp:  # the program's kernel is another namespace's
            return
        server = self.net.kernel("/usr/bin/python3", HERE + "/programs/dns_server.py", WORK + "/local.log",
                                 "127.0.0.53")
        harness.eventually(lambda: ":53" in subprocess.run(["ss", "-lun", "src", "127.0.0.53"], text=True,
                                                           capture_output=True).stdout, "the local server")
        write(WORK + "/local.conf", "nameserver 127.0.0.53\n")
        program = self.net.wrapped("getent", "ahostsv4", "host.test", environment={
            **self.environment, "USERSTACK_RESOLV_CONF": WORK + "/local.conf", "USERSTACK_LOG": "info"})
        program.expect(0)
        check(b"192.0.2.7" in program.out(), "%r" % program.out())
        check("names a kernel destination" in program.errors(), program.errors())
        server.stop()

    def broken(self):
        """No stack can be had: no name is asked for on the kernel instead; what needs no server is told."""
        if self.net.native:
            return
        program = self.net.wrapped("getent", "ahostsv4", "host.test", traced=True, environment={
            **self.environment, "USERSTACK_DEV": "xdp:nowhere"})
        equal(program.wait(), 2, "status without a device")
        check("xdp:nowhere" in program.errors(), program.errors())
        program = self.net.wrapped("getent", "ahostsv4", "localhost", traced=True, environment={
            **self.environment, "USERSTACK_DEV": "xdp:nowhere"}).expect(0)
        check(program.out().startswith(b"127.0.0.1"), "%r" % program.out())

    def replaced(self):
        """The file that others read, and one that is not there."""
        if self.net.native:
            return
        got = self.run("/usr/bin/python3", "-c", "print(open('/etc/resolv.conf').read(), end='')")
        equal(got, open(WORKING).read(), "/etc/resolv.conf as python3 reads it")
        equal(self.run("cat", "/etc/resolv.conf", "/etc/nsswitch.conf"),
              open(WORKING).read() + open("/etc/nsswitch.conf").read(), "as cat does")
        program = self.net.wrapped("getent", "ahostsv4", "host.test", environment={
            **self.environment, "USERSTACK_RESOLV_CONF": WORK + "/nowhere"})
        equal(program.wait(), 2, "status without a file")
        lines = [line for line in program.errors().splitlines() if "userstack:" in line]
        equal(len(lines), 1, "lines: %s" % lines)
        check("USERSTACK_RESOLV_CONF=%s/nowhere: cannot be read" % WORK in lines[0], lines[0])


def signal_handlers(net):
    """Handlers run, and return, while a name is being asked for; children and threads are as ever after."""
    program = net.wrapped("/usr/bin/python3", "-c", """
import os, signal, socket, subprocess, threading
hits = []
signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for i in range(200): assert socket.gethostbyname('four.test') == '10.77.0.1'
signal.setitimer(signal.ITIMER_REAL, 0)
assert subprocess.run(['echo', 'child'], capture_output=True).stdout == b'child\\n'
t = threading.Thread(target=lambda: hits.append(2)); t.start(); t.join()
print(len(hits) > 5)""", environment={"USERSTACK_RESOLV_CONF": WORKING})
    equal(program.expect(0).out(), b"True\n", "handlers")


def test(net):
    harness.need("getent", "curl", "nc", "ss")
    write(WORKING, "nameserver %s\nsearch search.test\noptions timeout:1 attempts:2\n" % KERNEL4)
    write(WORK + "/poison.conf", "nameserver 10.77.0.66\noptions timeout:1 attempts:1\n")
    write(WORK + "/nsswitch.conf", "hosts: files dns\nnetworks: files\nservices: files\npasswd: files\n")
    os.makedirs(WORK + "/www")
    write(WORK + "/www/file", "contents\n")
    # The script has a mount namespace of its own.
    mine = WORKING if net.native else WORK + "/poison.conf"
    for source, target in ((mine, "/etc/resolv.conf"), (WORK + "/nsswitch.conf", "/etc/nsswitch.conf")):
        subprocess.run(["mount", "--bind", source, target], check=True)
    server = net.kernel("/usr/bin/python3", HERE + "/programs/dns_server.py", LOG, KERNEL4, KERNEL6)
    harness.wait_port(53, KERNEL4, server)
    web = net.kernel("/usr/bin/python3", "-m", "http.server", "8090", "--bind", "::", "-d", WORK + "/www")
    harness.wait_port(8090, KERNEL4, web)
    for environment in ({"USERSTACK_REWRITE": "off"}, {"USERSTACK_REWRITE": "on"}):
        names = Names(net, environment)
        names.functions()
        names.programs()
        names.silence()
        names.edges()
        names.local()
        names.broken()
        names.replaced()
        if net.native:
            break
    if not net.native:
        signal_handlers(net)
    check(server.alive(), "the name server died")


harness.run(test)
