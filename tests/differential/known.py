"""Differences between the kernel and the stack that are known and meant to be.

KNOWN: {program: {prefix of the lines that may differ: why}}. A line that begins with a prefix is
left out on both sides; everything else must be equal. An entry whose lines agree again is reported.
SKIPPED: {program: why it cannot run under the library yet}. The native run is still made.
"""

RAW = "raw and ping sockets are not there yet"

KNOWN = {
    "bad_arguments": {
        "socket(2, 0x3, 0)": RAW,
        "socket(2, 0x3, 1)": RAW,
        "socket(10, 0x3, 58)": RAW,
        "socket(2, 0x2, 1)": RAW,
    },
    "tcp_urgent": {
        "SIGURG": "no signals from the stack yet (F_SETOWN, O_ASYNC)",
    },
}

SKIPPED = {
    "syscall_instructions": "call sites in loaded objects are not rewritten yet",
}
