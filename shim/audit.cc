// Audit: what the next owner of the lock does when the one before died holding it. The state may
// be in the middle of any change. The list that is torn is mended here; everything else is done by
// child processes, because it would bring down whoever does it when the state is worse than
// thought. A child makes anew what the lists can tell (Stack::Mend) and then walks all of it: what
// it survives is taken for sound, and the references are counted anew. Where it fails at a
// connection, that one is given up (Stack::Condemn) by the next child. What cannot be blamed on a
// connection is the end: the stack is marked failed, and every call on it answers ENETDOWN.
//
// Owner: the lock. `suspect` in the shared memory is how a child that died says where.
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
constexpr unsigned kMaxCondemned = 8;

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

[[noreturn]] void AuditInChild(tcp::Connection* condemned) {
  g_auditing = true;
  ResetCrashSignals();
  if (condemned != nullptr) g_shared->stack->Condemn(condemned);
  g_shared->stack->Mend(&g_shared->suspect, MonotonicNow());
  WalkList(g_shared->all_descriptions);
  WalkList(g_shared->all_sleepers);
  for (Sleeper* s = g_shared->all_sleepers.front(); s != nullptr;
       s = g_shared->all_sleepers.Next(s)) {
    WalkList(s->own_set.all);
    WalkList(s->own_set.ready);
    WalkList(s->carried);
    WalkList(s->filling);
  }
  g_shared->stack->CheckInvariants(&g_shared->suspect);
  ExitChild(0);
}

// A child that the program's own wait calls do not see (no exit signal).
long SpawnAuditor(tcp::Connection* condemned, int* pidfd) {
  constexpr long kClonePidfd = 0x1000;
  const long pid = RawSyscall(SYS_clone, kClonePidfd, 0, Word(pidfd), 0, 0);
  if (pid == 0) AuditInChild(condemned);
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

// True when a child has found the stack sound. *condemned: connections that were given up for it.
bool MendAndAudit(unsigned* condemned) {
  tcp::Connection* suspect = nullptr;
  for (;;) {
    g_shared->suspect = nullptr;
    int pidfd = -1;
    const long pid = SpawnAuditor(suspect, &pidfd);
    if (pid <= 0) return false;
    if (WaitForAuditor(pid, pidfd)) return true;
    tcp::Connection* const next = const_cast<tcp::Connection*>(g_shared->suspect);
    if (next == nullptr || next == suspect || ++*condemned > kMaxCondemned) return false;
    suspect = next;
  }
}

}  // namespace

void OnCheckFailed(const char* what) {
  if (!g_auditing) return;
  Log(LogLevel::kInfo, "audit: %s", what);
  ExitChild(1);
}

bool AuditAfterDeath() {
  const unsigned mended = RepairLists();
  unsigned condemned = 0;
  if (!MendAndAudit(&condemned)) {
    Log(LogLevel::kError,
        "a process died inside the stack and left it inconsistent: its sockets are lost, new ones "
        "fail with ENETDOWN until all programs on USERSTACK_DEV=%s have ended",
        CurrentConfig().device);
    WakeEverybody();
    return false;
  }
  Log(LogLevel::kInfo,
      "a process died inside the stack; %u list mended, %u connections given up, the audit found "
      "it "
      "sound",
      mended, condemned);
  RecountReferences(MonotonicNow());
  WakeEverybody();
  return true;
}

}  // namespace userstack::shim
