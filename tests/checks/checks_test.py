#!/usr/bin/python3
"""The checks of scripts/ find what they are for: each is run on planted violations, and on an
innocent twin.

  tests/checks/checks_test.py CXX PLANTED_ARENA_OBJECT [unittest arguments]
"""

import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CXX = sys.argv[1]
PLANTED = sys.argv[2]


def check(name, *arguments):
    """Exit status and lines of a check."""
    done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", name), *arguments],
                          capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()


class Planted(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="userstack-checks-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def write(self, path, text):
        path = os.path.join(self.directory, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def compile(self, text, output, *flags):
        source = self.write("x.cc", text)
        output = os.path.join(self.directory, output)
        subprocess.run([CXX, "-std=c++20", "-O1", "-fPIC", source, "-o", output, *flags],
                       check=True)
        return output

    def test_arena_check_names_every_planted_field(self):
        status, lines = check("check-arena", PLANTED)
        self.assertEqual(status, 1, lines)
        found = {line.split(" ")[0].removeprefix("userstack::planted::") for line in lines}
        for field in ("function", "method", "literal", "anything", "reference", "file"):
            self.assertIn(f"Violations::{field}", found, lines)
        self.assertIn("Elsewhere::function", found)
        self.assertIn("WithVirtual", found)
        self.assertIn("in_second_union", " ".join(lines))
        # std::function, std::string, std::unique_ptr and std::vector, by the pointers inside.
        inside = " ".join(line for line in lines if line.startswith("std::"))
        for name in ("_Function_base", "basic_string", "_Head_base", "_Vector_impl_data"):
            self.assertIn(name, inside, lines)
        self.assertNotIn("Fine", " ".join(lines))

    def test_arena_check_refuses_objects_without_debug_information(self):
        bare = self.compile("int x;", "x.o", "-c", "-g0")
        self.assertEqual(check("check-arena", bare)[0], 1)

    def test_include_check_names_every_planted_include(self):
        planted = {
            "netstack/tcp/a.cc": ['#include "shim/shared.h"', '#include "backend/device.h"',
                                  "#include <thread>", '#include "netstack/udp/udp.h"',
                                  '#include "netstack/socket/socket.h"'],
            "netstack/ip/b.h": ['#include "netstack/tcp/tcp.h"'],
            "netstack/wire/c.h": ['#include "netstack/packet/packet.h"'],
            "netstack/unknown/d.h": ['#include "netstack/base/time.h"'],
            "backend/e.cc": ['#include "shim/real.h"', '#include "netstack/ip/ip.h"'],
            "shim/f.cc": ['#include "tests/x.h"'],
        }
        expected = set()
        for path, lines in planted.items():
            self.write(path, "// comment\n" + "\n".join(lines) + "\n")
            expected |= {f"{path}:{number}" for number in range(2, 2 + len(lines))}
        self.write("netstack/tcp/fine.cc", '#include <cstdint>\n#include "netstack/ip/ip.h"\n'
                   '#include "netstack/packet/core.h"\n')
        self.write("backend/fine.cc", '#include <thread>\n#include "netstack/packet/core.h"\n')
        status, lines = check("check-includes", self.directory)
        self.assertEqual(status, 1)
        self.assertEqual({":".join(line.split(":")[:2]) for line in lines[:-1]}, expected)

    def test_export_check_finds_names_that_libc_has_not_and_libraries(self):
        bad = self.compile("#include <cmath>\n#include <cstdlib>\n"
                           'extern "C" int socket(int, int, int) { return -1; }\n'
                           "int internal(double x) { return std::tgamma(x) > 1; }\n", "bad.so",
                           "-shared", "-Wl,--no-as-needed", "-lm")
        status, lines = check("check-exports", bad)
        self.assertEqual(status, 1)
        self.assertTrue(any("_Z8internald" in line for line in lines), lines)
        self.assertTrue(any("needs libm.so.6" in line for line in lines), lines)
        good = self.compile('extern "C" [[gnu::visibility("default")]] int socket(int, int, int)'
                            "{ return -1; }\nint internal() { return 1; }\n", "good.so", "-shared",
                            "-fvisibility=hidden", "-nodefaultlibs", "-lc")
        self.assertEqual(check("check-exports", good)[0], 0, check("check-exports", good)[1])

    def test_purity_check_finds_allocation_clocks_and_mutable_globals(self):
        text = ("#include <ctime>\nint counter; static int hidden = 3; "
                "int* Make() { return new int(hidden++); }\n"
                "long Now() { return time(nullptr); }\n")
        bad = self.archive(self.compile(text, "bad.o", "-c"))
        status, lines = check("check-purity", bad)
        self.assertEqual(status, 1)
        report = " ".join(lines)
        for name in ("counter", "hidden", "_Znwm", "time"):
            self.assertIn(name, report)
        good = self.archive(self.compile("static const int k[] = {1, 2}; "
                                         "int Get(int i) { return k[i]; }", "good.o", "-c"))
        self.assertEqual(check("check-purity", good)[0], 0)

    @staticmethod
    def archive(path):
        subprocess.run(["ar", "rc", path + ".a", path], check=True)
        return path + ".a"


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
