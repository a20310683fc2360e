#!/usr/bin/python3
"""bench/instructions fails when the core executes more than the table says, and only then.

  tests/checks/instructions_test.py PATH_INSTRUCTIONS
"""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCENARIO = "timer_expire_among_100000"


def run(table, *arguments):
    done = subprocess.run([os.path.join(ROOT, "bench", "instructions"), "--program", sys.argv[1],
                           "--only", SCENARIO, "--table", table, *arguments],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def expect(what, wanted, result):
    status, output = result
    if status != wanted:
        sys.exit(f"{what}: status {status}, not {wanted}:\n{output}")


def main():
    with tempfile.TemporaryDirectory(prefix="userstack-instructions-") as directory:
        table = os.path.join(directory, "table.tsv")
        expect("writing a table", 0, run(table, "--update"))
        expect("the same program again", 0, run(table))
        with open(table, encoding="utf-8") as file:
            lines = file.read().splitlines()
        name, core, libc = lines[-1].split("\t")

        def rewrite(figure, compiler=lines[0]):
            with open(table, "w", encoding="utf-8") as file:
                file.write("\n".join([compiler, lines[1], f"{name}\t{figure}\t{libc}"]) + "\n")

        rewrite(int(int(core) / 1.05))
        expect("five per cent more than the table says", 1, run(table))
        rewrite(int(core) * 2)
        expect("half of what the table says", 0, run(table))
        rewrite(int(int(core) / 1.05), "# compiler: another one")
        expect("five per cent more with another compiler", 0, run(table))


main()
