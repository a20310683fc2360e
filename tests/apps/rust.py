#!/usr/bin/python3
"""A Rust program whose sockets are rustix's, which makes system calls without libc: with
USERSTACK_REWRITE=on it is on the stack, as server and client. Built by Debian's cargo from Debian's crates."""
import os
import shutil
import subprocess

import harness
from harness import BUILD, HERE, KERNEL4, KERNEL6, STACK4, check

ON = {"USERSTACK_REWRITE": "on"}
CRATES = "/usr/share/cargo/registry"


def build():
    source = os.path.join(HERE, "programs", "rusty")
    binary = os.path.join(BUILD, "rusty")
    newest = max(os.path.getmtime(os.path.join(source, name)) for name in ("Cargo.toml", "src/main.rs"))
    if os.path.exists(binary) and os.path.getmtime(binary) >= newest:
        return binary
    # cargo writes beside its manifest.
    work, home = os.path.join(harness.WORK, "rusty"), os.path.join(harness.WORK, "cargo")
    shutil.copytree(source, work)
    os.makedirs(home)
    with open(home + "/config.toml", "w", encoding="ascii") as file:
        file.write('[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "%s"\n' % CRATES)
    environment = {**os.environ, "CARGO_HOME": home, "RUSTC": "/usr/bin/rustc"}
    subprocess.run(["/usr/bin/cargo", "build", "--offline", "--release", "--quiet", "--target-dir",
                    os.path.join(BUILD, "rusty-target")], check=True, cwd=work, env=environment)
    os.makedirs(BUILD, exist_ok=True)
    shutil.copy(os.path.join(BUILD, "rusty-target", "release", "rusty"), binary + ".new")
    os.rename(binary + ".new", binary)
    return binary


def test(net):
    if not (os.path.exists("/usr/bin/cargo") and os.path.exists("/usr/bin/rustc")):
        harness.skip("Debian's cargo and rustc are not installed")
    if not any(name.startswith("rustix-") for name in os.listdir(CRATES)):
        harness.skip("librust-rustix-dev is not installed")
    rusty = build()
    there = net.kernel(rusty, "serve", KERNEL4 + ":7300")
    six = net.kernel(rusty, "serve", "[%s]:7301" % KERNEL6)
    harness.wait_port(7300, KERNEL4, there)
    harness.wait_port(7301, KERNEL6, six)
    for address in (KERNEL4 + ":7300", "[%s]:7301" % KERNEL6):
        program = net.wrapped(rusty, "send", address, 8 << 20, environment=ON, traced=True).expect(0)
        check(b"%d bytes came back" % (8 << 20) in program.out(), "%r" % program.out())
        net.quiet(program)
    here = net.wrapped(rusty, "serve", STACK4 + ":7302", environment=ON)
    harness.wait_port(7302, STACK4, here)
    program = net.kernel(rusty, "send", STACK4 + ":7302", 8 << 20).expect(0)
    check(b"%d bytes came back" % (8 << 20) in program.out(), "%r" % program.out())
    # Both ends on one stack.
    program = net.wrapped(rusty, "send", STACK4 + ":7302", 1 << 20, environment=ON, traced=True).expect(0)
    check(b"%d bytes came back" % (1 << 20) in program.out(), "%r" % program.out())
    net.owns_no_socket(here)
    net.quiet(here)
    check(here.alive(), "the server died")


harness.run(test)
