#!/usr/bin/python3
"""kill -9 of forked workers at any moment: the others serve on, new ones take their place, nothing is
wedged, and what the dead ones held is given back."""
import os
import random
import signal
import time

import harness
from harness import STACK4, check, equal


def test(net):
    server_binary = harness.compile_program("echo_server")
    client_binary = harness.compile_program("load_client")
    server = net.wrapped(server_binary, STACK4, "9200", "3")
    harness.wait_port(9200, STACK4, server)
    chance = random.Random(77)

    def workers():
        return [pid for pid in harness.descendants(server.pid) if pid != server.pid]

    equal(len(workers()), 3, "workers")
    for _ in range(30):
        # Load whose connections may die with their worker, and a kill in the midst of it.
        load = net.kernel(client_binary, STACK4, "9200", "60", "10", "5")
        time.sleep(chance.random() * 0.15)
        os.kill(chance.choice(workers()), signal.SIGKILL)
        load.wait(60)
        check(server.alive(), "the parent died")
        harness.eventually(lambda: len(workers()) >= 3, "a new worker")
        client = net.kernel(client_binary, STACK4, "9200", "20", "2", "0").expect(0, 60)
        equal(client.out(), b"connections 20 lost 0 wrong 0\n", "after the kill")
    # All at once.
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
    harness.eventually(lambda: len(workers()) >= 3, "new workers")
    client = net.kernel(client_binary, STACK4, "9200", "200", "2", "0").expect(0, 60)
    equal(client.out(), b"connections 200 lost 0 wrong 0\n", "after killing all")
    net.owns_no_socket(server)
    # The parent too: the device is free for another.
    for pid in harness.descendants(server.pid)[1:]:
        os.kill(pid, signal.SIGKILL)
    os.kill(server.pid, signal.SIGKILL)
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
    server.wait()
    server = net.wrapped(server_binary, STACK4, "9201", "0")
    harness.wait_port(9201, STACK4, server)
    client = net.kernel(client_binary, STACK4, "9201", "20", "2", "0").expect(0, 60)
    equal(client.out(), b"connections 20 lost 0 wrong 0\n", "a new server on the device")


harness.run(test)
