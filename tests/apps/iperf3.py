#!/usr/bin/python3
"""iperf3 under the library as client and as server: TCP, -R, -P 8, --bidir, UDP, IPv6."""
import json

import harness
from harness import KERNEL4, KERNEL6, STACK4, STACK6, check

TESTS = (
    ("TCP", ()),
    ("TCP reversed", ("-R",)),
    ("eight streams", ("-P", "8")),
    ("eight streams reversed", ("-P", "8", "-R")),
    ("both ways", ("--bidir",)),
    ("UDP", ("-u", "-b", "50M")),
    ("UDP reversed", ("-u", "-b", "50M", "-R")),
    ("UDP, large datagrams", ("-u", "-b", "50M", "-l", "8000")),
    ("congestion control", ("-C", "reno")),
    ("small writes", ("-l", "100", "-N")),
    ("MSS", ("-M", "600")),
)


def rate(result, what, options):
    """Mb/s that arrived; the checks of one run."""
    check("error" not in result, "%s: %s" % (what, result.get("error")))
    end = result["end"]
    if "-u" in options:
        total = end["sum"]
        check(total["packets"] > 500, "%s: only %d datagrams" % (what, total["packets"]))
        check(total["lost_percent"] < 30, "%s: %.1f %% lost" % (what, total["lost_percent"]))
        return total["bits_per_second"] / 1e6
    received = end["sum_received"]["bits_per_second"] / 1e6
    check(end["sum_received"]["bytes"] > 100000, "%s: %d bytes" % (what, end["sum_received"]["bytes"]))
    if "--bidir" in options:
        check(end["sum_received_bidir_reverse"]["bytes"] > 100000, "%s: nothing came back" % what)
    return received


def ready(server, runs):
    """Until the server listens for its next run. It closes its listener after each, and a connection
    made meanwhile is reset, on the kernel too; so no probing with connections either."""
    harness.eventually(lambda: server.out().count(b"Server listening") > runs or not server.alive(),
                       "iperf3 listens")
    check(server.alive(), "the server died: " + server.errors())


def test(net):
    harness.need("iperf3")
    kernel = net.kernel("iperf3", "-s", "-p", "5201", "--forceflush")
    for runs, (what, options) in enumerate(TESTS):
        ready(kernel, runs)
        client = net.wrapped("iperf3", "-c", KERNEL4, "-p", "5201", "-t", "1", "-J", *options)
        client.wait(40)
        print("client, %s: %.0f Mb/s" % (what, rate(json.loads(client.out()), "client, " + what, options)))
        net.quiet(client)
    ready(kernel, len(TESTS))
    client = net.wrapped("iperf3", "-6", "-c", KERNEL6, "-p", "5201", "-n", "20M", "-J", traced=True)
    client.wait(40)
    rate(json.loads(client.out()), "client, IPv6", ())
    kernel.stop()

    server = net.wrapped("iperf3", "-s", "-p", "5202", "--forceflush", traced=True)
    for runs, (what, options) in enumerate(TESTS):
        ready(server, runs)
        client = net.kernel("iperf3", "-c", STACK4, "-p", "5202", "-t", "1", "-J", *options)
        client.wait(40)
        print("server, %s: %.0f Mb/s" % (what, rate(json.loads(client.out()), "server, " + what, options)))
    ready(server, len(TESTS))
    client = net.kernel("iperf3", "-6", "-c", STACK6, "-p", "5202", "-n", "20M", "-J")
    client.wait(40)
    rate(json.loads(client.out()), "server, IPv6", ())
    check(server.alive(), "the server died")
    net.owns_no_socket(server)
    net.quiet(server)


harness.run(test)
