#!/usr/bin/python3
"""Workers under traffic (small blocks; streams whose threads wait in large reads and send files) are
killed at random instants, with the stack's lock or without: the stack is mended each time, and the
parent's own connections go on. In the end everybody is killed at once. Over AF_XDP, where each of them
holds frames of the memory that all share, nothing is left on the interface."""
import re
import signal

import harness
from harness import KERNEL4, STACK4, check, equal

KILLS = 300
SEEDS = (1, 2, 3)


def start(net, seed, path):
    return net.wrapped(harness.compile_program("kill_storm"), STACK4, KERNEL4, "9300", KILLS, seed, path,
                       environment={"USERSTACK_LOG": "info"})


def test(net):
    echo = net.kernel(harness.compile_program("echo_server"), KERNEL4, "9300", "3")
    harness.wait_port(9300, KERNEL4, echo)
    storm = harness.compile_program("kill_storm")
    mirror = net.kernel(storm, "mirror", KERNEL4, "9301")
    harness.wait_port(9301, KERNEL4, mirror)
    path, _ = harness.make_file("storm", 1 << 20)
    with_lock = 0
    for seed in SEEDS:
        program = start(net, seed, path)
        status = program.wait(60)
        found = re.findall(r"audit: .*|a process died inside the stack and.*", program.errors())
        check(status == 0, "seed %d: status %d: %s %s" % (seed, status, program.out().decode(), found))
        equal(program.out().decode(), "kills %d answered %d\n" % (KILLS, KILLS), "after the storm")
        with_lock += len(re.findall("a process died inside the stack", program.errors()))
    for seed in SEEDS:
        program = start(net, seed, path)
        harness.eventually(lambda: net.native or "died inside the stack" in program.errors(), "the storm is on")
        equal(program.stop(signal.SIGKILL), -signal.SIGKILL, "everybody is killed")
        net.clean()
    print("%d kills, %d of them with the lock" % (KILLS * len(SEEDS), with_lock))
    check(net.native or with_lock > 0, "nobody died with the lock: the storm tested nothing")


harness.run(test)
