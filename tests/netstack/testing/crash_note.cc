#include "tests/netstack/testing/crash_note.h"

#include <signal.h>

#include <algorithm>
#include <utility>
#include <vector>

extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace userstack::testing {
namespace {

std::vector<CrashNote*>& Notes() {
  static auto* const notes = new std::vector<CrashNote*>;  // outlives every other object
  return *notes;
}

void OnSignal(int number) {
  PrintCrashNotes();
  raise(number);  // SA_RESETHAND: the default action now
}

}  // namespace

CrashNote::CrashNote(std::function<void()> print) : print_(std::move(print)) {
  Notes().push_back(this);
}

CrashNote::~CrashNote() {
  Notes().erase(std::remove(Notes().begin(), Notes().end(), this), Notes().end());
}

void PrintCrashNotes() {
  std::vector<CrashNote*> notes = std::exchange(Notes(), {});
  for (auto note = notes.rbegin(); note != notes.rend(); ++note) (*note)->print_();
}

void InstallCrashSignals() {
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback([] { PrintCrashNotes(); });
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
