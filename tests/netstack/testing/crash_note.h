// What to print when the process is about to die: the running simulation's seed and exchange, a
// fuzzer's input, how to run the same again.
#pragma once

#include <functional>

namespace userstack::testing {

// Prints `print` on a failing Check or a crash while it lives. Notes nest; the newest prints first.
class CrashNote {
 public:
  explicit CrashNote(std::function<void()> print);
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;

 private:
  friend void PrintCrashNotes();
  std::function<void()> print_;
};

// Prints every note once (a second failure while printing prints nothing more).
void PrintCrashNotes();
// Prints the notes on SIGSEGV, SIGBUS, SIGFPE and SIGILL too (or by the sanitizer's hook), then
// dies of the signal.
void InstallCrashSignals();

}  // namespace userstack::testing
