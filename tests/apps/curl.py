#!/usr/bin/python3
"""curl under the library fetches from nginx on the kernel: hashes, both families, uploads, status."""
import contextlib
import glob
import os

import harness
from harness import KERNEL4, KERNEL6, WORK, check, equal

TAKER = """
import hashlib, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left > 0:
            part = self.rfile.read(min(left, 1 << 20))
            digest.update(part)
            left -= len(part)
        answer = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
http.server.ThreadingHTTPServer(("10.77.0.1", 8083), Handler).serve_forever()
"""


def successor():
    """Is there a process that finishes what a program left?"""
    for path in glob.glob("/proc/[0-9]*/comm"):
        with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
            if file.read().startswith("userstack-close"):
                return True
    return False


def test(net):
    harness.need("curl", "nginx", "strace")
    large, large_hash = harness.make_file("www/large", 256 << 20)
    _, small_hash = harness.make_file("www/small", 12345)
    with open(os.path.join(WORK, "www/hello"), "w", encoding="ascii") as file:
        file.write("hello from the kernel\n")
    nginx = harness.start_nginx(
        net.kernel, harness.nginx_configuration(
            WORK + "/www", listen=("10.77.0.1:8080", "[fd77::1]:8080"),
            extra_http="client_max_body_size 0; client_body_in_file_only off;"), KERNEL4, 8080)
    v4, v6 = "http://%s:8080/" % KERNEL4, "http://[%s]:8080/" % KERNEL6

    program = net.wrapped("curl", "-sS", v4 + "hello", traced=True).expect(0)
    equal(program.out(), b"hello from the kernel\n", "stdout")
    if not net.native:
        # A tracer that waits for all it traces does not wait for TIME_WAIT: what stays is no tracee.
        variables = [word for pair in net.stack_variables().items() for word in ("-E", "%s=%s" % pair)]
        preexec = harness.Enter(net.program_namespace) if net.program_namespace else None
        command = ["strace", "-f", "-qq", "-e", "trace=socket", "-o", WORK + "/followed", *variables,
                   "curl", "-sS", v4 + "hello"]
        followed = harness.Program(command, net.environment(), None, None, preexec, None).expect(0, 30)
        equal(followed.out(), b"hello from the kernel\n", "stdout under strace -f")
        harness.eventually(successor, "a process that finishes what curl left")
    equal(harness.fetch_hash(net, v4 + "small", wrapped=True), small_hash, "a small file")
    for base in (v4, v6):
        equal(harness.fetch_hash(net, base + "large", wrapped=True), large_hash, "256 MiB from " + base)

    # Many at once over many connections, and one after the other over one.
    outputs = []
    for i in range(20):
        outputs += ["-o", "%s/parallel.%d" % (WORK, i), v4 + ("small" if i % 4 else "large")]
    net.wrapped("curl", "-sS", "-g", "--fail", "-Z", "--parallel-max", "20", *outputs).expect(0, 120)
    for i in range(20):
        equal(harness.sha256_file("%s/parallel.%d" % (WORK, i)), small_hash if i % 4 else large_hash,
              "parallel download %d" % i)
        os.unlink("%s/parallel.%d" % (WORK, i))
    program = net.wrapped("curl", "-sS", "-g", "-w", "%{num_connects}\n", v6 + "hello", v6 + "hello", v6 + "hello")
    program.expect(0)
    equal(program.out(), b"hello from the kernel\n1\nhello from the kernel\n0\nhello from the kernel\n0\n",
          "three requests over one connection")

    # Part of a file, resumed.
    part = net.wrapped("curl", "-sS", "-r", "1000000-1999999", v4 + "large").expect(0)
    with open(large, "rb") as file:
        file.seek(1000000)
        check(part.out() == file.read(1000000), "a range")

    # Uploads: nginx refuses them, and curl says so; python takes them and answers with the hash.
    program = net.wrapped("curl", "-sS", "--fail", "-T", large, v4 + "small")
    equal(program.wait(), 22, "status of a refused upload")
    taker = net.kernel("/usr/bin/python3", "-c", TAKER)
    harness.wait_port(8083, KERNEL4, taker)
    program = net.wrapped("curl", "-sS", "--fail", "-T", large, "http://%s:8083/up" % KERNEL4).expect(0)
    equal(program.out().decode(), large_hash, "256 MiB up")
    equal(net.wrapped("curl", "-sS", "http://%s:8081/" % KERNEL4, traced=True).wait(), 7, "status when refused")
    equal(net.wrapped("curl", "-sS", "--fail", v4 + "missing").wait(), 22, "status of 404")
    equal(net.wrapped("curl", "-sS", "--connect-timeout", "1", "http://10.78.0.1/").wait(), 28,
          "status of a time-out")
    # Loopback stays with the kernel.
    program = net.wrapped("curl", "-sS", "http://127.0.0.1:8082/")
    equal(program.wait(), 7, "loopback without a server")
    check(nginx.alive(), "nginx died")
    net.quiet(program)


harness.run(test)
