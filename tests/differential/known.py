"""Differences between the kernel and the stack that are known and meant to be.

KNOWN: {program: {prefix of the lines that may differ: why}}. A line that begins with a prefix is
left out on both sides; everything else must be equal. An entry whose lines agree again is reported.
SKIPPED: {program: why it cannot run under the library yet}. The native run is still made.
REWRITTEN: programs whose calls no symbol sees; they run with USERSTACK_REWRITE=on.
"""

KNOWN = {
    "bad_arguments": {
        "socket(2, 0x2, 1)": "ping sockets are for everyone; the kernel asks ping_group_range",
    },
    "tcp_urgent": {
        "SIGURG": "no signals from the stack yet (F_SETOWN, O_ASYNC)",
    },
}

SKIPPED = {}

REWRITTEN = {"standard_streams", "syscall_instructions"}
