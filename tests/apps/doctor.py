#!/usr/bin/python3
"""userstack doctor: what a program is, told before it runs; and its verdict on every object's system
calls is the one that the library itself comes to."""
import json
import os
import re
import shutil
import subprocess

import harness
from harness import HERE, WORK, check, equal

LINE = re.compile(r"userstack: (\S.*): (\d+) times 0f 05: (\d+) sites, (\d+) irrelevant, (\d+) no system call")

RAW = """
#include <sys/socket.h>
#include <sys/syscall.h>
static long Raw(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}
__attribute__((noinline)) long Socket(void) { return Raw(SYS_socket, AF_INET, SOCK_STREAM, 0); }
__attribute__((noinline)) long Ring(void) { return Raw(425, 8, 0, 0); }
int main(void) { return Socket() < 0 || Ring() >= 0; }
"""


class Doctor:
    def __init__(self, net):
        self.net = net
        self.tool = os.path.join(os.path.dirname(net.library), "userstack")

    def run(self, *words, environment=None, start=()):
        variables = self.net.stack_variables(environment)
        del variables["LD_PRELOAD"]
        return self.net.kernel(*start, self.tool, "doctor", *words, environment=variables)

    def ask(self, *words, status=0, environment=None, start=()):
        program = self.run("--json", *words, environment=environment, start=start)
        program.expect(status)
        found = json.loads(program.out())
        equal(found["schema"], 1, "schema")
        equal(found["usable"], status == 0, "usable")
        return found

    def agrees(self, *argv):
        """With what the library says of each object when it looks for itself."""
        found = self.ask(*argv, environment={"USERSTACK_REWRITE": "on"})
        equal(found["mode"], "rewriting", "mode")
        home = WORK + "/home." + os.path.basename(argv[0])
        os.makedirs(home)
        program = self.net.wrapped(*argv, environment={
            "USERSTACK_REWRITE": "on", "USERSTACK_LOG": "debug", "HOME": home}).expect(0)
        told = {}
        for line in program.errors().splitlines():
            match = LINE.search(line)
            if match:
                path = match.group(1)
                told.setdefault(found["program"] if path == "the program" else path, match.groups()[1:])
        mine = {one["path"]: tuple(str(one[key]) for key in ("hits", "sites", "irrelevant", "unproved"))
                for one in found["objects"]}
        for path in mine:
            equal(mine[path], told.get(path), "%s: the doctor's verdict and the library's" % path)
        check(any(path.endswith("/libc.so.6") for path in mine), "libc is among them: %s" % list(mine))
        return found


def kinds(doctor):
    with open(WORK + "/script", "w", encoding="ascii") as file:
        file.write("#!/usr/bin/env python3\n")
    os.chmod(WORK + "/script", 0o755)
    found = doctor.ask(WORK + "/script")
    equal((found["scripts"], found["program"], found["kind"], found["mode"]),
          ([WORK + "/script"], shutil.which("python3", path="/usr/bin"), "dynamic program", "symbols"), "a script")

    with open(WORK + "/raw.c", "w", encoding="ascii") as file:
        file.write(RAW)
    for name, flags in (("raw", []), ("raw-static", ["-static"])):
        subprocess.run(["gcc", "-O2", "-o", WORK + "/" + name, WORK + "/raw.c", *flags], check=True)
    found = doctor.ask(WORK + "/raw")
    check(any("2 system calls of %s/raw go past libc" % WORK in text for text in found["kernel"]), "%s" % found)
    check(any("io_uring" in text for text in found["notes"]), "%s" % found["notes"])
    equal(doctor.ask(WORK + "/raw", environment={"USERSTACK_REWRITE": "on"})["kernel"], [], "rewritten")
    program = doctor.run("--json", WORK + "/raw-static")
    program.wait()
    found = json.loads(program.out())
    equal((found["kind"], found["usable"]), ("static program", found["mode"] == "loader"), "static")

    shutil.copy("/bin/true", WORK + "/privileged")
    os.chown(WORK + "/privileged", 65534, 65534)
    os.chmod(WORK + "/privileged", 0o4755)
    found = doctor.ask(WORK + "/privileged", status=1)
    equal(found["mode"], "refused", "setuid")
    check("setuid to user 65534" in found["problems"][0], "%s" % found["problems"])

    image = bytearray(open("/bin/true", "rb").read())
    image[18:20] = b"\xb7\x00"  # e_machine: AArch64
    write(WORK + "/foreign", image)
    check("aarch64" in doctor.ask(WORK + "/foreign", status=1)["kind"], "another machine")
    write(WORK + "/corrupt", open("/bin/true", "rb").read()[:3000])
    write(WORK + "/nothing", b"\0" * 100)
    for name in ("corrupt", "nothing"):
        equal(doctor.ask(WORK + "/" + name, status=1)["mode"], "refused", name)
    for words, status in (("no-such-command", 127), ("/etc/passwd", 126)):
        program = doctor.run(words)
        equal(program.wait(), status, words)
        equal(len(program.errors().splitlines()), 1, "lines: " + program.errors())


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o755)


def configurations(doctor):
    def problem(words, **options):
        found = doctor.ask("true", status=1, **options)
        check(any(words in text for text in found["problems"]), "%r in %s" % (words, found["problems"]))
    problem("USERSTACK_ADDR=10.77: not valid", environment={"USERSTACK_ADDR": "10.77"})
    problem("USERSTACK_COLOUR=red: unknown variable", environment={"USERSTACK_COLOUR": "red"})
    problem("but no TAP", environment={"USERSTACK_DEV": "tap:lo"})
    harness.ip("link add eth9 type veth peer name eth8", "link set eth8 up", "link set eth9 up",
               "addr add 10.99.0.1/24 dev eth8", "route add default via 10.99.0.2 metric 99")
    for device, words in (("nowhere", "there is no such interface"), ("lo", "not Ethernet"),
                          ("eth9,mode=fast", "is not known"), ("eth9,queue=1", "no queue 1"),
                          ("eth8", "default route")):
        problem(words, environment={"USERSTACK_DEV": "xdp:" + device})
    problem("USERSTACK_MTU=1501", environment={"USERSTACK_DEV": "xdp:eth9", "USERSTACK_MTU": "1501"})
    equal(doctor.ask("true", environment={"USERSTACK_DEV": "xdp:eth8,force"})["problems"], [], "forced")
    harness.ip("link del eth9")
    problem("USERSTACK_RESOLV_CONF=/nowhere: cannot be read", environment={"USERSTACK_RESOLV_CONF": "/nowhere"})
    problem("USERSTACK_CONFIG=/nowhere: cannot be read", environment={"USERSTACK_CONFIG": "/nowhere"})
    problem("no configuration", environment={"USERSTACK_DEV": "", "USERSTACK_ADDR": "", "USERSTACK_GATEWAY": "",
                                             "USERSTACK_MAC": ""})
    # Where everybody may open /dev/net/tun it is the TAP that is refused.
    tun = "cannot be opened" if os.stat("/dev/net/tun").st_mode & 0o6 != 0o6 else "needs CAP_NET_ADMIN"
    problem(tun, start=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    text = doctor.run("true").expect(0).out().decode()
    check("verdict:       usable" in text and "mode:          symbols" in text, text)
    check("does not exist" not in text and "is held" not in text, text)
    holder = doctor.net.wrapped("/usr/bin/python3", "-c", "import socket, time; s = socket.socket(); time.sleep(100)")
    harness.eventually(lambda: b"is held by a running program" in doctor.run("true").expect(0).out(), "a held TAP")
    holder.stop()


def test(net):
    harness.need("gcc", "curl", "setpriv")
    if net.native or net.xdp:
        harness.skip("it looks at one configuration, of a TAP")
    doctor = Doctor(net)
    kinds(doctor)
    configurations(doctor)
    doctor.agrees("/usr/bin/python3", "-c", "0")
    doctor.agrees("/usr/bin/curl", "--version")
    if shutil.which("node"):
        doctor.agrees("node", "-e", "0")
    if shutil.which("caddy"):
        found = doctor.agrees("caddy", "version")
        equal(found["kind"], "Go program, dynamic", "caddy")
        found = doctor.ask("caddy", status=1)
        check("go past libc" in found["problems"][0], "%s" % found["problems"])


harness.run(test)
