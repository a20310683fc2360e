#!/usr/bin/python3
"""With USERSTACK_REWRITE=on: names are resolved on the stack by libc itself, nothing that must not be
touched is, every address-space layout works, and what cannot be done is one line."""
import os
import shutil
import subprocess
import time

import harness
from dig import dnsmasq
from harness import KERNEL4, WORK, check, equal

ON = {"USERSTACK_REWRITE": "on"}
CACHE = WORK + "/.cache/userstack"


def names(net):
    server = dnsmasq(net.kernel, KERNEL4)
    harness.wait_port(53, KERNEL4, server)
    with open(WORK + "/resolv.conf", "w", encoding="ascii") as file:
        file.write("nameserver %s\noptions timeout:2 attempts:2\n" % KERNEL4)
    # The script has a mount namespace of its own.
    subprocess.run(["mount", "--bind", WORK + "/resolv.conf", "/etc/resolv.conf"], check=True)
    program = net.wrapped("getent", "ahostsv4", "host.test", environment=ON, traced=True).expect(0)
    check(b"192.0.2.7" in program.out(), "getent: %r" % program.out())
    net.quiet(program)
    program = net.wrapped("/usr/bin/python3", "-c", "import socket\n"
                          "print({a[4][0] for a in socket.getaddrinfo('host.test', 80)})\n"
                          "print(socket.gethostbyname('many7.test'))\n"
                          "print(socket.gethostbyname_ex('many8.test')[2])",
                          environment=ON, traced=True).expect(0)
    check(b"192.0.2.7" in program.out() and b"2001:db8::7" in program.out(), "%r" % program.out())
    equal(program.out().splitlines()[1:], [b"10.9.8.7", b"['10.9.8.8']"], "gethostbyname")
    program = net.wrapped("/usr/bin/python3", "-c", "import socket\nsocket.getaddrinfo('no.such.name', 1)",
                          environment=ON, traced=True)
    equal(program.wait(), 1, "status for a name that is not there")
    net.no_kernel_sockets()


def signatures(net):
    """A false `syscall` lies in the data between libcrypto's instructions; to touch it breaks ECDSA."""
    program = net.wrapped("node", "-e", """
        const c = require('crypto');
        const k = c.generateKeyPairSync('ec', {namedCurve: 'P-256'});
        let bad = 0;
        for (let i = 0; i < 3000; ++i) {
          const text = Buffer.from('text ' + i);
          if (!c.verify('sha256', text, k.publicKey, c.sign('sha256', text, k.privateKey))) ++bad;
        }
        console.log(bad);""", environment=ON).expect(0)
    equal(program.out(), b"0\n", "signatures that do not verify")


def layouts(net):
    """A thousand address spaces, each drawn anew: as many sites are rewritten, and the program runs."""
    program = net.wrapped("/usr/bin/python3", "-c", """
import os, subprocess, sys
e = dict(os.environ, USERSTACK_LOG='info')
seen = set()
for i in range(1000):
    r = subprocess.run(['/bin/echo', str(i)], env=e, capture_output=True, text=True)
    if r.returncode != 0 or r.stdout != '%d\\n' % i: sys.exit('run %d: %r' % (i, r))
    seen.add(r.stderr)
print(seen)""", environment=ON).expect(0)
    check(program.out().count(b"rewrote") == 1 and b"rewrote 0" not in program.out(),
          "different outcomes: %r" % program.out())


def cache_file():
    files = [os.path.join(CACHE, name) for name in os.listdir(CACHE)]
    return max(files, key=os.path.getsize)


def complains(net, words, argv=("getent", "ahostsv4", "host.test"), environment=None):
    """The program works, and one line says what is missing."""
    program = net.wrapped(*argv, environment={**ON, **(environment or {})}).expect(0)
    lines = [line for line in program.errors().splitlines() if "userstack:" in line]
    equal(len(lines), 1, "lines on stderr: %s" % lines)
    check(words in lines[0], "%r is not in %r" % (words, lines[0]))


def ladder(net):
    os.truncate(cache_file(), 100)
    complains(net, "damaged")
    net.quiet(net.wrapped("true", environment=ON).expect(0))  # it was written anew
    os.chown(cache_file(), 65534, 65534)
    complains(net, "somebody else")
    os.chown(cache_file(), 0, 0)
    os.chmod(CACHE, 0o777)
    complains(net, "somebody else")
    shutil.rmtree(CACHE)
    net.quiet(net.wrapped("true", environment={**ON, "HOME": "/proc/nowhere"}).expect(0))
    alone = WORK + "/alone"
    os.mkdir(alone)
    shutil.copy(net.library, alone)
    complains(net, "libuserstack-decode.so", argv=("true",),
              environment={"LD_PRELOAD": alone + "/libuserstack.so"})
    # No /proc: code cannot be written, and the program is as it was.
    subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec env "
                    + " ".join("%s=%s" % item for item in {**net.stack_variables(ON), "HOME": WORK}.items())
                    + " true 2>%s/no-proc" % WORK], check=True)
    with open(WORK + "/no-proc", encoding="utf-8") as file:
        lines = file.read().splitlines()
    equal(len(lines), 1, "lines without /proc: %s" % lines)
    check("/proc/self/mem" in lines[0], lines[0])
    program = net.wrapped("true", environment={"USERSTACK_REWRITE": "maybe"}).expect(0)
    check("USERSTACK_REWRITE=maybe: not valid; accepted is on or off" in program.errors(), program.errors())


def spawning(net):
    """Children that borrow memory (posix_spawn, popen, system) leave their parent's sockets alone."""
    program = net.wrapped("/usr/bin/python3", "-c", """
import os, socket, subprocess
l = socket.socket(); l.bind(('0.0.0.0', 0)); l.listen()
c = socket.create_connection(('10.77.0.2', l.getsockname()[1])); a, _ = l.accept()
for i in range(20):
    actions = [(os.POSIX_SPAWN_CLOSE, c.fileno()), (os.POSIX_SPAWN_DUP2, 1, a.fileno())]
    os.waitpid(os.posix_spawn('/bin/true', ['true'], os.environ, file_actions=actions), 0)
    os.system('exec 9>&-'); os.popen('true').read(); subprocess.run(['true'])
    c.sendall(b'%d' % i)
    assert a.recv(10) == b'%d' % i
print('alive')""", environment=ON).expect(0)
    equal(program.out(), b"alive\n", "sockets after children")


def plugins(net):
    """Objects that dlopen brings are rewritten before their constructors run, though threads run."""
    host = harness.compile_program("plugin_host")
    plugin = harness.compile_program("plugin", "-shared", "-fPIC")
    server = net.kernel("/usr/bin/python3", "-m", "http.server", "8090", "--bind", KERNEL4)
    harness.wait_port(8090, KERNEL4, server)
    for _ in range(2):
        program = net.wrapped(host, plugin, KERNEL4, 8090, environment=ON, traced=True).expect(0)
        equal(program.out(), b"HTTP/1.0\n" * 2, "what the plugin fetched")
        net.quiet(program)
        # The decoder is needed again, for the plugin alone, in the middle of dlopen.
        for name in os.listdir(CACHE):
            path = os.path.join(CACHE, name)
            if path != cache_file():
                os.unlink(path)
    net.no_kernel_sockets()


def inside_libc(net):
    """Streams, dprintf, getifaddrs, signal and popen: nothing of them is the kernel's."""
    program = harness.compile_program("inside_libc")
    server = net.kernel("/usr/bin/python3", "-m", "http.server", "8093", "--bind", KERNEL4)
    harness.wait_port(8093, KERNEL4, server)
    run = net.wrapped(program, KERNEL4, 8093, environment=ON, traced=True).expect(0)
    equal(sorted(run.out().decode().splitlines()),
          ["address 10.77.0.2", "address 127.0.0.1", "dprintf HTTP/1.0", "signal 1, child",
           "stream HTTP/1.0"], "what libc did")
    net.quiet(run)
    net.no_kernel_sockets()


FETCHERS = ("first", "thread", "fork", "clone", "handler", "blocked", "after", "storm")


def watched(net):
    """What nothing can verify beforehand is caught by SIGSYS, in every thread and child."""
    made_code = harness.compile_program("made_code", "-pthread")
    bare = harness.compile_program("no_tables", "-shared", "-fPIC", "-nostdlib",
                                   "-fno-asynchronous-unwind-tables", "-Wl,--no-ld-generated-unwind-info")
    host = harness.compile_program("no_tables_host", bare, "-Wl,-rpath," + os.path.dirname(bare))
    early = harness.compile_program("early_thread", "-shared", "-fPIC")
    server = net.kernel("/usr/bin/python3", "-m", "http.server", "8091", "--bind", KERNEL4)
    harness.wait_port(8091, KERNEL4, server)
    fetched = "".join("%s HTTP/1.0\n" % name for name in FETCHERS)
    with_thread = {**ON, "LD_PRELOAD": net.library + ":" + early}
    for command, environment, output in (((made_code,), ON, fetched),
                                         ((made_code,), with_thread, fetched),
                                         ((host,), ON, "HTTP/1.0 rewritten\n")):
        run = net.wrapped(*command, KERNEL4, 8091, environment=environment, traced=True).expect(0)
        equal(run.out().decode(), output, "what was fetched")
        net.quiet(run)
    # A process that borrows memory, and shells, under a watch that covers all of libc.
    run = net.wrapped("/usr/bin/python3", "-c", "import os, subprocess\n"
                      "assert os.popen('echo 1').read() == '1\\n' and os.system('exit 3') >> 8 == 3\n"
                      "print(subprocess.run(['/bin/echo', '2'], capture_output=True).stdout)",
                      environment=with_thread).expect(0)
    equal(run.out(), b"b'2\\n'\n", "children")
    net.no_kernel_sockets()
    return host


def java(net):
    """A virtual machine that makes code all the time, as a server and a client."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs", "Fetch.java")
    run = net.wrapped("java", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", source, harness.STACK4, 8092,
                      environment=ON, traced=True).expect(0)
    equal(run.out(), b"500\n", "bytes fetched")
    net.no_kernel_sockets()


MDWE = "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0"
# prctl(PR_SET_SYSCALL_USER_DISPATCH) answers EINVAL, as in older kernels.
NO_DISPATCH = """
filter = b''.join(struct.pack('HBBI', *i) for i in (
    (0x20, 0, 0, 0), (0x15, 0, 3, 157), (0x20, 0, 0, 16), (0x15, 0, 1, 59),
    (0x06, 0, 0, 0x00050016), (0x06, 0, 0, 0x7fff0000)))
text = ctypes.create_string_buffer(filter)
class Program(ctypes.Structure):
    _fields_ = [('count', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
program = Program(6, ctypes.addressof(text))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0"""


def under_policy(net, policy, argv, environment):
    """Lines of the library when argv runs under what `policy` sets up; and its status."""
    script = "import ctypes, os, struct, sys\n%s\nos.execve(sys.argv[1], sys.argv[1:], %r)" % (
        policy, {**net.stack_variables({**ON, **environment})})
    run = subprocess.run(["/usr/bin/python3", "-c", script, *argv], capture_output=True, text=True,
                         check=False, timeout=60)
    return [line for line in run.stderr.splitlines() if "userstack:" in line], run.returncode


def policies(net, host):
    """Neither a refusal of memory that becomes executable nor an old kernel ends a program."""
    lines, status = under_policy(net, MDWE, ["/bin/true"], {"USERSTACK_LOG": "info"})
    equal(status, 0, "status under PR_SET_MDWE")
    equal(len(lines), 1, "lines under PR_SET_MDWE: %s" % lines)
    check("rewrote" in lines[0] and "rewrote 0" not in lines[0], lines[0])
    lines, status = under_policy(net, NO_DISPATCH, [host], {})
    equal(status, 2, "status of a program that is called without arguments")
    equal(len(lines), 1, "lines without dispatch: %s" % lines)
    check("no Syscall User Dispatch" in lines[0] and "symbols only" in lines[0], lines[0])


def tracers(net):
    """A debugger sees through a call that sleeps in the kernel; strace comes and goes."""
    program = net.wrapped("/usr/bin/python3", "-c", "import os, sys, time\nprint('up', flush=True)\n"
                          "print(os.read(0, 9))", environment=ON, stdin=subprocess.PIPE)
    while b"up" not in program.out():
        time.sleep(0.01)
    seen = subprocess.run(["gdb", "-nx", "-batch", "-p", str(program.pid), "-ex", "bt"], check=True,
                          capture_output=True, text=True, timeout=100).stdout
    check("main" in seen and "read" in seen, "gdb's stack: %s" % seen)
    tracer = subprocess.Popen(["strace", "-qq", "-o", WORK + "/attached", "-p", str(program.pid)])
    while not os.path.exists(WORK + "/attached") or os.path.getsize(WORK + "/attached") == 0:
        time.sleep(0.01)
        check(tracer.poll() is None, "strace has ended")
    tracer.terminate()
    tracer.wait()
    program.process.stdin.write(b"go on")
    program.process.stdin.close()
    program.expect(0)
    equal(program.out(), b"up\nb'go on'\n", "after tracers")


def test(net):
    harness.need("dig", "dnsmasq", "node", "getent", "java", "gdb", "strace")
    if net.native:
        harness.skip("there is nothing to rewrite without the library")
    names(net)
    signatures(net)
    spawning(net)
    plugins(net)
    inside_libc(net)
    host = watched(net)
    policies(net, host)
    tracers(net)
    java(net)
    layouts(net)
    ladder(net)


if __name__ == "__main__":
    harness.run(test)
