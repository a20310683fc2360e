// Hooks: sigaction and its older relatives, through the trampoline (shim/signals.h), so that no
// handler runs while its thread is inside the stack.
#include "shim/signals.h"

#include <signal.h>

#include <atomic>

#include "shim/hooks/catching.h"
#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

// siginterrupt's memory: signals that signal() installs without SA_RESTART.
std::atomic<uint64_t> g_interrupting{0};

long Change(int signal, const struct sigaction* action, struct sigaction* old) {
  if (signal == SIGSYS && ChangeCaughtAction(action, old)) return 0;
  return SignalAction(signal, action, old);
}

bool IsSignal(int signal) { return signal >= 1 && signal < NSIG; }
uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }

sighandler_t Fail(int error) {
  errno = error;
  return SIG_ERR;
}

sighandler_t Set(int signal, sighandler_t handler, int flags, bool mask_itself) {
  if (handler == SIG_ERR || !IsSignal(signal)) return Fail(EINVAL);
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  if (mask_itself) sigaddset(&action.sa_mask, signal);
  const long result = Change(signal, &action, &old);
  return result < 0 ? Fail(static_cast<int>(-result)) : old.sa_handler;
}

sighandler_t SetHeld(int signal) {
  sigset_t one;
  sigset_t before;
  sigemptyset(&one);
  sigaddset(&one, signal);
  if (sigprocmask(SIG_BLOCK, &one, &before) != 0) return SIG_ERR;
  if (sigismember(&before, signal) == 1) return SIG_HOLD;
  struct sigaction old {};
  const long result = Change(signal, nullptr, &old);
  return result < 0 ? Fail(static_cast<int>(-result)) : old.sa_handler;
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int sigaction(int signal, const struct sigaction* action, struct sigaction* old) noexcept {
  return ReturnInt(Change(signal, action, old));
}
[[gnu::alias("sigaction")]] int __sigaction(int signal, const struct sigaction* action,
                                            struct sigaction* old) noexcept;

// BSD's: the handler stays, is masked while it runs, and interrupted calls are restarted.
sighandler_t signal(int number, sighandler_t handler) noexcept {
  const bool interrupting =
      IsSignal(number) && (g_interrupting.load(std::memory_order_relaxed) & Bit(number)) != 0;
  return Set(number, handler, interrupting ? 0 : SA_RESTART, true);
}
[[gnu::alias("signal")]] sighandler_t bsd_signal(int number, sighandler_t handler) noexcept;
[[gnu::alias("signal")]] sighandler_t ssignal(int number, sighandler_t handler) noexcept;

// System V's: once only, not masked, calls are interrupted.
sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return Set(number, handler, static_cast<int>(SA_RESETHAND | SA_NODEFER), false);
}
[[gnu::alias("sysv_signal")]] sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept;

sighandler_t sigset(int number, sighandler_t disposition) noexcept {
  if (disposition == SIG_ERR || !IsSignal(number)) return Fail(EINVAL);
  if (disposition == SIG_HOLD) return SetHeld(number);
  const sighandler_t old = Set(number, disposition, 0, false);
  if (old == SIG_ERR) return old;
  sigset_t one;
  sigset_t before;
  sigemptyset(&one);
  sigaddset(&one, number);
  if (sigprocmask(SIG_UNBLOCK, &one, &before) != 0) return SIG_ERR;
  return sigismember(&before, number) == 1 ? SIG_HOLD : old;
}

int sigignore(int number) noexcept { return Set(number, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0; }

int siginterrupt(int number, int interrupt) noexcept {
  struct sigaction action {};
  long result = IsSignal(number) ? Change(number, nullptr, &action) : -EINVAL;
  if (result < 0) return ReturnInt(result);
  if (interrupt != 0) {
    g_interrupting.fetch_or(Bit(number));
    action.sa_flags &= ~SA_RESTART;
  } else {
    g_interrupting.fetch_and(~Bit(number));
    action.sa_flags |= SA_RESTART;
  }
  result = Change(number, &action, nullptr);
  return ReturnInt(result);
}

}  // extern "C"
