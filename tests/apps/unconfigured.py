#!/usr/bin/python3
"""Without a configuration the library adds no system call to a program's own."""
import os
import re
import subprocess

import harness
from harness import check

PROGRAM = "ordinary_calls"


def calls(path, library):
    """The calls between the program's marks, without addresses and numbers that differ by the run."""
    trace = os.path.join(harness.WORK, "trace")
    preload = ["-E", "LD_PRELOAD=" + library] if library else []
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("USERSTACK_")}
    subprocess.run(["strace", "-o", trace, *preload, path], check=True, env=environment)
    with open(trace, encoding="utf-8", errors="replace") as file:
        text = file.read()
    between = text.split('"begin"', 1)[1].split('"end"', 1)[0]
    return re.sub(r"0x[0-9a-f]+|\b[0-9]{4,}\b|(?<=prlimit64\()[1-9][0-9]*", "N", between).splitlines()


def test(net):
    harness.need("strace")
    path = harness.compile_program(PROGRAM)
    wanted = calls(path, None)
    check(len(wanted) > 50, "the program's own calls are seen: %d" % len(wanted))
    got = calls(path, net.library)
    for number, (one, other) in enumerate(zip(got, wanted)):
        check(one == other, "call %d: %s, without the library %s" % (number, one, other))
    check(len(got) == len(wanted), "%d calls, without the library %d" % (len(got), len(wanted)))


harness.run(test)
