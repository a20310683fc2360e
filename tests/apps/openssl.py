#!/usr/bin/python3
"""openssl s_server and s_client under the library, each against the other on the kernel."""
import os
import subprocess

import harness
from harness import KERNEL4, KERNEL6, STACK4, WORK, check, equal


def server(start, port):
    return start("openssl", "s_server", "-accept", port, "-cert", WORK + "/cert.pem", "-key",
                 WORK + "/key.pem", "-WWW", "-quiet", cwd=WORK + "/www")


def request(start, address, port, name, **options):
    """GET with s_client; the body."""
    read_end, write_end = os.pipe()
    os.write(write_end, ("GET /%s HTTP/1.0\r\n\r\n" % name).encode())
    program = start("openssl", "s_client", "-connect", "%s:%s" % (address, port), "-quiet", "-ign_eof",
                    stdin=read_end, **options)
    os.close(read_end)
    program.wait(90)
    os.close(write_end)
    return program.out().split(b"\r\n\r\n", 1)[-1]


def test(net):
    harness.need("openssl", "curl")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                    "/CN=test", "-keyout", WORK + "/key.pem", "-out", WORK + "/cert.pem"],
                   check=True, capture_output=True)
    _, digest = harness.make_file("www/file", 48 << 20)
    kernel = server(net.kernel, "4433")
    harness.wait_port(4433, KERNEL4, kernel)
    equal(harness.sha256(request(net.wrapped, KERNEL4, "4433", "file", traced=True)), digest, "s_client")
    equal(harness.sha256(request(net.wrapped, "[%s]" % KERNEL6, "4433", "file")), digest, "s_client over IPv6")
    wrapped = server(net.wrapped, "4434")
    harness.wait_port(4434, STACK4, wrapped)
    equal(harness.sha256(request(net.kernel, STACK4, "4434", "file")), digest, "s_server")
    equal(harness.fetch_hash(net, "https://%s:4434/file" % STACK4, "-k", "--http1.0"), digest, "s_server to curl")
    net.owns_no_socket(wrapped)
    # A certificate that cannot be verified is the program's own error.
    program = net.wrapped("openssl", "s_client", "-connect", KERNEL4 + ":4433", "-verify_return_error",
                          "-CAfile", "/dev/null")
    check(program.wait(30) != 0, "a bad certificate was accepted")
    check(wrapped.alive(), "s_server died")


harness.run(test)
