"""The kernel's count of packets that their reader gives back to the core that made them, put right.

Linux 6.18's count gets stuck at its limit; then whoever sends over a TAP writes into cold pages, at
two thirds of the speed (bench/README.md, "Pages that do not come back"). Traffic between the cores
while the limit is out of reach ends that. The limit is the machine's and cannot be seen in a
namespace: it is opened before bench/compare enters its own, and is back as it was when a cell runs.
"""

import argparse
import os
import sys

import compare_net
from compare_work import load_pair

LIMIT = "/proc/sys/net/core/skb_defer_max"
OUT_OF_REACH = "2147483647"
KEPT = "BENCH_PAGES_LIMIT"  # the open descriptor's number, across the start in a namespace


def open_limit():
    """Before measure.enter_namespace, which starts the script a second time."""
    if KEPT in os.environ:
        return
    try:
        descriptor = os.open(LIMIT, os.O_RDWR)
    except OSError as error:
        sys.exit(f"--pages: {LIMIT}: {error.strerror}")
    os.set_inheritable(descriptor, True)
    os.environ[KEPT] = str(descriptor)


class Pages:
    """Puts the count right, again and again."""

    def __init__(self):
        descriptor = int(os.environ.pop(KEPT))
        os.set_inheritable(descriptor, False)
        self._limit = os.fdopen(descriptor, "r+b", buffering=0)
        self._usual = self._read()

    def _read(self):
        self._limit.seek(0)
        return self._limit.read(32).decode().strip()

    def _write(self, value):
        self._limit.seek(0)
        self._limit.write(value.encode() + b"\n")

    def restore(self):
        """Sends from each core to the next, so that a packet of every core is given back to it."""
        cores = sorted(os.sched_getaffinity(0))
        loopback = compare_net.End(compare_net.OWN, "127.0.0.1")
        options = argparse.Namespace(seconds=0.3, warmup=0.05)
        self._write(OUT_OF_REACH)
        try:
            for core, following in zip(cores, cores[1:] + cores[:1]):
                load_pair(compare_net.Link(loopback, loopback), options, "bulk-server", ["bulk"],
                          (core, following))
        finally:
            self._write(self._usual)
