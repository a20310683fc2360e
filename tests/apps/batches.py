#!/usr/bin/python3
"""Servers of several threads that work off batches of events, with an epoll instance each or one for
all: the library keeps replies back for the end of a batch, but none until a thread that reads a file,
sleeps, waits for a mutex or a child, or has ended makes its next call; nor are they lost with exit or
exec."""
import os

import harness
from harness import STACK4, check, equal

SEEDS = (1, 2)


def test(net):
    program = harness.compile_program("batch_server")
    port = 9320
    for mode in ("own", "shared"):
        for threads in (1, 4):
            for seed in SEEDS:
                port += 1
                path = os.path.join(harness.WORK, "fifo.%d" % port)
                os.mkfifo(path)
                server = net.wrapped(program, "serve", STACK4, port, threads, mode, path)
                harness.wait_port(port, STACK4, server)
                client = net.kernel(program, "ask", STACK4, port, 8 * threads, mode, seed, path)
                status = client.wait(60)
                check(status == 0, "%s, %d threads, seed %d: %s%s" % (
                    mode, threads, seed, client.out().decode().strip(), server.out().decode().strip()))
                if mode == "own":  # it has ended by itself
                    equal(server.wait(20), 0, "the server's end: " + server.out().decode())
                else:
                    check(server.alive(), "the server lives")
                    server.stop()
                print(mode, threads, client.out().decode().strip())


harness.run(test)
