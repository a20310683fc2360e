"""The rows of bench/compare: workload, arms, what is measured, and the goal of each arm."""

import dataclasses

import compare_servers as servers
import compare_work as work


@dataclasses.dataclass
class Metric:
    key: str
    title: str
    less_is_better: bool = False
    # {arm: (arm to compare with, factor to reach)}; an arm without a goal is compared with the first.
    goals: dict = dataclasses.field(default_factory=dict)
    # {arm: (arms to compare with as well)}, without a goal.
    also: dict = dataclasses.field(default_factory=dict)

    def bases(self, row, arm):
        """[(arm to compare with, factor to reach or None)]"""
        first = self.goals.get(arm, (row.arms[0], None))
        return [first, *((other, None) for other in self.also.get(arm, ()))]


@dataclasses.dataclass
class Row:
    name: str
    title: str
    work: object
    arms: tuple
    metrics: tuple
    user: str = "root"  # whom its servers run as


ARMS = {
    "kernel": "kernel to kernel over veth, its default offloads, cubic",
    "kernel-default": "the same with the machine's own congestion control",
    "kernel-plain": "kernel to kernel over veth, cubic, without offloads",
    "kernel-jumbo": "kernel to kernel over veth, MTU 9000",
    "kernel-plain-jumbo": "the same without offloads",
    "tap": "kernel to wrapped server over TAP",
    "tap-client": "wrapped client over TAP to kernel server",
    "tap-both": "wrapped to wrapped over two TAPs and a bridge",
    "xdp": "kernel to wrapped server over AF_XDP on veth, no offloads",
    "xdp-offloads": "the same with the veth's default offloads on",
    "xdp-client": "wrapped client over AF_XDP on veth to kernel server",
    "xdp-jumbo": "kernel to wrapped server over AF_XDP on veth, MTU 9000",
    "xdp-both": "wrapped to wrapped over AF_XDP on veth",
    "gvisor": "kernel to gVisor netstack, AF_PACKET on veth with host GSO",
    "gvisor-plain": "the same without offloads on either side",
    "gvisor-plain-jumbo": "the same, MTU 9000",
    "lwip": "kernel to lwIP over TAP",
}


def per_byte(*arms):
    return Metric("cpu", "CPU ns/byte", True, {arm: ("kernel", 1.0) for arm in arms})


def per_request(*arms):
    return Metric("cpu", "CPU us/request", True, {arm: ("kernel", 1.0) for arm in arms})


def bulk_row(name, title, *arguments):
    goals = {"tap": ("kernel", 1.0), "xdp": ("gvisor-plain", 2.0),
             "xdp-jumbo": ("gvisor-plain-jumbo", 2.0)}
    also = {"xdp": ("kernel", "kernel-plain"), "xdp-jumbo": ("kernel-jumbo", "kernel-plain-jumbo")}
    return Row(name, title, work.bulk(*arguments),
               ("kernel", "kernel-default", "kernel-plain", "kernel-jumbo", "kernel-plain-jumbo",
                "tap", "tap-both", "xdp", "xdp-offloads", "xdp-jumbo", "xdp-both", "gvisor",
                "gvisor-plain", "gvisor-plain-jumbo", "lwip"),
               (Metric("rate", "Gbit/s", goals=goals, also=also), per_byte("tap")))


def eight_row(name, title, function):
    return Row(name, title, function, ("kernel", "tap"),
               (Metric("rate", "Gbit/s", goals={"tap": ("kernel", 1.0)}), per_byte("tap")))


def request_row(name, title, function, factor, arms=("kernel", "tap", "xdp", "xdp-offloads"),
                user="root"):
    measured = [arm for arm in ("tap", "xdp", "xdp-offloads") if arm in arms]
    return Row(name, title, function, arms,
               (Metric("rate", "requests/s", goals={arm: ("kernel", factor) for arm in measured}),
                per_request(*measured)), user)


def pingpong_row(name, title, function, arms):
    return Row(name, title, function, arms, (
        Metric("p50", "p50 us", True, {
            "tap": ("kernel", 0.6), "xdp": ("kernel", 0.6), "tap-both": ("kernel", 0.3),
            "xdp-both": ("kernel", 0.3)}),
        Metric("p99", "p99 us", True, {
            arm: ("kernel", 1.0) for arm in ("tap", "xdp", "tap-both", "xdp-both")}),
        per_request("tap", "xdp")))


def udp_row(name, title, server_sends, batch):
    measured = {arm: ("kernel", 1.5) for arm in ("tap", "xdp")}
    return Row(name, title, work.udp(server_sends, batch), ("kernel", "tap", "xdp"),
               (Metric("rate", "packets/s", goals=measured), per_request("tap", "xdp")))


MANY = ("kernel", "tap", "xdp")
ROWS = (
    bulk_row("bulk-send", "bulk TCP, one stream, the measured stack sends", "--receive"),
    bulk_row("bulk-receive", "bulk TCP, one stream, the measured stack receives"),
    eight_row("bulk8-send", "bulk TCP, 8 streams, a thread each, the measured stack sends",
              work.bulk("--streams", "8", "--receive")),
    eight_row("bulk8-receive", "bulk TCP, 8 streams, a thread each, the measured stack receives",
              work.bulk("--streams", "8")),
    eight_row("iperf-send", "iperf3, the measured stack sends", work.iperf("--reverse")),
    eight_row("iperf-receive", "iperf3, the measured stack receives", work.iperf()),
    eight_row("iperf8-send", "iperf3, 8 streams, the measured stack sends",
              work.iperf("--reverse", "--parallel", "8")),
    eight_row("iperf8-receive", "iperf3, 8 streams, the measured stack receives",
              work.iperf("--parallel", "8")),
    pingpong_row("pingpong", "one byte each way, client and server on cores of their own",
                 work.pingpong(0, 1), ("kernel", "tap", "tap-client", "tap-both", "xdp",
                                       "xdp-client", "xdp-both", "gvisor", "lwip")),
    pingpong_row("pingpong-free", "one byte each way, where the scheduler puts them",
                 work.pingpong(), ("kernel", "tap", "tap-both", "xdp", "xdp-both")),
    # lwIP is not here: after some hundred connections Debian's answers no SYN any more.
    request_row("crr", "connect, request, response, close; one at a time", work.crr(1), 1.5,
                ("kernel", "tap", "tap-client", "xdp", "gvisor")),
    request_row("crr16", "connect, request, response, close; 16 at a time", work.crr(16), 1.5,
                ("kernel", "tap", "xdp", "xdp-offloads", "gvisor")),
    request_row("redis-get", "redis-benchmark GET, 50 connections", work.redis("get", 1), 1.3),
    request_row("redis-set", "redis-benchmark SET, 50 connections", work.redis("set", 1), 1.3),
    request_row("redis-get-16", "redis-benchmark GET, pipeline 16", work.redis("get", 16), 1.3),
    request_row("redis-set-16", "redis-benchmark SET, pipeline 16", work.redis("set", 16), 1.3),
    request_row("memcached-get", "memcached get, 100 bytes, 50 connections", work.memcached(), 1.3),
    request_row("memcached-set", "memcached set, 100 bytes, 50 connections",
                work.memcached("--set"), 1.3),
    request_row("memcached-get-4", "memcached get, four threads", work.memcached(threads=4), 1.3),
    request_row("nginx-1k", "nginx under wrk, 1 KiB, 50 connections", work.nginx(1 << 10), 1.3),
    # More bytes than requests: over AF_XDP frames of the MTU carry them, and one figure says what that is.
    request_row("nginx-1m", "nginx under wrk, 1 MiB, 50 connections", work.nginx(1 << 20), 1.3,
                ("kernel", "tap", "xdp")),
    request_row("postgres-1", "PostgreSQL under pgbench -S, one connection", servers.postgres(1), 1.0,
                MANY, "nobody"),
    request_row("postgres-8", "PostgreSQL under pgbench -S, 8 connections, a process each",
                servers.postgres(8), 1.0, MANY, "nobody"),
    request_row("prefork", "apache2 prefork under wrk, 1 KiB, 16 at a time, a connection a request",
                servers.prefork(1 << 10), 1.0, MANY),
    udp_row("udp-send", "UDP, 64 bytes, the measured stack sends by sendto", True, 1),
    udp_row("udp-receive", "UDP, 64 bytes, the measured stack receives by recv", False, 1),
    udp_row("udp-send-32", "UDP, 64 bytes, sent by sendmmsg of 32", True, 32),
    udp_row("udp-receive-32", "UDP, 64 bytes, received by recvmmsg of 32", False, 32),
)
