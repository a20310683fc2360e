#!/usr/bin/python3
"""What a program closes after its first socket is closed: the library's thread, which has a table of
descriptors of its own, has left the program's by then, however late it got to run."""
import os
import re

import harness
from harness import check

PROGRAM = """
import os, socket
socket.socket()
os.write(1, b"the program goes on")
"""


def test(net):
    harness.need("strace")
    if net.native:
        harness.skip("only with the library")
    trace = os.path.join(harness.WORK, "trace")
    variables = [word for pair in net.stack_variables().items() for word in ("-E", "%s=%s" % pair)]
    preexec = harness.Enter(net.program_namespace) if net.program_namespace else None
    command = ["strace", "-f", "-qq", "-e", "trace=close_range,write",
               "-e", "inject=close_range:delay_enter=200000", "-o", trace, *variables,
               "/usr/bin/python3", "-c", PROGRAM]
    harness.Program(command, net.environment(), None, None, preexec, None).expect(0, 30)
    with open(trace, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    left = next((i for i, line in enumerate(lines) if re.search(r"close_range.* = 0", line)), None)
    goes_on = next(i for i, line in enumerate(lines) if "the program goes on" in line)
    check(left is not None, "the library's thread leaves the program's descriptors")
    check(left < goes_on, "the program went on before: %s" % "\n".join(lines[:20]))


harness.run(test)
