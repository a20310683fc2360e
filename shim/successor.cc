// Successor: finishes what the last program left (unsent data, FIN, TIME_WAIT), as a kernel would.
// A copy of the ending process that nobody waits for and that holds nothing but the stack's
// descriptors, so that neither the program's exit status, nor the end of its output, nor a tracer
// of its children is kept waiting. It ends when no work is left, when a program joins (whose pump
// takes over), or after two minutes.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"
#include "shim/signals.h"

namespace userstack::shim {
namespace {

constexpr Duration kLongestLife = Duration::Seconds(120);

// fork without the handlers that the program registered for it.
constinit Original<pid_t()> real_quiet_fork("_Fork");
constinit Original<pid_t()> real_fork("fork");

pid_t QuietFork() { return real_quiet_fork.get() != nullptr ? real_quiet_fork() : real_fork(); }

// A fork that no tracer follows: `strace -f program` would not end before TIME_WAIT does. For a
// process that QuietFork made and that has one thread: then libc keeps its identity where the
// kernel was told to clear it, which is what the robust mutexes of the copy go by.
pid_t UntracedFork() {
  int* identity = nullptr;
  void* robust = nullptr;
  size_t size = 0;
  if (RawSyscall(SYS_prctl, PR_GET_TID_ADDRESS, Word(&identity)) != 0 || identity == nullptr ||
      *identity != RawSyscall(SYS_getpid) ||
      RawSyscall(SYS_get_robust_list, 0, Word(&robust), Word(&size)) != 0) {
    return QuietFork();  // a kernel without CONFIG_CHECKPOINT_RESTORE
  }
  constexpr long kFlags = CLONE_UNTRACED | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
  const long child = RawSyscall(SYS_clone, kFlags, 0, 0, Word(identity), 0);
  if (child == 0) RawSyscall(SYS_set_robust_list, Word(robust), static_cast<long>(size));
  return static_cast<pid_t>(child);
}

[[noreturn]] void ExitRaw(int code) {
  RawSyscall(SYS_exit_group, code);
  __builtin_trap();
}

void IgnoreSignals() {
  struct KernelAction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)();
    unsigned long mask;
  };
  const KernelAction ignore{SIG_IGN, 0, nullptr, 0};
  const KernelAction standard{SIG_DFL, 0, nullptr, 0};
  for (int signal = 1; signal < 65; ++signal) {
    const bool crash = signal == SIGSEGV || signal == SIGBUS || signal == SIGILL ||
                       signal == SIGFPE || signal == SIGABRT || signal == SIGTRAP;
    RawSyscall(SYS_rt_sigaction, signal, Word(crash ? &standard : &ignore), 0, 8);
  }
}

[[noreturn]] void Succeed() {
  RawSyscall(SYS_setsid);
  RawSyscall(SYS_prctl, PR_SET_NAME, Word("userstack-close"));
  RawSyscall(SYS_chdir, Word("/"));
  CloseAllButInternal(false);
  Log(LogLevel::kDebug, "finishing what the program left");
  PumpUntilDone(MonotonicNow() + kLongestLife);
  ExitRaw(0);
}

}  // namespace

void SpawnSuccessor() {
  // A handler of the program must not run in the copies, nor see the first one end.
  uint64_t saved = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&kAllSignals), Word(&saved), 8);
  const pid_t middle = QuietFork();
  if (middle == 0) {
    IgnoreSignals();
    BecomeSuccessor();
    const pid_t successor = UntracedFork();
    if (successor != 0) ExitRaw(0);
    BecomeSuccessor();
    Succeed();
  }
  if (middle > 0) {
    long reaped;
    do {
      reaped = RawSyscall(SYS_wait4, middle, 0, 0, 0);
    } while (reaped == -EINTR);
  }
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&saved), 0, 8);
}

}  // namespace userstack::shim
