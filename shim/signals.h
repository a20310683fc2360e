// Signals: the program's handlers run through a trampoline, so that none runs while its thread
// holds the stack's lock (it might call send() and would wait for itself). A handler that comes in
// the middle of a session is put off until the session ends; one that interrupts a Wait first takes
// the thread out of the stack's queues, so that it may leave by siglongjmp. The kernel keeps what
// the trampoline does not need to know: masks, SA_RESTART, alternate stacks, ucontext.
//
// Owner: a table per process, read by the trampoline; changes under a process-local lock.
// Invariants: 1. What SignalAction reports is what the program set last. 2. SIGSEGV, SIGBUS,
// SIGFPE, SIGILL, SIGTRAP and SIGSYS are never put off.
#pragma once

#include <signal.h>

namespace userstack::shim {

// All that the library may block: where code is watched (rewrite/watch.h) the kernel kills a thread
// that traps while SIGSYS is blocked.
inline constexpr unsigned long kAllSignals = ~(1ul << (SIGSYS - 1));

// sigaction(2) with the program's view of handlers; 0 or -errno. For the hooks of sigaction, signal
// and their relatives. Before the process is attached it costs nothing extra: the kernel's action
// is the program's.
long SignalAction(int signal, const struct sigaction* action, struct sigaction* old);

// Signals whose default action ends the process are caught, once attached, so that its connections
// are closed as the kernel would (see ProcessExit); the program keeps seeing SIG_DFL.
void TakeOverSignals();

// While it lives no handler runs on this thread that could leave by a jump: what is done halfway
// then would stay so for good. For what is short, or asks has_pending() now and then; calls of the
// stack itself need none, theirs are put off.
class SignalsHeld {
 public:
  SignalsHeld();
  ~SignalsHeld();
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;
  // Something waits that would have been delivered.
  bool has_pending() const;

 private:
  sigset_t before_{};
};

// A static program's handlers are not libc's (guest/): `take_over` is called instead.
void ReplaceSignalTakeOver(void (*take_over)());

}  // namespace userstack::shim
