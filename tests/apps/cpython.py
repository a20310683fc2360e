#!/usr/bin/python3
"""CPython's own tests of its socket module, under the library: servers on the wildcard address that
are fetched from over 127.0.0.1 and ::1 among them."""
import os
import re

import harness
from harness import check

PYTHON = "/usr/bin/python3"
# What the stack does not have (UDP-Lite), or what is the kernel's and does not end on every machine.
IGNORED = ("*UDPLITE*", "*VSOCK*")


def test(net):
    harness.need(PYTHON)
    if not any(os.path.exists("/usr/lib/python3.%d/test/test_socket.py" % minor) for minor in range(9, 15)):
        harness.skip("libpython3-testsuite is not installed")
    ignored = [word for pattern in IGNORED for word in ("-i", pattern)]
    program = net.wrapped(PYTHON, "-m", "test", "test_socket", "-v", *ignored, cwd=harness.WORK)
    status = program.wait(200)
    text = program.out().decode(errors="replace")
    failed = re.findall(r"^(\S+ \(.*\)) \.\.\. (?:ERROR|FAIL)", text, re.M)
    check(status == 0, "status %d, failed: %s\n%s" % (status, failed, text[-2000:]))
    passed = re.findall(r" \.\.\. ok$", text, re.M)
    print("%d tests of test_socket passed" % len(passed))
    check(len(passed) > 400, "only %d tests ran" % len(passed))
    for name in ("test_tcp4", "test_tcp6", "test_dual_stack_client_v4", "test_dual_stack_client_v6"):
        check(re.search(r"^%s \(\S+\) \.\.\. ok$" % name, text, re.M), name + " did not pass")


harness.run(test)
