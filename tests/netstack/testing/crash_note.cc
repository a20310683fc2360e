#include "tests/netstack/testing/crash_note.h"

#include <signal.h>

#include <utility>

extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace userstack::testing {
namespace {

std::function<void()>& Note() {
  static std::function<void()> note;
  return note;
}

void OnSignal(int number) {
  PrintCrashNote();
  raise(number);  // SA_RESETHAND: the default action now
}

}  // namespace

void SetCrashNote(std::function<void()> note) { Note() = std::move(note); }

void PrintCrashNote() {
  const std::function<void()> note = std::exchange(Note(), nullptr);
  if (note) note();
}

void InstallCrashSignals() {
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback([] { PrintCrashNote(); });
    return;
  }
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    sigaction(number, &action, nullptr);
  }
}

}  // namespace userstack::testing
