// Watch signals: SIGSYS as the program believes it to be. The kernel kills a watched thread that
// traps with SIGSYS blocked or ignored, so it never is: not in a thread's mask, not in the mask of
// an action, not in that of a wait. What the program asked for is kept here and told back; a SIGSYS
// from elsewhere (kill, a seccomp filter) is given to its handler, or put off while it has it
// blocked.
//
// Owner: the action, whoever holds g_changing; the thread's part, its thread.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <cerrno>
#include <cstring>

#include "shim/real.h"
#include "shim/rewrite/watch.h"
#include "shim/runtime.h"

extern "C" void userstack_rewrite_return_from_signal();

namespace userstack::shim {
namespace {

constexpr int kSignals = 65;
constexpr uint64_t kWatchBit = uint64_t{1} << (SIGSYS - 1);
constexpr long kMaskBytes = 8;
// Below it the kernel says EFAULT, and says it better.
constexpr long kLowestAddress = 4096;
constexpr unsigned long kRestorer = 0x04000000;  // SA_RESTORER

// As rt_sigaction has it.
struct KernelAction {
  uint64_t handler = 0;
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};

constinit KernelAction g_action = {};            // the program's, for SIGSYS
constinit std::atomic<uint64_t> g_masked_by{0};  // signals whose action the program gave the bit
constinit rewrite::ForkableLock g_changing;
constinit std::atomic<uint32_t>* g_forked_mark = nullptr;  // zero in a forked child
constinit std::atomic<long> g_process{0};

constinit thread_local bool t_blocked __attribute__((tls_model("initial-exec"))) = false;
constinit thread_local bool t_pending __attribute__((tls_model("initial-exec"))) = false;

uint64_t Bit(long signal) { return uint64_t{1} << (signal - 1); }

long KernelSetAction(long signal, const KernelAction* action, KernelAction* old) {
  return RawSyscall(SYS_rt_sigaction, signal, Word(action), Word(old), kMaskBytes);
}

// A child that shares our memory, between vfork and exec, has actions and masks of its own: they
// are the kernel's business. It is not watched.
bool BorrowsMemory() {
  const long self = RawSyscall(SYS_getpid);
  if (g_forked_mark != nullptr && g_forked_mark->exchange(1) == 0) g_process.store(self);
  return self != g_process.load();
}

void Raise() { RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), SIGSYS); }

void SetBlocked(bool blocked) {
  t_blocked = blocked;
  if (blocked || !t_pending) return;
  t_pending = false;
  Raise();
}

long SetAction(const long* a, bool* handled) {
  const long signal = a[0];
  const auto* wanted = reinterpret_cast<const KernelAction*>(a[1]);
  auto* old = reinterpret_cast<KernelAction*>(a[2]);
  const auto bad = [](const void* pointer) {
    return pointer != nullptr && Word(pointer) < kLowestAddress;
  };
  if (signal <= 0 || signal >= kSignals || a[3] != kMaskBytes || bad(wanted) || bad(old)) return 0;
  *handled = true;
  const rewrite::ForkableGuard changing(g_changing);
  if (signal == SIGSYS) {
    const KernelAction before = g_action;
    if (wanted != nullptr) g_action = *wanted;
    if (old != nullptr) *old = before;
    return 0;
  }
  const bool had_bit = (g_masked_by.load() & Bit(signal)) != 0;
  KernelAction stripped;
  if (wanted != nullptr) {
    stripped = *wanted;
    stripped.mask &= ~kWatchBit;
  }
  const bool has_bit = wanted != nullptr && (wanted->mask & kWatchBit) != 0;
  const long result = KernelSetAction(signal, wanted != nullptr ? &stripped : nullptr, old);
  if (result != 0) return result;
  if (old != nullptr && had_bit) old->mask |= kWatchBit;
  if (wanted == nullptr) return 0;
  if (has_bit) {
    g_masked_by.fetch_or(Bit(signal));
  } else {
    g_masked_by.fetch_and(~Bit(signal));
  }
  return 0;
}

long SetMask(const long* a, bool* handled) {
  const auto* set = reinterpret_cast<const uint64_t*>(a[1]);
  auto* old = reinterpret_cast<uint64_t*>(a[2]);
  if (a[3] != kMaskBytes || (set != nullptr && a[1] < kLowestAddress) ||
      (old != nullptr && a[2] < kLowestAddress)) {
    return 0;
  }
  *handled = true;
  const bool was_blocked = t_blocked;
  const uint64_t wanted = set != nullptr ? *set : 0;
  const uint64_t stripped = wanted & ~kWatchBit;
  const long result =
      RawSyscall(SYS_rt_sigprocmask, a[0], set != nullptr ? Word(&stripped) : 0, a[2], kMaskBytes);
  if (result != 0) return result;
  if (old != nullptr && was_blocked) *old |= kWatchBit;
  if (set == nullptr) return 0;
  const bool named = (wanted & kWatchBit) != 0;
  if (a[0] == SIG_SETMASK) SetBlocked(named);
  if (a[0] == SIG_BLOCK && named) SetBlocked(true);
  if (a[0] == SIG_UNBLOCK && named) SetBlocked(false);
  return 0;
}

long Suspend(const long* a, bool* handled) {
  if (a[0] < kLowestAddress || a[1] != kMaskBytes) return 0;
  *handled = true;
  const uint64_t stripped = *reinterpret_cast<const uint64_t*>(a[0]) & ~kWatchBit;
  return RawSyscall(SYS_rt_sigsuspend, Word(&stripped), kMaskBytes);
}

}  // namespace

long SignalCall(long number, const long* arguments, bool* handled) {
  if (BorrowsMemory()) return 0;
  switch (number) {
    case SYS_rt_sigaction:
      return SetAction(arguments, handled);
    case SYS_rt_sigprocmask:
      return SetMask(arguments, handled);
    case SYS_rt_sigsuspend:
      return Suspend(arguments, handled);
  }
  return 0;
}

bool WithoutWatchSignal(long number, const long* a, long (&copy)[6], WaitMask* storage) {
  // Where the mask's address is: ppoll and epoll_pwait2 have it in different places, pselect6
  // behind another pointer.
  const bool is_select = number == SYS_pselect6;
  const size_t place = number == SYS_ppoll ? 3 : is_select ? 5 : 4;
  long address = a[place];
  if (address < kLowestAddress) return false;
  if (is_select) {
    memcpy(storage->sized, reinterpret_cast<const void*>(address), sizeof storage->sized);
    address = static_cast<long>(storage->sized[0]);
    if (address < kLowestAddress) return false;
  }
  storage->mask = *reinterpret_cast<const uint64_t*>(address);
  if ((storage->mask & kWatchBit) == 0) return false;
  storage->mask &= ~kWatchBit;
  memcpy(copy, a, sizeof copy);
  copy[place] = Word(&storage->mask);
  if (is_select) {
    storage->sized[0] = static_cast<uint64_t>(Word(&storage->mask));
    copy[place] = Word(storage->sized);
  }
  return true;
}

long TakeWatchSignal(void (*handler)(int, siginfo_t*, void*)) {
  const rewrite::ForkableGuard changing(g_changing);
  if (g_forked_mark == nullptr) {
    constexpr long kPage = 4096;
    const long page =
        RawSyscall(SYS_mmap, 0, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page < 0 && page > -kPage) return page;
    RawSyscall(SYS_madvise, page, kPage, MADV_WIPEONFORK);
    g_forked_mark = reinterpret_cast<std::atomic<uint32_t>*>(page);
    g_forked_mark->store(1);
    g_process.store(RawSyscall(SYS_getpid));
  }
  KernelAction own;
  own.handler = reinterpret_cast<uint64_t>(handler);
  // On the thread's signal stack where it has one: the program's own may be a goroutine's.
  own.flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | kRestorer;
  own.restorer = reinterpret_cast<uint64_t>(&userstack_rewrite_return_from_signal);
  KernelAction before;
  const long result = KernelSetAction(SIGSYS, &own, &before);
  if (result != 0) return result;
  if (before.handler != own.handler) g_action = before;
  for (long signal = 1; signal < kSignals; ++signal) {
    KernelAction action;
    if (signal == SIGSYS || KernelSetAction(signal, nullptr, &action) != 0) continue;
    if ((action.mask & kWatchBit) == 0) continue;
    action.mask &= ~kWatchBit;
    if (KernelSetAction(signal, &action, nullptr) == 0) g_masked_by.fetch_or(Bit(signal));
  }
  return 0;
}

void OpenWatchSignal() {
  uint64_t before = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_UNBLOCK, Word(&kWatchBit), Word(&before), kMaskBytes);
  if ((before & kWatchBit) != 0) t_blocked = true;
}

void ForwardWatchSignal(int signal, siginfo_t* info, void* context) {
  const KernelAction action = g_action;
  // What an instruction raised cannot be put off.
  const bool was_sent = info->si_code <= 0;
  if (was_sent && t_blocked) {
    t_pending = true;
    return;
  }
  constexpr uint64_t kDefault = 0;  // SIG_DFL
  constexpr uint64_t kIgnore = 1;   // SIG_IGN
  if (action.handler == kIgnore && was_sent) return;
  if (action.handler == kDefault || action.handler == kIgnore) {
    const KernelAction plain;
    KernelSetAction(SIGSYS, &plain, nullptr);
    Raise();
    return;
  }
  if ((action.flags & SA_RESETHAND) != 0) g_action.handler = 0;
  const int saved_errno = errno;
  reinterpret_cast<void (*)(int, siginfo_t*, void*)>(action.handler)(signal, info, context);
  errno = saved_errno;
}

}  // namespace userstack::shim
