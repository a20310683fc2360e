// Audit: what the next owner of the lock does when the one before died holding it. The state may
// be in the middle of any change. Most such changes leave at worst something that nobody points at;
// a list or a table that is torn would bring down whoever walks it. So a child process walks all of
// it first: what it survives is taken for sound, and the references are counted anew. What it does
// not survive is lost: the stack is marked failed, and every call on it answers ENETDOWN.
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr time_t kAuditSeconds = 5;
constexpr size_t kMaxWalk = 1 << 22;

constinit bool g_auditing = false;  // only ever true in the child

[[noreturn]] void ExitChild(int code) {
  RawSyscall(SYS_exit_group, code);
  __builtin_trap();
}

// The kernel's layout of struct sigaction, for SIG_DFL.
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  unsigned long mask;
};

void ResetCrashSignals() {
  const KernelAction action{SIG_DFL, 0, nullptr, 0};
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP}) {
    RawSyscall(SYS_rt_sigaction, signal, Word(&action), 0, 8);
  }
}

template <typename ListType>
void WalkList(const ListType& list) {
  size_t count = 0;
  for (auto* item = list.front(); item != nullptr; item = list.Next(item)) {
    if (!g_shared->arena->Contains(item) || ++count > kMaxWalk) ExitChild(2);
  }
}

[[noreturn]] void AuditInChild() {
  g_auditing = true;
  ResetCrashSignals();
  WalkList(g_shared->all_descriptions);
  WalkList(g_shared->all_sleepers);
  for (Sleeper* s = g_shared->all_sleepers.front(); s != nullptr;
       s = g_shared->all_sleepers.Next(s)) {
    WalkList(s->own_set.all);
    WalkList(s->own_set.ready);
  }
  g_shared->stack->CheckInvariants();
  ExitChild(0);
}

// A child that the program's own wait calls do not see (no exit signal).
long SpawnAuditor(int* pidfd) {
  constexpr long kClonePidfd = 0x1000;
  const long pid = RawSyscall(SYS_clone, kClonePidfd, 0, Word(pidfd), 0, 0);
  if (pid == 0) AuditInChild();
  return pid;
}

bool WaitForAuditor(long pid, int pidfd) {
  pollfd entry{pidfd, POLLIN, 0};
  timespec timeout{kAuditSeconds, 0};
  long ready;
  do {
    ready = RawSyscall(SYS_ppoll, Word(&entry), 1, Word(&timeout), 0, 8);
  } while (ready == -EINTR);
  if (ready != 1) RawSyscall(SYS_kill, pid, SIGKILL);
  RawSyscall(SYS_close, pidfd);
  int status = -1;
  long reaped;
  do {
    reaped = RawSyscall(SYS_wait4, pid, Word(&status), __WCLONE, 0);
  } while (reaped == -EINTR);
  return ready == 1 && reaped == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

void OnCheckFailed(const char* what) {
  if (!g_auditing) return;
  Log(LogLevel::kInfo, "audit: %s", what);
  ExitChild(1);
}

bool AuditAfterDeath() {
  const unsigned mended = RepairLists();
  int pidfd = -1;
  const long pid = SpawnAuditor(&pidfd);
  const bool sound = pid > 0 && WaitForAuditor(pid, pidfd);
  if (!sound) {
    Log(LogLevel::kError,
        "a process died inside the stack and left it inconsistent: its sockets are lost, new ones "
        "fail with ENETDOWN until all programs on USERSTACK_DEV=%s have ended",
        CurrentConfig().device);
    WakeEverybody();
    return false;
  }
  Log(LogLevel::kInfo, "a process died inside the stack; %u list mended, the audit found it sound",
      mended);
  RecountReferences(MonotonicNow());
  WakeEverybody();
  return true;
}

}  // namespace userstack::shim
