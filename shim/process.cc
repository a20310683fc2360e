// Processes: which ones share the stack, and what becomes of their descriptors at fork, exec, exit
// and death. Owner of Shared::processes: the stack's lock. A child's record is reserved by its
// parent, lock held across the fork, so that the kernel's table and ours are copied at one instant.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "netstack/base/check.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/spares.h"

namespace userstack::shim {
namespace {

constexpr pid_t kReserved = -1;

constinit Process* g_child = nullptr;  // between PrepareFork and what follows; lock held
constinit char g_attach_variable[256] = {};
constinit pthread_key_t g_thread_exit_key = 0;

// Reads a small file of /proc; returns the length, 0 on failure.
size_t ReadProcFile(const char* path, char* out, size_t size) {
  const long fd = RawSyscall(SYS_open, Word(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const long n = RawSyscall(SYS_read, fd, Word(out), static_cast<long>(size - 1));
  RawSyscall(SYS_close, fd);
  if (n <= 0) return 0;
  out[n] = '\0';
  return static_cast<size_t>(n);
}

// /proc/PID/stat from field 3 on (the name before it may hold anything); null on failure.
const char* StatAfterName(pid_t pid, char (&buffer)[1024]) {
  char path[32];
  snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  if (ReadProcFile(path, buffer, sizeof(buffer)) == 0) return nullptr;
  const char* end = strrchr(buffer, ')');
  return end == nullptr || end[1] == '\0' ? nullptr : end + 2;
}

Process* FreeProcess() {
  for (Process*& process : g_shared->processes) {
    if (process != nullptr && process->pid != 0) continue;
    if (process == nullptr) {
      // Not constructed: the arena's memory is zero, which is what an empty table looks like.
      process = static_cast<Process*>(g_shared->arena->Allocate(sizeof(Process), 4096));
    }
    return process;
  }
  return nullptr;
}

void FreeRecord(Process& process) {
  process.pid = 0;
  process.parent = 0;
  process.start_time = 0;
  process.executing = false;
  process.exiting = false;
}

void Announce() {
  __atomic_add_fetch(&g_shared->process_generation, 1, __ATOMIC_ACQ_REL);
  RingPump();
}

bool IsShared(int fd) {
  if (fd == g_local.arena_descriptor || fd == g_local.listener_descriptor) return true;
  if (fd == g_local.ringer_descriptor || fd == LogDescriptor()) return true;
  int device[kMaxDeviceDescriptors];
  const size_t count = g_local.device->Descriptors(device, kMaxDeviceDescriptors);
  for (size_t i = 0; i < count; ++i) {
    if (device[i] == fd) return true;
  }
  return false;
}

// What glibc knows the forking thread by: its list of robust mutexes, and before that its id
// (struct pthread: tid, a free word, robust_prev, robust_head). fork() renews both in the child;
// clone() and a system call do not, and then the child would take the stack's lock in its parent's
// name.
struct ThreadIdentity {
  void** robust_head = nullptr;
  size_t length = 0;
  int tid = 0;
  int* stored_tid() const { return reinterpret_cast<int*>(robust_head - 2); }
};
constinit ThreadIdentity g_forking_thread = {};

void NoteThreadIdentity() {
  ThreadIdentity& identity = g_forking_thread;
  identity = {};
  RawSyscall(SYS_get_robust_list, 0, Word(&identity.robust_head), Word(&identity.length));
  identity.tid = static_cast<int>(RawSyscall(SYS_gettid));
}

void RenewThreadIdentity() {
  const ThreadIdentity& identity = g_forking_thread;
  if (identity.robust_head == nullptr || *identity.stored_tid() != identity.tid) return;
  *identity.stored_tid() = static_cast<int>(RawSyscall(SYS_gettid));
  identity.robust_head[-1] = identity.robust_head[0] = identity.robust_head;
  RawSyscall(SYS_set_robust_list, Word(identity.robust_head), static_cast<long>(identity.length));
}

// A forked child: the doorbells and the pump's descriptors are its parent's.
void BecomeChild() {
  ThreadState& state = t_state;
  state.in_session = false;
  state.waiting = false;
  state.forking = false;
  ForgetDeferredSignals();
  ForgetOutbox();
  state.sleeper = nullptr;
  state.suspended = nullptr;
  state.doorbell = -1;
  state.tid = 0;
  g_local.pid = static_cast<pid_t>(RawSyscall(SYS_getpid));
  g_local.pump_started.store(false);
  ForgetPump();
  g_local.fork_mark->store(1);
  for (int fd = NextInternalDescriptor(0); fd >= 0; fd = NextInternalDescriptor(fd + 1)) {
    if (!IsShared(fd)) CloseInternal(fd);
  }
  ForgetSpares();
}

void UseRecord(Process* process) {
  g_local.process = process;
  g_slots = process == nullptr ? nullptr : process->slots;
}

void SetInheritable(bool inheritable) {
  const long flags = inheritable ? 0 : FD_CLOEXEC;
  int device[kMaxDeviceDescriptors];
  const size_t count = g_local.device->Descriptors(device, kMaxDeviceDescriptors);
  for (size_t i = 0; i < count; ++i) RawSyscall(SYS_fcntl, device[i], F_SETFD, flags);
  RawSyscall(SYS_fcntl, g_local.arena_descriptor, F_SETFD, flags);
  RawSyscall(SYS_fcntl, g_local.listener_descriptor, F_SETFD, flags);
}

}  // namespace

uint64_t StartTimeOf(pid_t pid) {
  char buffer[1024];
  const char* field = StatAfterName(pid, buffer);
  for (int number = 3; field != nullptr && number < 22; ++number) {
    field = strchr(field, ' ');
    if (field != nullptr) ++field;
  }
  return field == nullptr ? 0 : strtoull(field, nullptr, 10);
}

bool CannotRun(pid_t thread) {
  char buffer[1024];
  const char* field = StatAfterName(thread, buffer);
  if (field != nullptr) return strchr("TtZXx", *field) != nullptr;
  return StatAfterName(g_local.pid, buffer) != nullptr;  // else there is no /proc to ask
}

bool IsLastThread() {
  char buffer[1024];
  const char* field = StatAfterName(g_local.pid, buffer);
  if (field == nullptr || *field != 'Z') return false;
  for (int number = 3; field != nullptr && number < 20; ++number) {
    field = strchr(field, ' ');
    if (field != nullptr) ++field;
  }
  return field != nullptr && strtoul(field, nullptr, 10) == 2;
}

Process* NewProcess(pid_t pid) {
  Process* process = FreeProcess();
  if (process == nullptr) return nullptr;
  process->pid = pid;
  process->start_time = StartTimeOf(pid);
  Announce();
  return process;
}

unsigned AttachedProcesses() {
  unsigned count = 0;
  for (const Process* process : g_shared->processes) {
    if (process != nullptr && process->pid != 0 && !process->exiting) ++count;
  }
  return count;
}

void ReapProcess(Process& process, Instant now) {
  const pid_t pid = process.pid;
  RemoveAll(process, now);
  FreeRecord(process);
  for (Sleeper* sleeper = g_shared->all_sleepers.front(); sleeper != nullptr;) {
    Sleeper* next = g_shared->all_sleepers.Next(sleeper);
    if (sleeper->pid == pid) ReleaseSleeper(sleeper, now);
    sleeper = next;
  }
  // What it was forking when it ended.
  for (Process* child : g_shared->processes) {
    if (child == nullptr || child->pid != kReserved || child->parent != pid) continue;
    RemoveAll(*child, now);
    FreeRecord(*child);
  }
  // It may have ended between taking sleepers off a queue and waking them.
  WakeEverybody();
}

void BecomeSuccessor() {
  BecomeChild();
  UseRecord(nullptr);
}

void PrepareFork() {
  if (!IsAttached() || t_state.in_session || !EnterStack()) return;
  t_state.forking = true;
  NoteThreadIdentity();
  g_child = FreeProcess();
  if (g_child == nullptr) {
    Log(LogLevel::kError, "more than %u processes on one stack: the child has no sockets",
        kMaxProcesses);
    return;
  }
  g_child->pid = kReserved;
  g_child->parent = g_local.pid;
  CopyAll(*g_local.process, *g_child);
}

void ForkInParent(pid_t child) {
  if (!t_state.forking) return;
  t_state.forking = false;
  const Instant now = MonotonicNow();
  Process* process = g_child;
  g_child = nullptr;
  if (process != nullptr && child > 0) {
    __atomic_store_n(&process->pid, child, __ATOMIC_RELEASE);  // the child wrote the same, or will
    Announce();
  } else if (process != nullptr) {
    RemoveAll(*process, now);
    FreeRecord(*process);
  }
  Drain(now);
  LeaveStack();
}

void ForkInChild() {
  // The lock is the parent's, who lets it go; not ours to touch.
  if (!t_state.forking) return;
  Process* process = g_child;
  g_child = nullptr;
  RenewThreadIdentity();
  BecomeChild();
  if (process != nullptr) {
    // Unless the parent died at once and its reservations were dropped.
    pid_t expected = kReserved;
    const bool claimed = __atomic_compare_exchange_n(&process->pid, &expected, g_local.pid, false,
                                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    if (!claimed && expected != g_local.pid) process = nullptr;
  }
  if (process != nullptr) process->start_time = StartTimeOf(g_local.pid);
  UseRecord(process);
}

void AdoptAfterSilentFork() {
  const Process* parent = g_local.process;
  BecomeChild();
  t_state.in_session = true;
  UseRecord(nullptr);
  if (!LockShared()) return;
  Process* process = NewProcess(g_local.pid);
  if (process != nullptr && parent != nullptr) {
    for (unsigned fd = 0; fd < parent->slot_limit; ++fd) {
      Description* description = parent->slots[fd].description.load();
      if (description == nullptr || IsPlacedSince(*description)) continue;
      if (!IsGenuine(static_cast<int>(fd), *description)) continue;
      description->unfit = true;
      Install(*process, static_cast<int>(fd), description);
    }
  }
  UseRecord(process);
  UnlockShared();
}

void RevalidateSlots(Process& process, Instant now) {
  for (unsigned fd = 0; fd < process.slot_limit; ++fd) {
    const Description* description = process.slots[fd].description.load();
    if (description == nullptr) continue;
    NotePlaced(*description);
    if (IsGenuine(static_cast<int>(fd), *description)) continue;
    Remove(process, static_cast<int>(fd), now);
  }
}

void ScanDescriptors(Process& process) {
  constexpr int kScanned = 1024;  // what a spawned program inherits is small
  for (int fd = 0; fd < kScanned; ++fd) {
    struct stat status;
    if (IsInternalDescriptor(fd) || RawSyscall(SYS_fstat, fd, Word(&status)) != 0) continue;
    if (!S_ISSOCK(status.st_mode)) continue;
    Description* description = FindByInode(status.st_ino);
    if (description == nullptr || IsPlacedSince(*description)) continue;
    description->unfit = true;
    Install(process, fd, description);
  }
}

const char* PrepareExec() {
  if (!IsAttached()) return nullptr;
  // The pump, which would send them, does not survive exec.
  if (__atomic_load_n(&g_shared->output_held, __ATOMIC_RELAXED)) {
    Session session;
    session.Flush();
  }
  SetInheritable(true);
  g_local.process->executing = true;
  int device[kMaxDeviceDescriptors];
  const size_t count = g_local.device->Descriptors(device, kMaxDeviceDescriptors);
  size_t used = static_cast<size_t>(snprintf(g_attach_variable, sizeof(g_attach_variable),
                                             "USERSTACK_ATTACH=%d:%d", g_local.arena_descriptor,
                                             g_local.listener_descriptor));
  for (size_t i = 0; i < count && used < sizeof(g_attach_variable); ++i) {
    used += static_cast<size_t>(
        snprintf(g_attach_variable + used, sizeof(g_attach_variable) - used, ":%d", device[i]));
  }
  if (used < sizeof(g_attach_variable)) {
    snprintf(g_attach_variable + used, sizeof(g_attach_variable) - used, "@%u", NewestPlaced());
  }
  return g_attach_variable;
}

void ExecFailed() {
  if (!IsAttached()) return;
  SetInheritable(false);
  g_local.process->executing = false;
}

void ProcessExit() {
  if (!IsAttached() || g_local.exited || t_state.in_session) return;
  if (!EnterStack()) return;
  g_local.exited = true;
  const Instant now = MonotonicNow();
  g_slots = nullptr;
  RemoveAll(*g_local.process, now);
  // The record stays until the process is really gone: its other threads may still sleep here.
  g_local.process->exiting = true;
  TakeInput(now);
  Drain(now);
  const bool finish = AttachedProcesses() == 0 && g_shared->stack->HasUnfinishedWork(true);
  StopAttending(t_state.sleeper);
  LeaveStack();
  if (finish) SpawnSuccessor();
}

void InitializeThreadExit() { pthread_key_create(&g_thread_exit_key, OnThreadExit); }

void AnnounceThread() { pthread_setspecific(g_thread_exit_key, &t_state); }

void OnThreadExit(void*) {
  if (g_shared == nullptr || t_state.sleeper == nullptr || !EnterStack()) return;
  const Instant now = MonotonicNow();
  ReleaseSleeper(t_state.sleeper, now);
  t_state.sleeper = nullptr;
  Drain(now);
  LeaveStack();
  if (t_state.doorbell >= 0) CloseInternal(t_state.doorbell);
  t_state.doorbell = -1;
  ForgetOutbox();
  ForgetPollBuffer();
}

}  // namespace userstack::shim
