// Threads: a thread of a guest is one of the host's libc, so that our code finds its own FS, its
// thread-locals and its robust mutexes in it; a process is made by the host's fork.
//
// A new thread begins on the host's stack with every signal blocked, until its GS is its own; its
// mask is given back the way that signals are that were put off.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "shim/guest/actions.h"
#include "shim/guest/calls.h"
#include "shim/guest/start.h"
#include "shim/hooks/processes.h"
#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim::guest {
namespace {

constexpr size_t kHostStack = 256 << 10;
constexpr long kMaskBytes = 8;
constexpr uint64_t kRobustListSize = 24;

// What a new thread needs to know; on its creator's stack, until `started`.
struct Start {
  Frame frame;
  unsigned long flags;
  uint64_t stack;
  uint64_t guest_fs;
  uint64_t mask;
  int* parent_tid;
  int* child_tid;
  uint32_t tid;  // futex; 0: it has not begun
};

void Wake(void* word, long count) { RawSyscall(SYS_futex, Word(word), FUTEX_WAKE, count); }

// A guest's own registration would be refused; and the kernel would write to the host's.
void UnregisterSequences() {
  if (__rseq_size == 0) return;
  auto* const area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  RawSyscall(SYS_rseq, Word(area), sizeof(struct rseq), RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

void* RunThread(void* argument) {
  auto* const given = static_cast<Start*>(argument);
  const Start start = *given;
  GuestThread thread{};
  InitializeThread(&thread);
  thread.guest_rsp = start.stack;
  thread.guest_fs = start.guest_fs;
  thread.saved_mask = start.mask;
  thread.put_off = 1;
  if ((start.flags & CLONE_CHILD_CLEARTID) != 0) thread.clear_tid = start.child_tid;
  const auto tid = static_cast<int>(RawSyscall(SYS_gettid));
  if ((start.flags & CLONE_PARENT_SETTID) != 0) *start.parent_tid = tid;
  if ((start.flags & CLONE_CHILD_SETTID) != 0) *start.child_tid = tid;
  __atomic_store_n(&given->tid, static_cast<uint32_t>(tid), __ATOMIC_RELEASE);
  Wake(&given->tid, 1);
  userstack_guest_run(&start.frame, &thread);
  return nullptr;
}

// The guest's, when the kernel has `kernel`: everything may be blocked for what was put off, or for
// the alternate stack.
uint64_t GuestMask(uint64_t kernel) {
  const GuestThread& thread = *CurrentThread();
  if (thread.put_off != 0) return thread.saved_mask;
  return thread.blocked_mask != nullptr ? *thread.blocked_mask : kernel;
}

long MakeThread(const Frame& frame, Start* start) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kHostStack);
  start->frame = frame;
  start->frame.rax = 0;
  start->frame.real += 2;
  const uint64_t all = kAllSignals;
  uint64_t before = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&all), Word(&before), kMaskBytes);
  start->mask = GuestMask(before);
  pthread_t created;
  const int error = pthread_create(&created, &attributes, RunThread, start);
  if (error == 0) {
    while (__atomic_load_n(&start->tid, __ATOMIC_ACQUIRE) == 0) {
      RawSyscall(SYS_futex, Word(&start->tid), FUTEX_WAIT, 0, 0);
    }
  }
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&before), 0, kMaskBytes);
  pthread_attr_destroy(&attributes);
  return error == 0 ? static_cast<long>(start->tid) : -error;
}

// In the child of a fork: its only thread.
void BecomeForkedThread(unsigned long flags, uint64_t stack, int* child_tid, uint64_t tls) {
  GuestThread& thread = *CurrentThread();
  if (thread.put_off != 0) {
    // What was put off came to the parent.
    thread.signal_count = 0;
    thread.state->leaves_for_handlers = false;
  }
  thread.clear_tid = (flags & CLONE_CHILD_CLEARTID) != 0 ? child_tid : nullptr;
  thread.robust_list = 0;
  if (stack != 0) thread.guest_rsp = stack;
  if ((flags & CLONE_SETTLS) != 0) thread.guest_fs = tls;
  if ((flags & CLONE_CHILD_SETTID) != 0) *child_tid = static_cast<int>(RawSyscall(SYS_gettid));
  TrapInThisThread(&thread);
}

bool IsPlainFork(unsigned long flags) {
  constexpr unsigned long kPlain = CLONE_VM | CLONE_VFORK | CLONE_CHILD_SETTID |
                                   CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID | CLONE_SETTLS |
                                   CSIGNAL;
  return (flags & ~kPlain) == 0 && (flags & CSIGNAL) == SIGCHLD;
}

constinit Original<pid_t()> real_fork("fork");

long ForkOnce(unsigned long flags, int* parent_tid) {
  if (IsPlainFork(flags)) {
    const pid_t child = real_fork();
    return child < 0 ? -errno : child;
  }
  constexpr unsigned long kOurs =
      CLONE_VM | CLONE_VFORK | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_SETTLS;
  return RawSyscall(SYS_clone, static_cast<long>(flags & ~kOurs), 0, Word(parent_tid), 0, 0);
}

long MakeProcess(unsigned long flags, uint64_t stack, int* parent_tid, int* child_tid,
                 uint64_t tls) {
  long child = 0;
  if ((flags & CLONE_VFORK) != 0) {
    child = ForkWaiting([&] { return ForkOnce(flags, parent_tid); });
  } else {
    PrepareFork();
    child = ForkOnce(flags, parent_tid);
    AfterFork(static_cast<pid_t>(child < 0 ? -1 : child));
  }
  if (child == 0) {
    BecomeForkedThread(flags, stack, child_tid, tls);
  } else if (child > 0 && (flags & CLONE_PARENT_SETTID) != 0) {
    *parent_tid = static_cast<int>(child);
  }
  return child;
}

// What the kernel does when a thread ends (exit_robust_list): mutexes that it still has are marked
// and a waiter is woken.
void ReleaseRobustMutex(uint64_t entry, int64_t offset, uint32_t tid) {
  auto* const word = reinterpret_cast<uint32_t*>(entry + static_cast<uint64_t>(offset));
  uint32_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  while ((value & FUTEX_TID_MASK) == tid) {
    const uint32_t died = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    if (!__atomic_compare_exchange_n(word, &value, died, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
      continue;
    }
    if ((value & FUTEX_WAITERS) != 0) Wake(word, 1);
    return;
  }
}

void ReleaseRobustMutexes(uint64_t list) {
  if (list == 0) return;
  struct Head {
    uint64_t next;
    int64_t offset;
    uint64_t pending;
  };
  constexpr int kMost = 2048;    // ROBUST_LIST_LIMIT
  constexpr uint64_t kFlag = 1;  // of mutexes with priority inheritance
  const Head head = *reinterpret_cast<const Head*>(list);
  const auto tid = static_cast<uint32_t>(RawSyscall(SYS_gettid));
  uint64_t entry = head.next & ~kFlag;
  for (int i = 0; i < kMost && entry != list && entry != 0; ++i) {
    const uint64_t next = *reinterpret_cast<const uint64_t*>(entry) & ~kFlag;
    if (entry != (head.pending & ~kFlag)) ReleaseRobustMutex(entry, head.offset, tid);
    entry = next;
  }
  if ((head.pending & ~kFlag) != 0) ReleaseRobustMutex(head.pending & ~kFlag, head.offset, tid);
}

}  // namespace

void InitializeThread(GuestThread* thread) {
  thread->self = thread;
  thread->state = &t_state;
  thread->next_delivery = &thread->deliveries[0];
  UnregisterSequences();
  TrapInThisThread(thread);
}

long Clone(Frame* frame, unsigned long flags, uint64_t stack, int* parent_tid, int* child_tid,
           uint64_t tls) {
  if ((flags & CLONE_VM) == 0 || (flags & CLONE_VFORK) != 0) {
    return MakeProcess(flags, stack, parent_tid, child_tid, tls);
  }
  constexpr unsigned long kThread = CLONE_THREAD | CLONE_SIGHAND | CLONE_FILES | CLONE_FS;
  if ((flags & kThread) != kThread) {
    Log(LogLevel::kWarn, "%.200s: a process that shares memory but is no thread cannot be made",
        ProgramPath());
    return -EINVAL;
  }
  Start start{};
  start.flags = flags;
  start.stack = stack != 0 ? stack : CurrentThread()->guest_rsp;
  start.guest_fs = (flags & CLONE_SETTLS) != 0 ? tls : CurrentThread()->guest_fs;
  start.parent_tid = parent_tid;
  start.child_tid = child_tid;
  return MakeThread(*frame, &start);
}

long SetTidAddress(int* address) {
  CurrentThread()->clear_tid = address;
  return RawSyscall(SYS_gettid);
}

// The kernel's is the host's, which holds the stack's lock by it.
long SetRobustList(uint64_t list, uint64_t size) {
  if (size != kRobustListSize) return -EINVAL;
  CurrentThread()->robust_list = list;
  return 0;
}

long GetRobustList(int pid, uint64_t* list, uint64_t* size) {
  if (pid != 0 && pid != RawSyscall(SYS_gettid)) {
    return RawSyscall(SYS_get_robust_list, pid, Word(list), Word(size));
  }
  *list = CurrentThread()->robust_list;
  *size = kRobustListSize;
  return 0;
}

// The kernel writes there when it moves the thread, so not after the guest may have freed it.
long RegisterSequences(const long* a) {
  const long result = RawSyscall(SYS_rseq, a[0], a[1], a[2], a[3]);
  if (result != 0) return result;
  long(&kept)[4] = CurrentThread()->sequences;
  for (int i = 0; i < 4; ++i) kept[i] = a[2] == 0 ? a[i] : 0;
  return result;
}

void ExitThread(long status) {
  GuestThread& thread = *CurrentThread();
  // The guest's stack may be gone from here on, and its handlers must not come any more.
  const uint64_t all = kAllSignals;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&all), 0, kMaskBytes);
  OnThreadExit(nullptr);
  ReleaseRobustMutexes(thread.robust_list);
  const long(&area)[4] = thread.sequences;
  if (area[0] != 0) RawSyscall(SYS_rseq, area[0], area[1], RSEQ_FLAG_UNREGISTER, area[3]);
  int* const clear_tid = thread.clear_tid;
  const bool is_first = RawSyscall(SYS_gettid) == RawSyscall(SYS_getpid);
  if (clear_tid != nullptr) {
    __atomic_store_n(clear_tid, 0, __ATOMIC_RELEASE);
    Wake(clear_tid, 1);
  }
  if (is_first) {
    // libc's frames are below the guest's; the others go on, and the pump ends the process.
    for (;;) RawSyscall(SYS_exit, status);
  }
  userstack_guest_leave(&thread);
}

}  // namespace userstack::shim::guest
