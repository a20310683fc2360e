// What to print when the process is about to die: the running simulation's seed and exchange.
#pragma once

#include <functional>

namespace userstack::testing {

// Replaces the note; an empty function removes it.
void SetCrashNote(std::function<void()> note);
// Prints the note once (a second failure while printing prints nothing).
void PrintCrashNote();
// Prints the note on SIGSEGV, SIGBUS, SIGFPE and SIGILL too, then dies of the signal.
void InstallCrashSignals();

}  // namespace userstack::testing
