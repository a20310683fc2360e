#!/usr/bin/python3
"""dig under the library asks dnsmasq on the kernel, over UDP and TCP; getent resolves through it;
dnsmasq under the library answers the kernel's dig."""
import harness
from harness import KERNEL4, KERNEL6, STACK4, check, equal


def dnsmasq(start, *addresses, port="53"):
    records = ["--txt-record=long.test," + ",".join(chr(97 + i) * 250 for i in range(16))]
    for i in range(100):
        records.append("--address=/many%d.test/10.9.8.%d" % (i, i))
    return start("dnsmasq", "-k", "--no-resolv", "--no-hosts", "-C", "/dev/null", "--no-daemon",
                 "--bind-interfaces", "--except-interface=lo", "--user=root", "--pid-file=",
                 "--port=" + port, "--edns-packet-max=1232",
                 *("--listen-address=" + address for address in addresses), *records,
                 "--address=/host.test/192.0.2.7", "--address=/host.test/2001:db8::7", "--log-facility=-")


def test(net):
    harness.need("dig", "dnsmasq")
    server = dnsmasq(net.kernel, KERNEL4, KERNEL6)
    harness.wait_port(53, KERNEL4, server)
    short = ("+short", "+tries=2", "+time=5")
    program = net.wrapped("dig", "@" + KERNEL4, *short, "host.test", "A", traced=True).expect(0)
    equal(program.out(), b"192.0.2.7\n", "A over UDP")
    net.quiet(program)
    program = net.wrapped("dig", "@" + KERNEL4, *short, "+tcp", "host.test", "AAAA", traced=True).expect(0)
    equal(program.out(), b"2001:db8::7\n", "AAAA over TCP")
    program = net.wrapped("dig", "@" + KERNEL6, *short, "host.test", "A").expect(0)
    equal(program.out(), b"192.0.2.7\n", "A over IPv6")
    program = net.wrapped("dig", "@" + KERNEL4, *short, "long.test", "TXT").expect(0)
    equal(len(program.out().strip()), 16 * 253 - 1, "a long answer: truncated, then over TCP")
    program = net.wrapped("dig", "@" + KERNEL4, "+tries=1", "+time=5", "host.test", "A").expect(0)
    check("(UDP)" in program.out().decode(), "it said UDP: %s" % program.out().decode())
    names = []
    for i in range(100):
        names += ["many%d.test" % i, "A"]
    program = net.wrapped("dig", "@" + KERNEL4, *short, *names).expect(0)
    equal(program.out().decode().split(), ["10.9.8.%d" % i for i in range(100)], "a hundred questions")
    equal(net.wrapped("dig", "@10.78.0.1", "+tries=1", "+time=1", "host.test").wait(), 9, "status without an answer")
    equal(net.wrapped("dig", "@" + KERNEL4, "-p", "54", "+tries=1", "+time=1", "host.test").wait(), 9,
          "status when refused")

    served = dnsmasq(net.wrapped, STACK4)
    harness.wait_port(53, STACK4, served)
    for options in ((), ("+tcp",)):
        program = net.kernel("dig", "@" + STACK4, *short, *options, "host.test", "A").expect(0)
        equal(program.out(), b"192.0.2.7\n", "an answer from dnsmasq under the library %s" % (options,))
    program = net.kernel("dig", "@" + STACK4, *short, "long.test", "TXT").expect(0)
    equal(len(program.out().strip()), 16 * 253 - 1, "a long answer from dnsmasq under the library")
    net.owns_no_socket(served)
    check(served.alive(), "dnsmasq died")


if __name__ == "__main__":
    harness.run(test)
