// CheckFailed for every test: prints where, lets the running simulation print its exchange, aborts.
#include <cstdio>
#include <cstdlib>

#include "netstack/base/check.h"
#include "tests/netstack/testing/crash_note.h"

namespace userstack {

void CheckFailed(const char* what, const char* file, unsigned line) {
  std::fprintf(stderr, "Check failed: %s (%s:%u)\n", what, file, line);
  testing::PrintCrashNotes();
  std::abort();
}

}  // namespace userstack
