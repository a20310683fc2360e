// Bare: what runs between guest and host. entry.S calls it in the guest's FS and with the guest's
// vector registers live, and the kernel calls it on whatever stack a signal found. So: general
// registers only (CMakeLists.txt), no thread-local storage, no libc; state is found through GS.
#include <sys/syscall.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>

#include "shim/guest/actions.h"
#include "shim/guest/calls.h"
#include "shim/guest/thread.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/rewrite/entry.h"

using userstack::shim::RawSyscall;
using userstack::shim::Word;
using userstack::shim::guest::CurrentThread;
using userstack::shim::guest::Delivery;
using userstack::shim::guest::GuestThread;
using userstack::shim::guest::Handler;
using userstack::shim::guest::KernelAction;
using userstack::shim::guest::kSignals;

constinit Handler userstack_guest_handlers[kSignals] = {};

namespace userstack::shim::guest {
namespace {

constexpr uint64_t kTerminates = 1;  // what userstack_guest_special says
constexpr int kMaskBytes = 8;

constinit KernelAction g_actions[kSignals];
constinit std::atomic<int> g_writer{0};
constinit bool g_catch_termination = false;
constinit bool g_keep_trap_signal = false;

constexpr uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }

// Those that the kernel raises at an instruction: it kills a thread that blocks them.
constexpr uint64_t kSynchronous =
    Bit(SIGSEGV) | Bit(SIGBUS) | Bit(SIGFPE) | Bit(SIGILL) | Bit(SIGTRAP) | Bit(SIGSYS);

// As in shim/signals.cc: what is sent to end programs.
constexpr uint64_t kEndsProcess = Bit(SIGHUP) | Bit(SIGINT) | Bit(SIGQUIT) | Bit(SIGUSR1) |
                                  Bit(SIGUSR2) | Bit(SIGPIPE) | Bit(SIGALRM) | Bit(SIGTERM) |
                                  Bit(SIGVTALRM) | Bit(SIGPROF) | Bit(SIGIO) | Bit(SIGXCPU) |
                                  ~(Bit(34) - 1);

bool IsHandler(const KernelAction& action) { return action.handler > 1; }

class ActionLock {
 public:
  ActionLock() {
    const uint64_t all = kAllSignals & ~kSynchronous;
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&all), Word(&before_), kMaskBytes);
    while (g_writer.exchange(1) != 0) RawSyscall(SYS_sched_yield);
  }
  ~ActionLock() {
    g_writer.store(0);
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&before_), 0, kMaskBytes);
  }
  ActionLock(const ActionLock&) = delete;
  ActionLock& operator=(const ActionLock&) = delete;

 private:
  uint64_t before_ = 0;
};

// Needed by the kernel's check only: what is caught for its default action never returns.
[[gnu::naked, noreturn]] void Restorer() {
  asm("mov $15, %eax\n\t"
      "syscall\n\t"
      "hlt");
}

bool IsCaught(int signal, const KernelAction& action) {
  return IsHandler(action) ||
         (action.handler == 0 && g_catch_termination && (kEndsProcess & Bit(signal)) != 0);
}

// What the kernel is to do for the guest's `action`. With the lock.
KernelAction ForKernel(int signal, const KernelAction& action) {
  KernelAction kernel = action;
  if (g_keep_trap_signal) kernel.mask &= ~Bit(SIGSYS);
  if (!IsCaught(signal, action)) return kernel;
  kernel.handler = reinterpret_cast<uint64_t>(&userstack_guest_signal);
  kernel.flags &= ~static_cast<uint64_t>(static_cast<unsigned>(SA_RESETHAND));
  kernel.flags |= SA_SIGINFO;
  if (!IsHandler(action)) {
    kernel.flags = SA_SIGINFO | SA_ONSTACK | kRestorer;
    kernel.restorer = reinterpret_cast<uint64_t>(&Restorer);
  }
  return kernel;
}

void Publish(int signal, const KernelAction& action) {
  g_actions[signal] = action;
  const bool direct =
      IsHandler(action) && (action.flags & static_cast<unsigned>(SA_RESETHAND)) == 0;
  Handler& handler = userstack_guest_handlers[signal];
  __atomic_store_n(&handler.special, direct ? 0 : 1, __ATOMIC_RELEASE);
  __atomic_store_n(&handler.address, action.handler, __ATOMIC_RELEASE);
}

long Install(int signal, const KernelAction& action) {
  const KernelAction kernel = ForKernel(signal, action);
  return RawSyscall(SYS_rt_sigaction, signal, Word(&kernel), 0, kMaskBytes);
}

// For the next time.
Delivery* FreeDelivery(GuestThread* thread) {
  Delivery* oldest = &thread->deliveries[0];
  for (Delivery& delivery : thread->deliveries) {
    if (delivery.busy == 0) return &delivery;
    if (delivery.busy < oldest->busy) oldest = &delivery;
  }
  return oldest;
}

}  // namespace

long ChangeAction(int signal, const KernelAction* action, KernelAction* old) {
  if (signal <= 0 || signal >= kSignals) return -EINVAL;
  if (action != nullptr && (signal == SIGKILL || signal == SIGSTOP)) return -EINVAL;
  const ActionLock lock;
  const KernelAction before = g_actions[signal];
  if (action != nullptr) {
    // In this order a handler is never gone to that was not asked for.
    Publish(signal, *action);
    const bool kept = signal == SIGSYS && g_keep_trap_signal;
    const long result = kept ? 0 : Install(signal, *action);
    if (result < 0) {
      Publish(signal, before);
      return result;
    }
  }
  if (old != nullptr) *old = before;
  return 0;
}

void ReadActions() {
  const ActionLock lock;
  for (int signal = 1; signal < kSignals; ++signal) {
    KernelAction action;
    if (RawSyscall(SYS_rt_sigaction, signal, 0, Word(&action), kMaskBytes) != 0) continue;
    // Handlers of the host's libc are no business of the guest.
    if (IsHandler(action)) action = {};
    Publish(signal, action);
  }
}

void CatchTermination() {
  const ActionLock lock;
  g_catch_termination = true;
  for (int signal = 1; signal < kSignals; ++signal) {
    if (g_actions[signal].handler == 0 && (kEndsProcess & Bit(signal)) != 0) {
      Install(signal, g_actions[signal]);
    }
  }
}

void KeepTrapSignal() { g_keep_trap_signal = true; }

}  // namespace userstack::shim::guest

using namespace userstack::shim::guest;  // NOLINT: entry.S calls what follows

bool userstack_guest_concerns(long number, const long* arguments) {
  using userstack::shim::rewrite::kFromSmallStack;
  return IsEmulated(number, arguments) ||
         userstack_rewrite_concerns(number | kFromSmallStack, arguments);
}

void userstack_guest_put_off(int signal, const siginfo_t* info, void* context) {
  GuestThread* const thread = CurrentThread();
  if ((kSynchronous & Bit(signal)) != 0 && info->si_code > 0) {
    // A fault in our own code, or at a bad address that the guest gave: the end, as it would be.
    const KernelAction end;
    RawSyscall(SYS_rt_sigaction, signal, Word(&end), 0, kMaskBytes);
    return;
  }
  const uint64_t all = kAllSignals & ~kSynchronous;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&all), 0, kMaskBytes);
  auto* const mask = reinterpret_cast<uint64_t*>(&static_cast<ucontext_t*>(context)->uc_sigmask);
  if (thread->signal_count < kMaxPutOff) {
    siginfo_t* const kept = &thread->signals[thread->signal_count++];
    __builtin_memcpy(kept, info, sizeof *kept);
    kept->si_signo = signal;
  }
  thread->saved_mask = *mask;
  thread->put_off = 1;
  *mask = all;
  userstack::shim::ThreadState& state = *thread->state;
  state.handlers_run = state.handlers_run + 1;
  state.leaves_for_handlers = true;
  if ((g_actions[signal].flags & SA_RESTART) == 0) state.all_restart = false;
  if (state.sleep_timeout != nullptr) {
    state.sleep_timeout->tv_sec = 0;
    state.sleep_timeout->tv_nsec = 0;
  }
}

void userstack_guest_requeue(Delivery* delivery) {
  GuestThread* const thread = CurrentThread();
  const long pid = RawSyscall(SYS_getpid);
  const long tid = RawSyscall(SYS_gettid);
  uint64_t raised = 0;
  for (uint32_t i = 0; i < thread->signal_count; ++i) {
    siginfo_t& info = thread->signals[i];
    raised |= Bit(info.si_signo);
    RawSyscall(SYS_rt_tgsigqueueinfo, pid, tid, info.si_signo, Word(&info));
  }
  delivery->mask = thread->saved_mask;
  delivery->first_mask = thread->saved_mask & ~raised;
  thread->signal_count = 0;
  thread->put_off = 0;
  thread->state->leaves_for_handlers = false;
  delivery->busy = ++thread->delivery_count;
  thread->next_delivery = FreeDelivery(thread);
}

uint64_t userstack_guest_special(int signal) {
  const KernelAction action = g_actions[signal];
  if (action.handler == 0) return g_catch_termination ? kTerminates : 0;
  if (!IsHandler(action)) return 0;
  const KernelAction end;
  if ((action.flags & static_cast<unsigned>(SA_RESETHAND)) != 0) {
    ChangeAction(signal, &end, nullptr);
  }
  return action.handler;
}
