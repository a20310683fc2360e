"""What every test of a real program stands on: namespaces, starting programs, checking.

A test is a script with a function `test(net)` that ends in `harness.run(test)`. It runs in network,
mount and process namespaces of its own that end with it, whatever happens: nothing has to be cleaned
up, names cannot collide, and no process is left. /mnt there is a private directory in memory.

The kernel's side is 10.77.0.1 and fd77::1. The wrapped program is 10.77.0.2 and fd77::2:
  stack mode:  LD_PRELOAD of the library, over the TAP us0, or with --wire xdp over AF_XDP on eth0
               in a second namespace at the end of a veth pair;
  native mode: no library, in a second namespace at the end of a veth pair. It shows that the test
               itself is right, and what the kernel does.
"""

import argparse
import ctypes
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, "build", "apps")
WORK = "/mnt"
KERNEL4, KERNEL6 = "10.77.0.1", "fd77::1"
STACK4, STACK6 = "10.77.0.2", "fd77::2"
SKIP_STATUS = 77
CLONE_NEWNET = 0x40000000


class Failure(Exception):
    """The program under test did not do what it should."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def equal(got, wanted, what):
    check(got == wanted, "%s: got %r, wanted %r" % (what, got, wanted))


def skip(reason):
    print("SKIP " + reason)
    sys.exit(SKIP_STATUS)


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            skip(program + " is not installed")


# --- data ---
def make_file(name, size, seed=1):
    """A file in WORK in which no two mebibytes are equal. Returns (path, sha256)."""
    path = os.path.join(WORK, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    block = random.Random(seed).randbytes(1 << 20)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for number in range(0, size, 1 << 20):
            part = (number.to_bytes(8, "big") + block[8:])[:size - number]
            file.write(part)
            digest.update(part)
    return path, digest.hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def compile_program(name, *flags):
    """A program of tests/apps/programs."""
    source = os.path.join(HERE, "programs", name + ".c")
    os.makedirs(BUILD, exist_ok=True)
    binary = os.path.join(BUILD, name)
    if not os.path.exists(binary) or os.path.getmtime(binary) < os.path.getmtime(source):
        temporary = "%s.%d" % (binary, time.time_ns())
        subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror",
                        "-pthread", "-o", temporary, source, *flags], check=True)
        os.rename(temporary, binary)
    return binary


class Program:
    """A started program; its output goes to files."""

    count = 0

    def __init__(self, argv, environment, stdin, stdout, preexec, cwd):
        Program.count += 1
        self.argv = argv
        self.out_path = os.path.join(WORK, "out.%d" % Program.count)
        self.error_path = os.path.join(WORK, "err.%d" % Program.count)
        with open(self.error_path, "wb") as errors, open(stdout or self.out_path, "wb") as out:
            self.process = subprocess.Popen(
                argv, env=environment, stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=out, stderr=errors, preexec_fn=preexec, cwd=cwd or WORK)

    @property
    def pid(self):
        return self.process.pid

    def out(self):
        with open(self.out_path, "rb") as file:
            return file.read()

    def errors(self):
        with open(self.error_path, "rb") as file:
            return file.read().decode(errors="replace")

    def wait(self, timeout=60):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            raise Failure("still running after %d s: %s\n%s" % (
                timeout, " ".join(self.argv), self.errors()[-2000:])) from None

    def expect(self, status=0, timeout=60):
        got = self.wait(timeout)
        check(got == status, "exit status %s, wanted %s: %s\nstderr: %s\nstdout: %s" % (
            got, status, " ".join(self.argv), self.errors()[-2000:], self.out()[-1000:]))
        return self

    def stop(self, how=signal.SIGTERM, timeout=20):
        """Ends it; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.wait(timeout)

    def alive(self):
        return self.process.poll() is None


class Net:
    def __init__(self, options, multi_queue=False):
        self.native = options.native
        self.library = options.library
        self.xdp = options.wire == "xdp" and not options.native
        self.traces = []
        self.program_namespace = None
        self.multi_queue = multi_queue  # the TAP

    # --- set-up ---
    def configure(self, device, host):
        ip("link set lo up", "link set %s address 02:00:00:77:00:0%d" % (device, host),
           "link set %s up" % device, "addr add 10.77.0.%d/24 brd 10.77.0.255 dev %s" % (host, device),
           "addr add fd77::%d/64 dev %s nodad" % (host, device))

    def start(self):
        sysctl("ipv6/conf/all/accept_dad", "0")
        sysctl("ipv6/conf/default/accept_dad", "0")
        sysctl("ipv4/icmp_ratelimit", "0")
        sysctl("ipv4/tcp_max_syn_backlog", "16384")
        sysctl("core/somaxconn", "16384")
        if self.native or self.xdp:
            ready, told = os.pipe()
            holder = os.fork()
            if holder == 0:
                ctypes.CDLL(None).unshare(CLONE_NEWNET)
                os.write(told, b"x")
                signal.pause()
                os._exit(0)
            os.read(ready, 1)
            self.program_namespace = "/proc/%d/ns/net" % holder
            ip("link add us0 type veth peer name eth0 index 2 netns %d" % holder)
            with Inside(self.program_namespace):
                sysctl("ipv6/conf/all/accept_dad", "0")
                sysctl("ipv6/conf/default/accept_dad", "0")
                sysctl("core/somaxconn", "16384")
                if self.native:
                    self.configure("eth0", 2)
                    ip("route add default via 10.77.0.1", "route add ::/0 via fd77::1")
                else:
                    ip("link set lo up", "link set eth0 address 02:00:00:77:00:02")
        else:
            ip("tuntap add mode tap multi_queue name us0" if self.multi_queue else
               "tuntap add mode tap name us0")
        self.configure("us0", 1)

    # --- starting programs ---
    def stack_variables(self, more=None):
        if self.native:
            return {}
        variables = {
            "LD_PRELOAD": self.library,
            "USERSTACK_DEV": "tap:us0",
            "USERSTACK_ADDR": "10.77.0.2/24,fd77::2/64",
            "USERSTACK_GATEWAY": "10.77.0.1,fd77::1",
            "USERSTACK_MAC": "02:00:00:77:00:02",
        }
        if self.xdp:
            variables["USERSTACK_DEV"] = "xdp:eth0"
        for name in os.environ:  # what the person who debugs wants to add
            if name.startswith("USERSTACK_"):
                variables[name] = os.environ[name]
        variables.update(more or {})
        return variables

    def environment(self, more=None):
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                       "LC_ALL": "C.UTF-8", "HOME": WORK}
        environment.update(more or {})
        return environment

    def kernel(self, *argv, stdin=None, stdout=None, environment=None, cwd=None):
        """Starts a program on the kernel's side."""
        return Program([str(word) for word in argv], self.environment(environment), stdin, stdout,
                       None, cwd)

    def wrapped(self, *argv, stdin=None, stdout=None, environment=None, traced=False, cwd=None):
        """Starts a program under the library (in native mode: in the other namespace)."""
        argv = [str(word) for word in argv]
        variables = self.stack_variables(environment)
        if self.native:
            variables = {}
        preexec = Enter(self.program_namespace) if self.program_namespace else None
        if traced and not self.native:
            path = os.path.join(WORK, "trace.%d" % len(self.traces))
            self.traces.append(path)
            # -D: the program is our child, not strace's: it gets our signals.
            argv = (["strace", "-D", "--seccomp-bpf", "-f", "-qq", "-e", "trace=socket", "-o", path]
                    + [word for name, value in variables.items()
                       for word in ("-E", "%s=%s" % (name, value))] + argv)
            variables = {}
        return Program(argv, self.environment(variables), stdin, stdout, preexec, cwd)

    # --- checks ---
    def no_kernel_sockets(self):
        """What was traced asked the kernel for no socket of the Internet's families."""
        for path in self.traces:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in file if "AF_INET" in line]
            check(not lines, "the kernel was asked for %d sockets: %s" % (len(lines), lines[:3]))

    def owns_no_socket(self, program):
        """No process of the running program has a socket that is in the kernel's tables."""
        if self.native:
            return
        tables = {}
        for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            with open("/proc/%d/net/%s" % (program.pid, table), encoding="ascii") as file:
                for line in list(file)[1:]:
                    tables["socket:[%s]" % line.split()[9]] = table
        for pid in descendants(program.pid):
            for link in links(pid):
                check(link not in tables, "process %d owns a kernel socket (%s)" % (
                    pid, tables.get(link)))

    def inside(self, *command):
        """Runs a command where the wrapped programs are."""
        preexec = Enter(self.program_namespace) if self.program_namespace else None
        return subprocess.run(command, preexec_fn=preexec, text=True, capture_output=True, check=False)

    def clean(self):
        """No program of ours is left on the AF_XDP interface."""
        if self.xdp:
            eventually(lambda: "xdp" not in self.inside("ip", "link", "show", "eth0").stdout,
                       "the interface is clean")

    def quiet(self, program):
        """Nothing of the library's on stderr."""
        lines = [line for line in program.errors().splitlines() if "userstack:" in line]
        check(not lines, "the library complained: %s" % lines[:3])


def descendants(pid):
    found = [pid]
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as file:
                for child in file.read().split():
                    found += descendants(int(child))
    except FileNotFoundError:
        pass
    return found


def links(pid):
    found = []
    try:
        for number in os.listdir("/proc/%d/fd" % pid):
            try:
                found.append(os.readlink("/proc/%d/fd/%s" % (pid, number)))
            except FileNotFoundError:
                pass
    except FileNotFoundError:
        pass
    return found


class Enter:
    """Moves a child into a namespace before exec."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        descriptor = os.open(self.path, os.O_RDONLY)
        ctypes.CDLL(None).setns(descriptor, CLONE_NEWNET)
        os.close(descriptor)


class Inside:
    """with Inside(namespace): this process is in the namespace."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.before = os.open("/proc/self/ns/net", os.O_RDONLY)
        Enter(self.path)()

    def __exit__(self, *_):
        ctypes.CDLL(None).setns(self.before, CLONE_NEWNET)
        os.close(self.before)


def ip(*lines):
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


def sysctl(name, value):
    try:
        with open("/proc/sys/net/" + name, "w", encoding="ascii") as file:
            file.write(value)
    except OSError:
        pass


def eventually(function, what, timeout=20):
    """Calls until it returns something true; that."""
    deadline = time.monotonic() + timeout
    while True:
        result = function()
        if result:
            return result
        check(time.monotonic() < deadline, "%s: not within %d s" % (what, timeout))
        time.sleep(0.02)


def accepts(address, port):
    try:
        socket.create_connection((address, port), 2).close()
        return True
    except OSError:
        return False


def wait_port(port, address=STACK4, program=None, timeout=20):
    """Until someone accepts connections there (and takes one that ends at once)."""
    def ready():
        if program is not None and not program.alive():
            raise Failure("ended early with %s: %s\n%s" % (
                program.process.poll(), " ".join(program.argv), program.errors()[-2000:]))
        return accepts(address, port)
    eventually(ready, "a server on %s port %d" % (address, port), timeout)


def exchange(address, port, data, timeout=30):
    """Sends everything, then reads to the end, both at once."""
    sock = socket.create_connection((address, port), 10)
    sock.settimeout(timeout)
    pid = os.fork()
    if pid == 0:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        finally:
            os._exit(0)
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    os.waitpid(pid, 0)
    sock.close()
    return b"".join(parts)


def fetch_hash(net, url, *options, wrapped=False, timeout=120):
    """sha256 of what curl gets."""
    start = net.wrapped if wrapped else net.kernel
    program = start("curl", "-sS", "-g", "--fail", *options, url)
    program.expect(0, timeout)
    return sha256_file(program.out_path)


def nginx_configuration(root, extra_http="", workers=1, listen=("8080",), extra_main=""):
    """A configuration file in WORK; its path."""
    directory = os.path.join(WORK, "nginx.%d" % random.getrandbits(32))
    os.makedirs(directory)
    path = os.path.join(directory, "nginx.conf")
    temporary = "\n".join("%s_temp_path %s/%s;" % (name, directory, name)
                          for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(path, "w", encoding="utf-8") as file:
        file.write("""
user root;
worker_processes %d;
daemon off;
pid %s/pid;
error_log stderr warn;
%s
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 30;
  keepalive_requests 100000;
  default_type application/octet-stream;
  %s
  %s
  server {
    %s
    root %s;
  }
}
""" % (workers, directory, extra_main, temporary, extra_http,
            "\n    ".join("listen %s;" % where for where in listen), root))
    return path


def start_nginx(start, configuration, address, port):
    program = start("nginx", "-e", "stderr", "-c", configuration)
    wait_port(port, address, program)
    return program


def run(test, wire="tap", multi_queue=False):
    """The script's main: makes the namespaces, calls test(net), says what came of it."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--library", default=os.path.join(ROOT, "build", "libuserstack.so"))
    parser.add_argument("--native", action="store_true", help="without the library, over veth")
    parser.add_argument("--wire", choices=("tap", "xdp"), default=wire)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.library = os.path.abspath(options.library)  # before the directory changes
    if not options.inside:
        if os.geteuid() != 0:
            skip("needs root")
        if not os.access("/dev/net/tun", os.W_OK):
            skip("needs /dev/net/tun")
        if not options.native and not os.path.exists(options.library):
            print("no library at " + options.library)
            sys.exit(2)
        os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
                              "--mount-proc", "/usr/bin/python3", os.path.abspath(sys.argv[0]),
                              "--inside"] + sys.argv[1:])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777,size=80%", "tmpfs", WORK], check=True)
    os.chdir(WORK)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    except (ValueError, OSError):
        pass
    net = Net(options, multi_queue)
    net.start()
    started = time.monotonic()
    try:
        test(net)
        net.no_kernel_sockets()
    except Failure as failure:
        print("FAILED: %s" % failure)
        sys.exit(1)
    print("ok in %.1f s" % (time.monotonic() - started))
    sys.stdout.flush()
    os._exit(0)


def numbers(pattern, text):
    match = re.search(pattern, text)
    check(match is not None, "no %r in %r" % (pattern, text[-1000:]))
    return [float(group) for group in match.groups()]
