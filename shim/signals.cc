// Signals: see signals.h. How a handler is put off: the trampoline keeps the siginfo, and blocks
// every signal in the mask that its return restores; when the session ends the signal is queued
// again for this thread, with its siginfo, and the program's mask is restored, so that the kernel
// delivers it as it would have. It costs system calls only when a signal really comes in a session.
//
// Only this thread and its handlers touch t_state. The table has two records per signal; `current`
// says which one is valid, so that a handler never reads one that is being written.
#include "shim/signals.h"

#include <cerrno>
#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr int kSignals = 65;
constexpr size_t kKernelMaskBytes = 8;
// glibc's own: pthread_cancel and the setxid broadcast.
constexpr int kSignalCancel = 32;
constexpr int kSignalSetxid = 33;
// And SIGSYS is left as it is: it is synchronous, and may be the library's own (hooks/catching.cc,
// rewrite/watch.h).

struct Record {
  struct sigaction action;  // the program's
  bool terminates = false;  // it is SIG_DFL, and the default action ends the process
};

struct Entry {
  Record records[2];
  std::atomic<uint8_t> current{0};
  std::atomic<bool> taken{false};  // the kernel has the trampoline
};

constinit Entry g_table[kSignals];
constinit std::atomic<bool> g_taken_over{false};
constinit std::atomic<int> g_writer{0};
using TakeOver = void (*)();
constinit TakeOver g_replacement = nullptr;
constinit Original<int(int, const struct sigaction*, struct sigaction*)> real_sigaction(
    "sigaction");

const Record& Current(int signal) {
  const Entry& entry = g_table[signal];
  return entry.records[entry.current.load(std::memory_order_acquire)];
}

bool IsSynchronous(int signal) {
  return signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL ||
         signal == SIGTRAP || signal == SIGSYS || signal == SIGABRT;
}

// Signals that are sent to end programs. Those of crashes keep their default action: the state that
// ProcessExit needs may be what is broken.
bool EndsProcess(int signal) {
  switch (signal) {
    case SIGHUP:
    case SIGINT:
    case SIGQUIT:
    case SIGUSR1:
    case SIGUSR2:
    case SIGPIPE:
    case SIGALRM:
    case SIGTERM:
    case SIGVTALRM:
    case SIGPROF:
    case SIGIO:
    case SIGXCPU:
      return true;
    default:
      return signal >= SIGRTMIN && signal <= SIGRTMAX;
  }
}

bool HasHandler(const struct sigaction& action) {
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

void SetProcessMask(const sigset_t* set, sigset_t* old) {
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(set), Word(old), kKernelMaskBytes);
}

// Everything that may be put off.
sigset_t DeferrableSignals() {
  sigset_t set;
  memset(&set, 0xff, sizeof(set));
  auto* bits = reinterpret_cast<uint64_t*>(&set);
  for (int signal = 1; signal < kSignals; ++signal) {
    if (!IsSynchronous(signal) && signal != kSignalCancel && signal != kSignalSetxid) continue;
    bits[0] &= ~(uint64_t{1} << (signal - 1));
  }
  return set;
}

void Defer(int signal, const siginfo_t* info, ucontext_t* context) {
  ThreadState& state = t_state;
  const uint32_t index = state.deferred_count;
  if (index < kMaxDeferredSignals) {
    state.deferred[index] = *info;
    state.deferred[index].si_signo = signal;
    state.deferred_count = index + 1;
  }
  // The outermost handler returns last, so its mask, the program's, is what stays in saved_mask.
  memcpy(&state.saved_mask, &context->uc_sigmask, kKernelMaskBytes);
  const sigset_t all = DeferrableSignals();
  auto* mask = reinterpret_cast<uint64_t*>(&context->uc_sigmask);
  *mask |= *reinterpret_cast<const uint64_t*>(&all);
}

// The default action, after the stack has let go of the process.
void Terminate(int signal) {
  ProcessExit();
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  real_sigaction(signal, &action, nullptr);
  RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), signal);
  const uint64_t mask = uint64_t{1} << (signal - 1);
  RawSyscall(SYS_rt_sigprocmask, SIG_UNBLOCK, Word(&mask), 0, kKernelMaskBytes);  // delivered here
}

void Trampoline(int signal, siginfo_t* info, void* context);

// What the kernel is to do for the program's `action`.
struct sigaction KernelAction(int signal, const struct sigaction& action) {
  struct sigaction kernel = action;
  if (!HasHandler(action) && !(action.sa_handler == SIG_DFL && EndsProcess(signal))) return kernel;
  kernel.sa_sigaction = Trampoline;
  kernel.sa_flags |= SA_SIGINFO;
  // The trampoline resets the handler itself, once it really runs.
  kernel.sa_flags &= ~static_cast<int>(SA_RESETHAND);
  if (!HasHandler(action)) kernel.sa_flags = SA_SIGINFO | SA_ONSTACK;
  return kernel;
}

void Publish(int signal, const struct sigaction& action) {
  Entry& entry = g_table[signal];
  const auto next = static_cast<uint8_t>(1 - entry.current.load(std::memory_order_relaxed));
  entry.records[next].action = action;
  entry.records[next].terminates = action.sa_handler == SIG_DFL && EndsProcess(signal);
  entry.current.store(next, std::memory_order_release);
}

// Writers exclude each other; a handler of the same thread must not find the lock held.
class WriteLock {
 public:
  WriteLock() {
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&kAllSignals), Word(&saved_),
               kKernelMaskBytes);
    int expected = 0;
    while (!g_writer.compare_exchange_weak(expected, 1)) {
      expected = 0;
      RawSyscall(SYS_sched_yield);
    }
  }
  ~WriteLock() {
    g_writer.store(0);
    SetProcessMask(&saved_, nullptr);
  }

 private:
  sigset_t saved_{};
};

void ResetHandler(int signal) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  SignalAction(signal, &action, nullptr);
}

void RunHandler(int signal, siginfo_t* info, void* context) {
  const Record record = Current(signal);
  ThreadState& state = t_state;
  state.handlers_run = state.handlers_run + 1;
  if (state.sleep_timeout != nullptr) *state.sleep_timeout = {};
  if (record.terminates) {
    Terminate(signal);
    return;
  }
  if (!HasHandler(record.action)) return;  // changed since the kernel chose this handler
  if ((record.action.sa_flags & SA_RESTART) == 0) state.all_restart = false;
  if ((record.action.sa_flags & static_cast<int>(SA_RESETHAND)) != 0) ResetHandler(signal);
  // It is not caught (hooks/catching.cc), and may jump out of what is.
  const uint8_t selector = state.catching_selector;
  state.catching_selector = 0;
  record.action.sa_sigaction(signal, info, context);  // a plain handler ignores the rest
  state.catching_selector = selector;
}

// A handler may use the stack itself, or leave by siglongjmp: the interrupted wait's sleeper is put
// aside, so that the handler has one of its own.
void RunOverWait(int signal, siginfo_t* info, void* context) {
  ThreadState& state = t_state;
  DetachWait();
  Sleeper* const outer = state.suspended;
  const void* const outer_frame = state.suspended_frame;
  Sleeper* const mine = state.sleeper;
  timespec* const timeout = state.sleep_timeout;
  state.suspended = mine;
  state.suspended_frame = __builtin_frame_address(0);
  state.sleeper = nullptr;
  state.sleep_timeout = nullptr;
  RunHandler(signal, info, context);
  Sleeper* const used = state.sleeper;
  state.suspended = outer;
  state.suspended_frame = outer_frame;
  state.sleeper = mine;
  state.sleep_timeout = timeout;
  if (timeout != nullptr) *timeout = {};
  state.wait_detached = true;
  if (used == nullptr || used == mine) return;
  state.in_session = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (LockShared()) {
    ReleaseSleeper(used, MonotonicNow());
    LeaveStack();
  } else {
    state.in_session = false;
  }
}

void Trampoline(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  ThreadState& state = t_state;
  if (state.in_session && !IsSynchronous(signal)) {
    Defer(signal, info, static_cast<ucontext_t*>(context));
  } else if (state.waiting && !state.in_session) {
    RunOverWait(signal, info, context);
  } else {
    RunHandler(signal, info, context);
  }
  errno = saved_errno;
}

}  // namespace

SignalsHeld::SignalsHeld() {
  const sigset_t set = DeferrableSignals();
  RawSyscall(SYS_rt_sigprocmask, SIG_BLOCK, Word(&set), Word(&before_), kKernelMaskBytes);
}

SignalsHeld::~SignalsHeld() { SetProcessMask(&before_, nullptr); }

bool SignalsHeld::has_pending() const {
  uint64_t pending = 0;
  uint64_t blocked = 0;
  RawSyscall(SYS_rt_sigpending, Word(&pending), kKernelMaskBytes);
  memcpy(&blocked, &before_, sizeof blocked);
  return (pending & ~blocked) != 0;
}

void DeliverDeferredSignals() {
  ThreadState& state = t_state;
  const uint32_t count = state.deferred_count;
  if (count == 0) return;
  const long pid = RawSyscall(SYS_getpid);
  const long tid = RawSyscall(SYS_gettid);
  const sigset_t mask = state.saved_mask;
  for (uint32_t i = 0; i < count; ++i) {
    siginfo_t& info = state.deferred[i];
    RawSyscall(SYS_rt_tgsigqueueinfo, pid, tid, info.si_signo, Word(&info));
  }
  state.deferred_count = 0;
  SetProcessMask(&mask, nullptr);
}

void ForgetDeferredSignals() {
  ThreadState& state = t_state;
  if (state.deferred_count == 0) return;
  state.deferred_count = 0;
  SetProcessMask(&state.saved_mask, nullptr);
}

void DropAbandonedWait() {
  ThreadState& state = t_state;
  // The stack grows down: a frame below ours that is not ours is gone. A handler on an alternate
  // stack may run anywhere; the distance tells.
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const auto frame = reinterpret_cast<uintptr_t>(state.suspended_frame);
  constexpr uintptr_t kSameStack = 8 << 20;
  if (here <= frame || here - frame > kSameStack) return;
  Sleeper* const abandoned = state.suspended;
  state.suspended = nullptr;
  state.suspended_frame = nullptr;
  ReleaseSleeper(abandoned, MonotonicNow());
}

long SignalAction(int signal, const struct sigaction* action, struct sigaction* old) {
  if (!g_taken_over.load(std::memory_order_acquire) || signal <= 0 || signal >= kSignals ||
      signal == SIGSYS) {
    return real_sigaction(signal, action, old) == 0 ? 0 : -errno;
  }
  const WriteLock lock;
  const int saved_errno = errno;
  struct sigaction before;
  if (real_sigaction(signal, nullptr, &before) != 0) {
    const long error = -errno;
    errno = saved_errno;
    return error;
  }
  if (before.sa_sigaction == Trampoline) before = Current(signal).action;
  if (action != nullptr) {
    const struct sigaction wanted = *action;
    const struct sigaction kernel = KernelAction(signal, wanted);
    Publish(signal, wanted);
    if (real_sigaction(signal, &kernel, nullptr) != 0) {
      const long error = -errno;
      Publish(signal, before);
      errno = saved_errno;
      return error;
    }
  }
  if (old != nullptr) *old = before;
  return 0;
}

void ReplaceSignalTakeOver(void (*take_over)()) { g_replacement = take_over; }

void TakeOverSignals() {
  if (g_replacement != nullptr) {
    g_replacement();
    return;
  }
  if (g_taken_over.exchange(true)) return;
  const int saved_errno = errno;
  for (int signal = 1; signal < kSignals; ++signal) {
    if (signal == kSignalCancel || signal == kSignalSetxid || signal == SIGSYS) continue;
    const WriteLock lock;
    struct sigaction action;
    if (real_sigaction(signal, nullptr, &action) != 0) continue;
    if (action.sa_sigaction == Trampoline) continue;
    const struct sigaction kernel = KernelAction(signal, action);
    if (kernel.sa_sigaction != Trampoline) continue;
    Publish(signal, action);
    real_sigaction(signal, &kernel, nullptr);
  }
  errno = saved_errno;
}

}  // namespace userstack::shim
