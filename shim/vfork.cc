// Vfork: how the parent waits for a child that has its own copy of the memory. The child holds a
// robust mutex in a page that the two share. The kernel gives it up for the child exactly where it
// would let the parent of a real vfork go on: when exec replaces its memory, or when it ends,
// however it ends (Linux: mm_release, futex_exec_release). No descriptor is needed, and nothing
// that the child forks or execs inherits it.
//
// Owner: the page belongs to the parent's call; the child's mapping goes with its memory.
#include <sys/mman.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>

#include "shim/internal.h"
#include "shim/real.h"
#include "shim/signals.h"

namespace userstack::shim {

struct VforkWait::Page {
  pthread_mutex_t held;
  uint32_t ready;  // futex: the child holds the mutex
};

namespace {

constexpr long kPageSize = 4096;
constexpr long kFutexWait = 0;
constexpr long kFutexWake = 1;
constexpr long kCheck = 10'000'000;  // ns: a child that is killed before it is ready wakes nobody

bool HasEnded(pid_t child) {
  siginfo_t info{};
  const long result =
      RawSyscall(SYS_waitid, P_PID, child, Word(&info), WEXITED | WNOHANG | WNOWAIT | __WALL, 0);
  return result < 0 || info.si_pid == child;
}

}  // namespace

// A handler of the parent runs when vfork has returned, and none in the child before it has its
// record.
VforkWait::VforkWait() {
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&kAllSignals), Word(&mask_), sizeof mask_);
  const long page =
      RawSyscall(SYS_mmap, 0, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page < 0 && page > -kPageSize) {
    Log(LogLevel::kWarn, "vfork: no memory (errno %ld): the parent does not wait", -page);
    return;
  }
  page_ = reinterpret_cast<Page*>(page);
  InitializeLock(&page_->held);
}

void VforkWait::HoldInChild() {
  if (page_ == nullptr) return;
  pthread_mutex_lock(&page_->held);  // nobody else has it
  __atomic_store_n(&page_->ready, 1, __ATOMIC_RELEASE);
  RawSyscall(SYS_futex, Word(&page_->ready), kFutexWake, 1);
}

void VforkWait::WaitInParent(pid_t child) {
  if (page_ == nullptr) return;
  timespec check{0, kCheck};
  while (child > 0 && __atomic_load_n(&page_->ready, __ATOMIC_ACQUIRE) == 0) {
    const long slept = RawSyscall(SYS_futex, Word(&page_->ready), kFutexWait, 0, Word(&check));
    if (slept == -ETIMEDOUT && HasEnded(child)) break;
  }
  if (__atomic_load_n(&page_->ready, __ATOMIC_ACQUIRE) != 0) {
    // EOWNERDEAD: it has exec'd or ended.
    if (pthread_mutex_lock(&page_->held) == EOWNERDEAD) pthread_mutex_consistent(&page_->held);
    pthread_mutex_unlock(&page_->held);  // off this thread's list of robust mutexes
  }
  RawSyscall(SYS_munmap, Word(page_), kPageSize);
}

void VforkWait::RestoreSignals() {
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&mask_), 0, sizeof mask_);
}

}  // namespace userstack::shim
