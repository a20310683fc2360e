// Catching: see catching.h. The kernel sends SIGSYS instead of making a call that comes from
// outside of the library's text, while the thread's selector says so. The handler makes the call,
// by the dispatcher or as it is, and returns behind it.
#include "shim/hooks/catching.h"

#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"
#include "shim/rewrite/entry.h"
#include "shim/rewrite/rewrite.h"
#include "shim/rewrite/watch.h"

// The library's first byte, and the end of its text (the linker defines them).
extern "C" [[gnu::visibility("hidden")]] const char __ehdr_start;
extern "C" [[gnu::visibility("hidden")]] const char etext;

// What the handler returns to: the kernel's sigreturn, in bytes that unwinders and debuggers know,
// within the library's text.
asm(".text\n"
    ".hidden userstack_catching_return\n"
    ".type userstack_catching_return, @function\n"
    "  nop\n"
    "userstack_catching_return:\n"
    "  movq $15, %rax\n"
    "  syscall\n"
    ".size userstack_catching_return, . - userstack_catching_return\n");
extern "C" [[gnu::visibility("hidden")]] void userstack_catching_return();

namespace userstack::shim {
namespace {

constexpr uint8_t kAllow = 0;     // SYSCALL_DISPATCH_FILTER_ALLOW
constexpr uint8_t kBlock = 1;     // SYSCALL_DISPATCH_FILTER_BLOCK
constexpr int kUserDispatch = 2;  // SYS_USER_DISPATCH, in si_code
constexpr long kMaskBytes = 8;
constexpr uint64_t kSigsysBit = uint64_t{1} << (SIGSYS - 1);
constexpr unsigned long kRestorer = 0x04000000;  // SA_RESTORER

// As the kernel has it.
struct KernelAction {
  void (*handler)(int, siginfo_t*, void*);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

// What the program has for SIGSYS; written before our handler is installed.
constinit KernelAction g_programs{};
constinit std::atomic<bool> g_taken{false};  // our handler is the kernel's
constinit std::atomic<bool> g_said{false};

void PassOn(int signal, siginfo_t* info, void* context) {
  const KernelAction action = g_programs;
  const auto handler = reinterpret_cast<uintptr_t>(action.handler);
  if (handler == reinterpret_cast<uintptr_t>(SIG_IGN)) return;
  if (handler != reinterpret_cast<uintptr_t>(SIG_DFL)) {
    action.handler(signal, info, context);
    return;
  }
  const KernelAction fresh{};
  RawSyscall(SYS_rt_sigaction, SIGSYS, Word(&fresh), 0, kMaskBytes);
  RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), SIGSYS);
}

// The mask is in the frame that the handler returns by. SIGSYS stays out of it.
long ChangeMask(const long* a, ucontext_t* context) {
  if (a[3] != kMaskBytes) return -EINVAL;
  uint64_t mask = 0;
  memcpy(&mask, &context->uc_sigmask, sizeof mask);
  const uint64_t before = mask;
  if (a[1] != 0) {
    const uint64_t set = *reinterpret_cast<const uint64_t*>(a[1]);
    if (a[0] == SIG_BLOCK) {
      mask |= set;
    } else if (a[0] == SIG_UNBLOCK) {
      mask &= ~set;
    } else if (a[0] == SIG_SETMASK) {
      mask = set;
    } else {
      return -EINVAL;
    }
    mask &= ~kSigsysBit;
    memcpy(&context->uc_sigmask, &mask, sizeof mask);
  }
  if (a[2] != 0) *reinterpret_cast<uint64_t*>(a[2]) = before;
  return 0;
}

// A child or thread that goes on in this memory would return from a frame that is not its own.
bool SharesMemory(long number, const long* a) {
  if (number == SYS_clone) return (a[0] & CLONE_VM) != 0;
  return number == SYS_vfork || number == SYS_clone3;
}

long MakeCaught(long number, const long* a, ucontext_t* context) {
  if (number == SYS_rt_sigprocmask) return ChangeMask(a, context);
  // clone3 may be missing: libc knows the old way (clone), and what it does when there is neither.
  if (SharesMemory(number, a)) return number == SYS_clone3 ? -ENOSYS : -EAGAIN;
  const rewrite::Answer answer = userstack_rewrite_call(number, a);
  if (answer.handled != 0) return answer.result;
  return RawSyscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// A handler's own return (of the program's, in libc's text): it is made on the stack that it was
// made on, and the frame of ours that stands below it is gone with it.
[[noreturn]] void ReturnFromHandler(long stack) {
  asm volatile(
      "movq %0, %%rsp\n"
      "movl $15, %%eax\n"
      "syscall\n"
      :
      : "r"(stack)
      : "memory");
  __builtin_unreachable();
}

// The call that was being caught was left by a jump, or by the end of its thread.
bool IsAbandoned(long stack) {
  constexpr long kSameStack = 8 << 20;
  const long frame = Word(t_state.catching_frame);
  return stack > frame && stack - frame < kSameStack;
}

void OnCaught(int signal, siginfo_t* info, void* raw_context) {
  if (info->si_code != kUserDispatch) {
    PassOn(signal, info, raw_context);
    return;
  }
  ThreadState& state = t_state;
  state.catching_selector = kAllow;
  const int saved_errno = errno;
  auto* context = static_cast<ucontext_t*>(raw_context);
  greg_t* registers = context->uc_mcontext.gregs;
  const long number = registers[REG_RAX];
  const bool abandoned = IsAbandoned(registers[REG_RSP]);
  if (number == SYS_rt_sigreturn) {
    state.catching_selector = abandoned ? kAllow : kBlock;
    ReturnFromHandler(registers[REG_RSP]);
  }
  const long arguments[6] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                             registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
  registers[REG_RAX] = MakeCaught(number, arguments, context);
  errno = saved_errno;
  if (!abandoned) state.catching_selector = kBlock;
}

// Ours stays: threads come and go in their calls. What the program installed meanwhile is kept.
long InstallHandler() {
  KernelAction now{};
  long result = RawSyscall(SYS_rt_sigaction, SIGSYS, 0, Word(&now), kMaskBytes);
  if (result != 0 || now.handler == OnCaught) return result;
  g_programs = now;
  const KernelAction ours{OnCaught, SA_SIGINFO | SA_NODEFER | SA_RESTART | kRestorer,
                          userstack_catching_return, 0};
  result = RawSyscall(SYS_rt_sigaction, SIGSYS, Word(&ours), 0, kMaskBytes);
  if (result == 0) g_taken.store(true);
  return result;
}

long Switch(bool on) {
  if (!on) return RawSyscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF);
  return RawSyscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON,
                    Word(&__ehdr_start), &etext - &__ehdr_start,
                    Word(const_cast<const uint8_t*>(&t_state.catching_selector)));
}

}  // namespace

Catching::Catching() {
  // They come anyway.
  if (g_libc_is_rewritten.load(std::memory_order_relaxed) ||
      g_watching.load(std::memory_order_relaxed)) {
    return;
  }
  ThreadState& state = t_state;
  outer_selector_ = state.catching_selector;
  outer_frame_ = state.catching_frame;
  state.catching_selector = kAllow;
  long result = InstallHandler();
  if (result == 0) result = Switch(true);
  if (result != 0) {
    failed_ = true;
    state.catching_selector = outer_selector_;
    if (g_said.exchange(true)) return;
    Log(LogLevel::kError,
        "names cannot be resolved on the stack: this kernel has no Syscall User Dispatch (errno "
        "%ld); USERSTACK_REWRITE=on does without",
        -result);
    return;
  }
  RawSyscall(SYS_rt_sigprocmask, SIG_UNBLOCK, Word(&kSigsysBit), Word(&mask_), kMaskBytes);
  active_ = true;
  state.catching_frame = __builtin_frame_address(0);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  state.catching_selector = kBlock;
}

bool ChangeCaughtAction(const struct sigaction* action, struct sigaction* old) {
  if (!g_taken.load()) return false;
  const KernelAction before = g_programs;
  if (action != nullptr) {
    const struct sigaction wanted = *action;
    g_programs.flags = static_cast<unsigned long>(wanted.sa_flags);
    memcpy(&g_programs.mask, &wanted.sa_mask, sizeof g_programs.mask);
    g_programs.handler = wanted.sa_sigaction;
  }
  if (old != nullptr) {
    *old = {};
    old->sa_sigaction = before.handler;
    old->sa_flags = static_cast<int>(before.flags & ~kRestorer);
    memcpy(&old->sa_mask, &before.mask, sizeof before.mask);
  }
  return true;
}

Catching::~Catching() {
  if (!active_) return;
  ThreadState& state = t_state;
  state.catching_selector = kAllow;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  state.catching_frame = outer_frame_;
  // Within another one, which goes on.
  if (outer_frame_ == nullptr) {
    Switch(false);
    if ((mask_ & kSigsysBit) != 0) {
      RawSyscall(SYS_rt_sigprocmask, SIG_BLOCK, Word(&kSigsysBit), 0, kMaskBytes);
    }
  }
  state.catching_selector = outer_selector_;
}

}  // namespace userstack::shim
