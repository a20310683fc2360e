"""What the benchmark scripts share: statistics, a namespace of their own, the machine's CPU time."""

import os
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIBRARY = os.path.join(ROOT, "build", "libuserstack.so")


def need(*programs):
    """Ends with one line when a program or the library is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        sys.exit(f"missing: {' '.join(missing)}; run scripts/setup")
    if not os.path.exists(LIBRARY):
        sys.exit(f"missing: {LIBRARY}; run scripts/build")


def enter_namespace(*more):
    """Runs this script again inside a network namespace of its own (and a user namespace, when the
    user is not root; and what `more` asks unshare for), once."""
    if os.environ.get("BENCH_INSIDE"):
        del os.environ["BENCH_INSIDE"]
        run("ip", "link", "set", "lo", "up")
        return
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.execvpe("unshare", ["unshare", *user, "--net", *more, sys.executable, *sys.argv],
               {**os.environ, "BENCH_INSIDE": "1"})


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


def make_tap(name, kernel_side, mtu=1500):
    run("ip", "tuntap", "add", "dev", name, "mode", "tap")
    for address in kernel_side.split(","):
        run("ip", "address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
    run("ip", "link", "set", name, "mtu", str(mtu), "up")


def wrapped(device, addresses):
    """The environment of a program under the library."""
    return {**os.environ, "LD_PRELOAD": LIBRARY, "USERSTACK_DEV": device,
            "USERSTACK_ADDR": addresses}


def busy_seconds():
    """CPU time that the whole machine has spent so far on anything; the kernel's share of a
    transfer (softirq) is charged to nobody in particular, so a process's own time would hide it."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def median_and_spread(values):
    """Median, and the distance between the quartiles (0 for fewer than four values)."""
    if len(values) < 4:
        return statistics.median(values), 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return statistics.median(values), high - low


class Child:
    """A background process, ended at the end of a `with`."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, **options)

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
