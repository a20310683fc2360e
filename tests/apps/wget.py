#!/usr/bin/python3
"""wget under the library fetches from nginx on the kernel."""
import os

import harness
from harness import KERNEL4, KERNEL6, WORK, equal


def test(net):
    harness.need("wget", "nginx")
    _, large_hash = harness.make_file("www/large", 64 << 20)
    _, small_hash = harness.make_file("www/small", 54321)
    with open(WORK + "/www/index.html", "w", encoding="ascii") as file:
        file.write('<a href="large">large</a> <a href="small">small</a>')
    harness.start_nginx(net.kernel, harness.nginx_configuration(
        WORK + "/www", extra_http="types { text/html html; }",
        listen=("10.77.0.1:8080", "[fd77::1]:8080")), KERNEL4, 8080)
    for host in (KERNEL4, "[%s]" % KERNEL6):
        url = "http://%s:8080/" % host
        program = net.wrapped("wget", "-q", "-O", "-", url + "large", traced=host == KERNEL4)
        program.expect(0, 60)
        equal(harness.sha256_file(program.out_path), large_hash, "large from " + url)
        net.quiet(program)
        net.wrapped("wget", "-q", "-r", "-l", "1", "-nH", "-P", WORK + "/mirror", url).expect(0, 60)
        equal(harness.sha256_file(WORK + "/mirror/large"), large_hash, "large, recursively")
        equal(harness.sha256_file(WORK + "/mirror/small"), small_hash, "small, recursively")
        os.unlink(WORK + "/mirror/large")
    equal(net.wrapped("wget", "-q", "-O", "-", url + "missing").wait(), 8, "status of 404")
    equal(net.wrapped("wget", "-q", "-t", "1", "http://%s:8099/" % KERNEL4).wait(), 4, "status when refused")


harness.run(test)
