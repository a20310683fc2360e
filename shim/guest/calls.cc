// Calls: see calls.h. The walk of one: entry.S, userstack_guest_call, one of the functions below,
// or the dispatcher that the symbols and the rewritten sites use too.
//
// The host's errno is the host's; a guest has its own.
#include "shim/guest/calls.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "shim/guest/actions.h"
#include "shim/guest/own_path.h"
#include "shim/hooks/processes.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/rewrite/entry.h"

namespace userstack::shim::guest {
namespace {

constexpr uint64_t kPage = 4096;

constinit char g_program[PATH_MAX] = {};

// The guest's break: the kernel's is the host's heap.
struct Break {
  uint64_t begin = 0;
  uint64_t end = 0;  // as the guest set it
};
constinit Break g_break;
constinit std::atomic<int> g_break_lock{0};

uint64_t PageUp(uint64_t address) { return (address + kPage - 1) & ~(kPage - 1); }

long MoveBreak(uint64_t wanted) {
  while (g_break_lock.exchange(1) != 0) RawSyscall(SYS_sched_yield);
  const uint64_t mapped = PageUp(g_break.end);
  const uint64_t target = PageUp(wanted);
  if (wanted >= g_break.begin && target >= wanted) {
    long result = 0;
    if (target > mapped) {
      result = RawSyscall(SYS_mmap, static_cast<long>(mapped), static_cast<long>(target - mapped),
                          PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                          -1, 0);
    } else if (target < mapped) {
      RawSyscall(SYS_munmap, static_cast<long>(target), static_cast<long>(mapped - target));
    }
    if (result >= 0) g_break.end = wanted;
  }
  const auto now = static_cast<long>(g_break.end);
  g_break_lock.store(0);
  return now;
}

bool IsOnAlternate(const GuestThread& thread) {
  return thread.guest_rsp - thread.alternate < thread.alternate_size;
}

// The kernel would judge by the host's stack.
long AlternateStack(const stack_t* stack, stack_t* old) {
  GuestThread& thread = *CurrentThread();
  const bool inside = IsOnAlternate(thread);
  if (stack != nullptr && inside) return -EPERM;
  const long result = RawSyscall(SYS_sigaltstack, Word(stack), Word(old));
  if (result != 0) return result;
  if (old != nullptr && inside) old->ss_flags |= SS_ONSTACK;
  if (stack == nullptr) return result;
  const bool off = (stack->ss_flags & SS_DISABLE) != 0;
  thread.alternate = off ? 0 : reinterpret_cast<uint64_t>(stack->ss_sp);
  thread.alternate_size = off ? 0 : stack->ss_size;
  return result;
}

// The trap signal is never blocked: the kernel kills a thread that runs into one that is.
long ChangeMask(const long* a, uint64_t* mask) {
  const uint64_t before = *mask;
  if (a[1] != 0) {
    const uint64_t given = *reinterpret_cast<const uint64_t*>(a[1]);
    if (a[0] == SIG_BLOCK) {
      *mask |= given;
    } else if (a[0] == SIG_UNBLOCK) {
      *mask &= ~given;
    } else if (a[0] == SIG_SETMASK) {
      *mask = given;
    } else {
      return -EINVAL;
    }
    *mask &= ~(uint64_t{1} << (SIGSYS - 1));
  }
  if (a[2] != 0) *reinterpret_cast<uint64_t*>(a[2]) = before;
  return 0;
}

// The guest's mask is not the kernel's where every signal is blocked: on an alternate stack, and
// from the moment on that a signal was put off, which may be any until none can come.
long SetMask(const long* a) {
  if (a[3] != 8) return -EINVAL;
  GuestThread& thread = *CurrentThread();
  if (thread.blocked_mask != nullptr) {
    return thread.put_off != 0 ? kHandlersFirst : ChangeMask(a, thread.blocked_mask);
  }
  uint64_t mask = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&kAllSignals), Word(&mask), 8);
  const long result = thread.put_off != 0 ? kHandlersFirst : ChangeMask(a, &mask);
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&mask), 0, 8);
  return result;
}

long ReadOwnLink(char* buffer, long size) {
  if (size <= 0) return -EINVAL;
  const size_t length = strlen(g_program);
  const size_t copied = length < static_cast<size_t>(size) ? length : static_cast<size_t>(size);
  memcpy(buffer, g_program, copied);
  return static_cast<long>(copied);
}

long ByErrno(int result) { return result == -1 ? -errno : result; }

long Execute(const char* path, char* const* arguments, char* const* environment) {
  if (IsOwnPath(Word(path))) path = g_program;
  return ByErrno(execve(path, arguments, environment));
}

// Always answered; false: no call of these.
bool Emulate(Frame* frame, long* result) {
  const long* a = frame->arguments;
  switch (static_cast<long>(frame->rax)) {
    case SYS_brk:
      *result = MoveBreak(static_cast<uint64_t>(a[0]));
      return true;
    case SYS_rt_sigaction:
      *result = a[3] != 8 ? -EINVAL
                          : ChangeAction(static_cast<int>(a[0]),
                                         reinterpret_cast<const KernelAction*>(a[1]),
                                         reinterpret_cast<KernelAction*>(a[2]));
      return true;
    case SYS_rt_sigprocmask:
      *result = SetMask(a);
      return true;
    case SYS_sigaltstack:
      *result =
          AlternateStack(reinterpret_cast<const stack_t*>(a[0]), reinterpret_cast<stack_t*>(a[1]));
      return true;
    case SYS_clone:
      *result = Clone(frame, static_cast<unsigned long>(a[0]), static_cast<uint64_t>(a[1]),
                      reinterpret_cast<int*>(a[2]), reinterpret_cast<int*>(a[3]),
                      static_cast<uint64_t>(a[4]));
      return true;
    case SYS_clone3:
      *result = -ENOSYS;  // every libc goes on with clone
      return true;
    case SYS_fork:
      *result = Clone(frame, SIGCHLD, 0, nullptr, nullptr, 0);
      return true;
    case SYS_vfork:
      *result = Clone(frame, CLONE_VFORK | CLONE_VM | SIGCHLD, 0, nullptr, nullptr, 0);
      return true;
    case SYS_execve:
      *result = Execute(reinterpret_cast<const char*>(a[0]), reinterpret_cast<char* const*>(a[1]),
                        reinterpret_cast<char* const*>(a[2]));
      return true;
    case SYS_execveat:
      *result = ByErrno(execveat(static_cast<int>(a[0]), reinterpret_cast<const char*>(a[1]),
                                 reinterpret_cast<char* const*>(a[2]),
                                 reinterpret_cast<char* const*>(a[3]), static_cast<int>(a[4])));
      return true;
    case SYS_exit:
      ExitThread(a[0]);
    case SYS_set_tid_address:
      *result = SetTidAddress(reinterpret_cast<int*>(a[0]));
      return true;
    case SYS_set_robust_list:
      *result = SetRobustList(static_cast<uint64_t>(a[0]), static_cast<uint64_t>(a[1]));
      return true;
    case SYS_get_robust_list:
      *result = GetRobustList(static_cast<int>(a[0]), reinterpret_cast<uint64_t*>(a[1]),
                              reinterpret_cast<uint64_t*>(a[2]));
      return true;
    case SYS_rseq:
      *result = RegisterSequences(a);
      return true;
    case SYS_arch_prctl:
      *result = -EINVAL;
      return true;
    case SYS_open:
      *result = RawSyscall(SYS_open, Word(g_program), a[1], a[2]);
      return true;
    case SYS_openat:
      *result = RawSyscall(SYS_open, Word(g_program), a[2], a[3]);
      return true;
    case SYS_readlink:
      *result = ReadOwnLink(reinterpret_cast<char*>(a[1]), a[2]);
      return true;
    case SYS_readlinkat:
      *result = ReadOwnLink(reinterpret_cast<char*>(a[2]), a[3]);
      return true;
  }
  return false;
}

// Calls that would take what was put off with them: handlers come first.
bool MakesProcess(long number) {
  return number == SYS_clone || number == SYS_fork || number == SYS_vfork || number == SYS_execve ||
         number == SYS_execveat || number == SYS_exit;
}

}  // namespace

void SetBreak(uint64_t begin) { g_break = {PageUp(begin), PageUp(begin)}; }

const char* ProgramPath() { return g_program; }

void SetProgramPath(const char* path) { strncpy(g_program, path, sizeof g_program - 1); }

}  // namespace userstack::shim::guest

using namespace userstack::shim::guest;  // NOLINT: entry.S calls what follows

long userstack_guest_call(Frame* frame) {
  const auto number = static_cast<long>(frame->rax);
  GuestThread& thread = *CurrentThread();
  if (thread.put_off != 0 && MakesProcess(number)) return kRestart;
  long result = 0;
  if (!IsEmulated(number, frame->arguments) || !Emulate(frame, &result)) {
    using userstack::shim::rewrite::kFromSmallStack;
    const auto answer = userstack_rewrite_call(number | kFromSmallStack, frame->arguments);
    if (answer.handled == 0) return kPass;
    result = answer.result;
  }
  if (result == userstack::shim::kHandlersFirst) return kRestart;
  frame->rax = static_cast<uint64_t>(result);
  frame->real += 2;
  return kAnswered;
}

// The default action, after the stack has let go of the process.
void userstack_guest_terminate(int signal) {
  using namespace userstack::shim;  // NOLINT
  ProcessExit();
  const KernelAction end;
  const uint64_t mask = uint64_t{1} << (signal - 1);
  RawSyscall(SYS_rt_sigaction, signal, Word(&end), 0, 8);
  RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), signal);
  RawSyscall(SYS_rt_sigprocmask, SIG_UNBLOCK, Word(&mask), 0, 8);  // delivered here
  RawSyscall(SYS_exit_group, 128 + signal);
  __builtin_unreachable();
}
