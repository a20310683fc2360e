// Call: a system call of a rewritten site, made by the dispatcher that the symbols use too.
//
// What a site has that a symbol has not: it may be in the middle of libc. glibc makes a thread
// cancellable at any instruction around its blocking calls; inside the stack, with its lock held,
// that must not be (the sleeps of shim/wait.cc are cancellable by themselves). And it may run in a
// child that borrows its parent's memory (posix_spawn): that child's descriptors are its own, the
// table in memory is its parent's, so its calls are the kernel's.
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "shim/dispatch/dispatch.h"
#include "shim/dispatch/epoll.h"
#include "shim/hooks/processes.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/rewrite/entry.h"
#include "shim/rewrite/numbers.h"
#include "shim/rewrite/watch.h"

namespace userstack::shim {
namespace {

// Calls that change which numbers are open, or end the process: what a child does between vfork and
// exec.
bool ChangesNumbers(long number) {
  switch (number) {
    case SYS_close:
    case SYS_close_range:
    case SYS_dup:
    case SYS_dup2:
    case SYS_dup3:
    case SYS_fcntl:
    case SYS_socket:
    case SYS_accept:
    case SYS_accept4:
    case SYS_exit_group:
      return true;
  }
  return false;
}

// A child of a fork that no hook saw has memory of its own, and is noticed by its next session.
bool BorrowsMemory() {
  return g_local.fork_mark != nullptr && g_local.fork_mark->load(std::memory_order_relaxed) != 0 &&
         RawSyscall(SYS_getpid) != g_local.pid;
}

bool IsKernelWait(long number, const long* a) {
  const bool waits = number == SYS_epoll_wait || number == SYS_epoll_pwait;
  return waits && CurrentMode() == Mode::kStack && !IsOurs(static_cast<int>(a[0]));
}

// The sleep itself. A signal that comes to a guest after its call was made and before it sleeps is
// put off (guest/bare.cc): it zeroes the timeout, so that the handler runs at once.
long SleepInKernel(long number, const long* a) {
  constexpr long kForever = 1L << 40;  // seconds
  ThreadState& state = t_state;
  const auto timeout = static_cast<int>(a[3]);
  timespec sleep{kForever, 0};
  if (timeout >= 0) sleep = {timeout / 1000, timeout % 1000 * 1'000'000L};
  state.sleep_timeout = &sleep;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const bool masks = number == SYS_epoll_pwait;
  long count = -EINTR;
  if (!state.leaves_for_handlers) {
    count = RawSyscall(SYS_epoll_pwait2, a[0], a[1], a[2], Word(&sleep), masks ? a[4] : 0,
                       masks ? a[5] : 0);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  state.sleep_timeout = nullptr;
  if (count == -ENOSYS || count == -EPERM)
    return RawSyscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  return count == 0 && state.leaves_for_handlers ? -EINTR : count;
}

// A wait in the kernel during which the instance may become the stack's too, as the hooks of epoll
// have it: then the events of the upgrade are dropped, and both halves are waited on.
long WaitOnKernel(long number, const long* a, bool* handled) {
  const int epoll = static_cast<int>(a[0]);
  auto* events = reinterpret_cast<epoll_event*>(a[1]);
  const auto timeout = static_cast<int>(a[3]);
  if (timeout == 0) return 0;  // nobody sleeps
  *handled = true;
  const Instant deadline =
      timeout < 0 ? Instant::Never() : MonotonicNow() + Duration::Milliseconds(timeout);
  {
    const KernelSleep sleep(epoll);
    if (!IsOurs(epoll)) {
      const long count = SleepInKernel(number, a);
      if (!IsOurs(epoll) || count < 0) return count;
      const int kept = DropKicks(events, static_cast<int>(count));
      if (kept != 0 || count == 0) return kept;
    }
  }
  timespec rest{};
  if (timeout > 0) {
    const Duration left = std::max(Duration{}, deadline - MonotonicNow());
    rest = {left.seconds(), left.nanoseconds % 1'000'000'000};
  }
  const auto* mask = number == SYS_epoll_pwait ? reinterpret_cast<const sigset_t*>(a[4]) : nullptr;
  return sys_epoll_pwait2(epoll, events, static_cast<int>(a[2]), timeout < 0 ? nullptr : &rest,
                          mask);
}

class NotCancellable {
 public:
  NotCancellable() { pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type_); }
  ~NotCancellable() {
    if (type_ != PTHREAD_CANCEL_DEFERRED) pthread_setcanceltype(type_, nullptr);
  }
  NotCancellable(const NotCancellable&) = delete;
  NotCancellable& operator=(const NotCancellable&) = delete;

 private:
  int type_ = PTHREAD_CANCEL_DEFERRED;
};

// The kernel does not watch children. Those of a vfork are not to be: they exec.
bool ChildIsWatched(long number, const long* a) {
  constexpr unsigned long kBorrowed = CLONE_VM | CLONE_VFORK;
  unsigned long flags = 0;
  if (number == SYS_clone) flags = static_cast<unsigned long>(a[0]);
  // The first word of struct clone_args; the kernel refuses what is no address.
  constexpr long kLowestAddress = 4096;
  if (number == SYS_clone3 && a[0] >= kLowestAddress) {
    flags = *reinterpret_cast<const uint64_t*>(a[0]);
  }
  return (flags & kBorrowed) != kBorrowed;
}

// What is different while code is watched. *answer is set, or the call goes on as any other.
bool AnswerWatched(long number, const long* a, rewrite::Answer* answer) {
  const rewrite::Concern concern = rewrite::ConcernOf(number);
  if (concern == rewrite::Concern::kChild) {
    *answer = {0, ChildIsWatched(number, a) ? rewrite::kPassedWatched : rewrite::kPassed};
    return true;
  }
  if (concern == rewrite::Concern::kSignals) {
    bool handled = false;
    const long result = SignalCall(number, a, &handled);
    *answer = {result, handled ? rewrite::kAnswered : rewrite::kPassed};
    return true;
  }
  if (!rewrite::WaitsWithMask(number)) return false;
  WaitMask storage;
  long copy[6];
  if (!WithoutWatchSignal(number, a, copy, &storage)) return false;
  const NotCancellable guard;
  bool handled = false;
  long result = DispatchByNumber(number, copy, &handled);
  if (!handled) {
    result = RawSyscall(number, copy[0], copy[1], copy[2], copy[3], copy[4], copy[5]);
  }
  *answer = {result, rewrite::kAnswered};
  return true;
}

}  // namespace
}  // namespace userstack::shim

extern "C" userstack::shim::rewrite::Answer userstack_rewrite_call(long number,
                                                                   const long* arguments) {
  using namespace userstack::shim;  // NOLINT: this is the dispatcher's other front end
  const bool small_stack = (number & rewrite::kFromSmallStack) != 0;
  number &= ~rewrite::kFromSmallStack;
  if (ChangesNumbers(number) && BorrowsMemory()) return {0, rewrite::kPassed};
  const int saved_errno = errno;
  rewrite::Answer watched;
  if (g_watching.load(std::memory_order_relaxed) && AnswerWatched(number, arguments, &watched)) {
    errno = saved_errno;
    return watched;
  }
  bool handled = false;
  long result = 0;
  {
    const NotCancellable guard;
    if (number == SYS_exit_group) {
      EndProcess();
    } else if (small_stack && IsKernelWait(number, arguments)) {
      result = WaitOnKernel(number, arguments, &handled);
    } else {
      result = DispatchByNumber(number, arguments, &handled);
    }
  }
  errno = saved_errno;
  return {result, handled ? rewrite::kAnswered : rewrite::kPassed};
}
