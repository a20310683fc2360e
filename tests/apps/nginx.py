#!/usr/bin/python3
"""nginx under the library: workers, sendfile, keep-alive, TLS, proxying, reload, orderly end."""
import os
import signal
import subprocess
import time

import harness
from harness import KERNEL4, STACK4, STACK6, WORK, check, equal


def certificate():
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                    "/CN=test", "-keyout", WORK + "/key.pem", "-out", WORK + "/cert.pem"],
                   check=True, capture_output=True)


def complaints(program):
    return [line for line in program.errors().splitlines()
            if any(word in line for word in ("[alert]", "[crit]", "[emerg]", "[error]"))]


def test(net):
    harness.need("nginx", "curl", "openssl")
    certificate()
    _, large_hash = harness.make_file("www/large", 256 << 20)
    _, small_hash = harness.make_file("www/small", 4000)
    backend = harness.start_nginx(net.kernel, harness.nginx_configuration(
        WORK + "/www", listen=("10.77.0.1:8090",)), KERNEL4, 8090)
    extra = """
  server {
    listen 8443 ssl;
    ssl_certificate %s/cert.pem;
    ssl_certificate_key %s/key.pem;
    root %s/www;
  }
  server {
    listen 8081;
    location / { proxy_pass http://10.77.0.1:8090; }
  }""" % (WORK, WORK, WORK)
    configuration = harness.nginx_configuration(WORK + "/www", extra, workers=2,
                                                listen=("8080", "[::]:8080"))
    server = harness.start_nginx(net.wrapped, configuration, STACK4, 8080)
    for url in ("http://%s:8080/" % STACK4, "http://[%s]:8080/" % STACK6, "https://%s:8443/" % STACK4,
                "http://%s:8081/" % STACK4):
        equal(harness.fetch_hash(net, url + "small", "-k"), small_hash, url + "small")
        equal(harness.fetch_hash(net, url + "large", "-k"), large_hash, url + "large")
    net.owns_no_socket(server)

    # Many connections at once, several requests on each.
    outputs = []
    for i in range(200):
        outputs += ["-o", WORK + "/many.%d" % i, "http://%s:8080/small" % STACK4]
    net.kernel("curl", "-sS", "--fail", "-Z", "--parallel-max", "100", *outputs).expect(0)
    for i in range(200):
        equal(harness.sha256_file(WORK + "/many.%d" % i), small_hash, "request %d of 200" % i)

    # A slow reader that goes away, and one that is slow to the end.
    slow = net.kernel("curl", "-sS", "--limit-rate", "20M", "-o", "/dev/null", "http://%s:8080/large" % STACK4)
    time.sleep(0.5)
    slow.stop(signal.SIGKILL)
    equal(harness.fetch_hash(net, "http://%s:8080/large" % STACK4, "--limit-rate", "150M"), large_hash,
          "a slow download")

    # Reload while serving: old workers finish, new ones take over.
    download = net.kernel("curl", "-sS", "--fail", "--limit-rate", "100M", "http://%s:8080/large" % STACK4)
    time.sleep(0.3)
    before = set(harness.descendants(server.pid))
    os.kill(server.pid, signal.SIGHUP)
    harness.eventually(lambda: set(harness.descendants(server.pid)) - before, "new workers")
    equal(harness.fetch_hash(net, "http://%s:8080/small" % STACK4), small_hash, "after the reload")
    download.expect(0)
    equal(harness.sha256_file(download.out_path), large_hash, "the download across the reload")

    equal(server.stop(signal.SIGQUIT), 0, "nginx's exit status")
    check(not harness.accepts(STACK4, 8080), "still accepting after the end")
    check(not complaints(server), "nginx complained: %s" % complaints(server)[:3])
    net.quiet(server)

    # Started anew on the same device, and traced.
    server = net.wrapped("nginx", "-e", "stderr", "-c", configuration, traced=True)
    harness.wait_port(8080, STACK4, server)
    equal(harness.fetch_hash(net, "http://%s:8080/small" % STACK4), small_hash, "the second life")
    check(backend.alive(), "the backend died")


harness.run(test)
