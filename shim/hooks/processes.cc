// Hooks: fork and its relatives, and the ends of a process.
//
// vfork is answered with fork when there is a stack. A child that shares our memory would run its
// hooks on the parent's table: its close() and dup2() before exec would take the parent's sockets
// away. A copy of the memory costs some page tables and keeps everything else that vfork promises
// but one thing: the parent does not see what the child wrote. It waits until the child has exec'd
// or ended. Without a configuration libc's own vfork is jumped to, because a call of it cannot
// return twice through a frame of ours.
//
// clone with CLONE_VM is a thread, or a child of somebody who knows what he does: it passes
// through.
#include "shim/hooks/processes.h"

#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utmp.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "shim/dispatch/epoll.h"
#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

constinit Original<pid_t()> real_fork("fork");
constinit Original<pid_t()> real_Fork("_Fork");
constinit Original<pid_t()> real_vfork("vfork");
constinit Original<int(int (*)(void*), void*, int, void*, ...)> real_clone("clone");
constinit Original<void(int)> real_exit("_exit");

// The process whose end was announced; a forked child has its own.
std::atomic<long> g_ended{0};

void EndAtQuickExit() { EndProcess(); }

[[gnu::constructor]] void BindAll() {
  Bind(real_fork, real_Fork, real_vfork, real_clone, real_exit);
  // Handlers run in reverse order: the one that was registered first runs last.
  at_quick_exit(EndAtQuickExit);
}

// exit() runs the program's handlers first, then the destructors of libraries, this one among them.
[[gnu::destructor]] void EndAtExit() {
  FlushStreams();
  EndProcess();
}

pid_t Fork(Original<pid_t()>& original) {
  if (!IsAttached()) return original();
  PrepareFork();
  const pid_t child = original();
  AfterFork(child);
  return child;
}

pid_t ForkAndWait() {
  return ForkWaiting([] { return real_fork(); });
}

struct Start {
  int (*function)(void*);
  void* argument;
  VforkWait* wait;  // CLONE_VFORK; the child's copy
};

// The first thing that a clone'd child with a memory of its own does.
int StartChild(void* start) {
  const Start copy = *static_cast<Start*>(start);
  AfterFork(0);
  if (copy.wait != nullptr) {
    copy.wait->HoldInChild();
    copy.wait->RestoreSignals();
  }
  return copy.function(copy.argument);
}

}  // namespace

void AfterFork(pid_t child) {
  const int saved = errno;
  if (child == 0) {
    ForkInChild();
    ForgetKernelSleeps();
  } else {
    ForkInParent(child);
  }
  errno = saved;
}

void EndProcess() {
  if (!IsAttached()) return;
  const long self = RawSyscall(SYS_getpid);
  if (g_ended.exchange(self) != self) ProcessExit();
}

}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

pid_t fork() noexcept { return Fork(real_fork); }
[[gnu::alias("fork")]] pid_t __fork() noexcept;

pid_t _Fork() noexcept { return Fork(real_Fork); }

// What vfork jumps to.
[[gnu::used, gnu::visibility("hidden")]] void* UserstackVforkTarget() noexcept {
  const bool is_kernel = CurrentMode() == Mode::kKernel;
  return reinterpret_cast<void*>(is_kernel ? real_vfork.get() : &ForkAndWait);
}

[[gnu::naked]] pid_t vfork() noexcept {
  // The stack is as the caller left it when the target is entered: its return is the caller's.
  asm("subq $8, %rsp\n\t"
      "call UserstackVforkTarget\n\t"
      "addq $8, %rsp\n\t"
      "jmp *%rax");
}
[[gnu::alias("vfork")]] pid_t __vfork() noexcept;

int clone(int (*function)(void*), void* stack, int flags, void* argument, ...) noexcept {
  va_list arguments;
  va_start(arguments, argument);
  void* parent_tid = va_arg(arguments, void*);
  void* tls = va_arg(arguments, void*);
  void* child_tid = va_arg(arguments, void*);
  va_end(arguments);
  if ((flags & CLONE_VM) != 0 || !IsAttached()) {
    return real_clone(function, stack, flags, argument, parent_tid, tls, child_tid);
  }
  const auto make = [&](VforkWait* wait) {
    Start start{function, argument, wait};
    PrepareFork();
    const int child = real_clone(StartChild, stack, flags & ~CLONE_VFORK,
                                 static_cast<void*>(&start), parent_tid, tls, child_tid);
    AfterFork(child);
    return child;
  };
  if ((flags & CLONE_VFORK) == 0) return make(nullptr);
  // The kernel would let the parent sleep with the stack's lock.
  VforkWait wait;
  const int child = make(&wait);
  wait.WaitInParent(child);
  wait.RestoreSignals();
  return child;
}

// libc's calls a fork that is not exported; the rest is the same.
int daemon(int keep_directory, int keep_streams) noexcept {
  const pid_t child = fork();
  if (child < 0) return -1;
  if (child > 0) _exit(0);
  if (setsid() == -1) return -1;
  if (keep_directory == 0 && chdir("/") != 0) return -1;
  if (keep_streams != 0) return 0;
  const int null = open("/dev/null", O_RDWR);
  if (null < 0) return -1;
  for (int stream = 0; stream <= 2; ++stream) dup2(null, stream);
  if (null > 2) close(null);
  return 0;
}

int forkpty(int* master, char* name, const termios* settings, const winsize* size) noexcept {
  int slave = -1;
  if (openpty(master, &slave, name, settings, size) == -1) return -1;
  const pid_t child = fork();
  if (child == -1) {
    const int saved = errno;
    close(*master);
    close(slave);
    errno = saved;
    return -1;
  }
  if (child == 0) {
    close(*master);
    if (login_tty(slave) != 0) _exit(1);
    return 0;
  }
  close(slave);
  return child;
}

void _exit(int status) {
  EndProcess();
  real_exit(status);
  __builtin_unreachable();
}
[[gnu::alias("_exit"), noreturn]] void _Exit(int status) noexcept;

}  // extern "C"
