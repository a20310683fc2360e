#!/usr/bin/python3
"""wrk on the kernel against nginx under the library, and wrk under the library against nginx on the
kernel: no errors of any kind."""
import harness
from harness import KERNEL4, STACK4, WORK, check


def load(start, url, *options):
    program = start("wrk", "-d", "3s", "-t", "2", "--latency", *options, url).expect(0, 40)
    text = program.out().decode()
    check("Socket errors" not in text, "wrk: " + text)
    check("Non-2xx" not in text, "wrk: " + text)
    rate = harness.numbers(r"Requests/sec:\s+([0-9.]+)", text)[0]
    check(rate > 50, "only %.0f requests a second" % rate)
    print("%s %s: %.0f requests/s" % (url, " ".join(options), rate))
    return program


def test(net):
    harness.need("wrk", "nginx")
    harness.make_file("www/small", 1000)
    harness.make_file("www/medium", 100000)
    server = harness.start_nginx(net.wrapped, harness.nginx_configuration(
        WORK + "/www", workers=2, listen=("8080",)), STACK4, 8080)
    base = "http://%s:8080/" % STACK4
    load(net.kernel, base + "small", "-c", "50")
    load(net.kernel, base + "medium", "-c", "20")
    load(net.kernel, base + "small", "-c", "20", "-H", "Connection: close")
    net.owns_no_socket(server)
    net.quiet(server)
    server.stop()
    harness.start_nginx(net.kernel, harness.nginx_configuration(
        WORK + "/www", workers=2, listen=("10.77.0.1:8080",)), KERNEL4, 8080)
    base = "http://%s:8080/" % KERNEL4
    load(net.wrapped, base + "small", "-c", "50")
    load(net.wrapped, base + "medium", "-c", "20")
    client = net.wrapped("wrk", "-d", "1s", "-t", "1", "-c", "4", base + "small", traced=True)
    client.expect(0)


harness.run(test)
