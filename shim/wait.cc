// Wait: how a thread sleeps until the stack, the kernel, a deadline or a signal has something for
// it.
//
// One sleeping thread per stack attends the device: it sleeps in ppoll on it, and until the stack's
// next deadline, so that data takes no extra wake-up on its way to the thread that needs it. The
// others sleep on their futex, or on their doorbell when they watch kernel descriptors as well. An
// attendant that returns to its program hands nothing over (that would cost a wake-up per call):
// the next thread that blocks takes the device, sessions look at it on their way, and the pump
// takes it when nobody did for a millisecond. An attendant that was woken by what is not for it,
// while other threads are at work, lets go of the device and sleeps on: the threads that the wire
// works for are the ones to watch it.
//
// A thread whose waits are usually short (wait_estimate.h) polls before it sleeps, for
// USERSTACK_SPIN_US at most; meanwhile it is the attendant.
//
// No wake-up is lost: a thread enters the queues under the lock, after it has looked; whoever makes
// it ready finds it there and sets its word before waking it; the futex compares the word, and a
// doorbell keeps its ring. A signal that comes between looking and sleeping zeroes the timeout of
// the sleep (see signals.cc).
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "shim/internal.h"
#include "shim/real.h"
#include "shim/signals.h"

namespace userstack::shim {
namespace {

constexpr long kFutexWaitBitset = 9;  // absolute CLOCK_MONOTONIC, shared between processes
constexpr long kFutexMatchAny = 0xffffffff;
// Doorbell, device, what it has at its side, and its further queues.
constexpr size_t kOwnEntries = 3 + DeviceQueues::kMost;
constexpr Duration kLongest = Duration::Seconds(86400);
constexpr Duration kWithoutDoorbell = Duration::Milliseconds(1);
// A follower looks this often whether the process that attends the device was stopped (SIGSTOP).
constexpr Duration kDistrust = Duration::Seconds(2);
// Between two looks of a thread that polls. A look is a system call, so it needs few.
constexpr int kPausesPerLook = 4;
// Every so many looks: at the kernel's descriptors, and whether somebody else wants the core.
constexpr unsigned kLooksPerTurn = 4;
// So long between two looks means that the core was somebody else's.
constexpr Duration kPreempted = Duration::Microseconds(200);

timespec ToTimespec(int64_t nanoseconds) {
  return {nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
}

// A buffer for `count` entries that this thread keeps. Null: out of memory.
pollfd* PollBuffer(size_t count) {
  ThreadState& state = t_state;
  if (count <= state.poll_capacity) return state.poll_buffer;
  const size_t bytes = (count * sizeof(pollfd) * 2 + 4095) & ~size_t{4095};
  const long memory = RawSyscall(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory < 0 && memory > -4096) return nullptr;
  ForgetPollBuffer();
  state.poll_buffer = reinterpret_cast<pollfd*>(memory);
  state.poll_capacity = bytes / sizeof(pollfd);
  return state.poll_buffer;
}

}  // namespace

void ForgetPollBuffer() {
  ThreadState& state = t_state;
  if (state.poll_buffer == nullptr) return;
  RawSyscall(SYS_munmap, Word(state.poll_buffer),
             static_cast<long>(state.poll_capacity * sizeof(pollfd)));
  state.poll_buffer = nullptr;
  state.poll_capacity = 0;
}

namespace {

// What one sleep waits for beyond the caller's kernel descriptors.
struct SleepPlan {
  bool attend = false;
  unsigned queue = 0;     // of the device: the one whose text the thread waits for
  QueueMask queues = 0;   // the same of several sockets, beside the first queue
  uint64_t sessions = 0;  // of all threads, when it was made
  bool use_poll = false;
  bool has_doorbell = false;
  Instant wake_at = Instant::Never();
};

// ppoll failed for want of memory, or with more entries than RLIMIT_NOFILE allows: not to spin.
void PauseAfterFailure() {
  timespec pause = ToTimespec(kWithoutDoorbell.nanoseconds);
  RawSyscall(SYS_nanosleep, Word(&pause), 0);
}

// The thread was cancelled in its sleep (pthread_cancel): its sleeper goes, with the watches and
// pins of the call, so that it takes no wake-up from others while its cleanup handlers run.
void LeaveCancelled(void*) {
  ThreadState& state = t_state;
  state.in_session = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  state.sleep_timeout = nullptr;
  state.waiting = false;
  if (!LockShared()) {
    state.in_session = false;
    return;
  }
  ReleaseSleeper(state.sleeper, MonotonicNow());
  state.sleeper = nullptr;
  LeaveStack();
}

class Waiting {
 public:
  Waiting(Session& session, const WaitRequest& request)
      : session_(session),
        request_(request),
        handlers_before_(t_state.handlers_run),
        begin_(session.now()),
        spin_limit_(Duration::Microseconds(CurrentConfig().spin_microseconds)) {
    t_state.all_restart = true;
    for (unsigned i = 0; i < request.kernel_count; ++i) request.kernel[i].revents = 0;
  }

  WaitResult Run() {
    const unsigned before = t_state.queue;
    Socket* const only =
        request_.set != nullptr ? shim::OnlySocket(request_.set->pollable) : nullptr;
    if (before == 0 && only != nullptr) t_state.queue = session_.stack().DeviceQueue(*only);
    LearnQueues();
    t_state.waited_apart = t_state.queue != 0 || queues_ != 0;
    t_state.waits_in = request_.set;
    const WaitResult result = WaitForSomething();
    t_state.queue = before;
    if (session_.failed()) return result;
    if (crossed_ && only != nullptr) NoteCrossing(*only, *request_.set, session_.now());
    if (request_.set != nullptr) {
      t_state.estimate.Note(session_.now() - begin_, slept_, spin_limit_);
    }
    // A handler that was put off runs now, so that a caller that goes on waiting does not find it
    // still there.
    if (result == WaitResult::kInterrupted && t_state.deferred_count != 0) {
      Leave();
      Enter();
    }
    return result;
  }

 private:
  WaitResult WaitForSomething();
  void Leave();
  bool Enter();
  bool IsReady() { return HasReady(*request_.set, session_.core().wakes); }
  bool IsInterrupted() const {
    return interrupted_ || t_state.handlers_run != handlers_before_ ||
           t_state.deferred_count != 0 || t_state.leaves_for_handlers;
  }
  void LearnQueues();
  void LookAtDevice();
  void LookWhereReadable();
  bool WillSpin() const;
  bool Spin(WaitResult* result);
  bool LookInSpin(bool kernel_too, bool* kernel_ready);
  bool LookAtKernel();
  SleepPlan Enqueue();
  long Sleep(const SleepPlan& plan);
  // Kept apart from each other: one of them holds a setjmp.
  [[gnu::noinline]] void SleepCancellably(const SleepPlan& plan, timespec* timeout, long* result);
  [[gnu::noinline]] void SleepNow(const SleepPlan& plan, timespec* timeout, long* result);
  long SleepOnFutex(timespec* until);
  long SleepInPoll(const SleepPlan& plan, timespec* timeout);
  void SuspectAttendant(const SleepPlan& plan);
  void MaybeFollow(const SleepPlan& plan);
  bool AfterSleep(const SleepPlan& plan, long slept, WaitResult* result);
  WaitResult KernelOnly();

  Session& session_;
  const WaitRequest& request_;
  uint32_t handlers_before_;
  Instant begin_;
  Duration spin_limit_;
  // Of several sockets that it waits for, and what the last sleep in ppoll found readable.
  QueueMask queues_ = 0;
  QueueMask readable_ = 0;
  bool first_readable_ = false;
  bool interrupted_ = false;
  bool slept_ = false;
  bool crossed_ = false;  // it took what was for others, or others what was for it
  bool follows_ = false;  // it watched the device for others: not again in this wait
};

// Lets go of the lock. Until Enter, a handler takes the thread out of the stack's queues.
void Waiting::Leave() {
  t_state.wait_detached = false;
  t_state.waiting = true;
  LeaveStack();
}

// With the lock taken again. False: the stack is lost.
bool Waiting::Enter() {
  t_state.in_session = true;  // before `waiting` ends: a handler is put off from here on
  std::atomic_signal_fence(std::memory_order_seq_cst);
  t_state.waiting = false;
  if (!EnterStack()) {
    SessionAccess::SetFailed(session_);
    return false;
  }
  SessionAccess::SetNow(session_, MonotonicNow());
  return true;
}

void Waiting::LearnQueues() {
  const bool several = request_.set != nullptr && t_state.queue == 0 && HasOpenQueues();
  queues_ = several ? QueuesOf(*request_.set) : 0;
}

// After a sleep for several queues: one frame is enough, and the reads that it leads to take the
// others.
void Waiting::LookWhereReadable() {
  if (first_readable_) TakeInput(session_.now());
  if (!IsReady()) TakeFirstOf(readable_ & queues_, session_.now());
  Drain(session_.now());
}

void Waiting::LookAtDevice() {
  if (t_state.queue != 0 && IsForRequests(t_state.queue)) {
    TakeOne(session_.now());
  } else if (t_state.queue != 0 || g_shared->last_poll != session_.now().nanoseconds) {
    TakeInput(session_.now());
  }
  TakeUnseen(queues_, session_.now(), Duration{});
  Drain(session_.now());
}

// Without the lock: one look at the kernel descriptors.
bool Waiting::LookAtKernel() {
  if (request_.kernel_count == 0) return false;
  timespec zero{};
  return RawSyscall(SYS_ppoll, Word(request_.kernel), request_.kernel_count, Word(&zero), 0, 8) > 0;
}

// Whether this wait begins with looking again and again.
bool Waiting::WillSpin() const {
  const Sleeper* attendant = g_shared->attendant;
  if (spin_limit_.nanoseconds == 0 || queues_ != 0) return false;
  if (t_state.queue != 0) {
    return IsForRequests(t_state.queue) && t_state.estimate.PollingPays(spin_limit_);
  }
  if (attendant != nullptr && attendant != g_shared->pump) return false;
  return t_state.estimate.PollingPays(spin_limit_);
}

// One look, with the lock let go before it, so that others get in. False: the stack is lost.
bool Waiting::LookInSpin(bool kernel_too, bool* kernel_ready) {
  Leave();
  for (int i = 0; i < kPausesPerLook; ++i) __builtin_ia32_pause();
  if (kernel_too) {
    *kernel_ready = LookAtKernel();
    // Nobody waits for this core: it costs little. Somebody does: polling would only keep him off.
    RawSyscall(SYS_sched_yield);
  }
  if (!Enter()) return false;
  // One packet and no more: whether another is there would be a system call before its reader runs.
  const bool found = TakeOne(session_.now()) != 0;
  if (found || g_shared->next_deadline <= session_.now().nanoseconds) Drain(session_.now());
  return true;
}

// Looks again and again for a short while before the thread sleeps. True: *result is the answer.
bool Waiting::Spin(WaitResult* result) {
  Sleeper* const me = t_state.sleeper;
  const Instant end = std::min(session_.now() + spin_limit_, request_.deadline);
  bool done = false;
  for (unsigned looks = 1; !done && session_.now() < end; ++looks) {
    if (t_state.queue == 0) {
      if (g_shared->attendant != nullptr && g_shared->attendant != me &&
          g_shared->attendant != g_shared->pump) {
        break;  // a thread that sleeps does it now
      }
      SetAttendant(me);
      g_shared->attended_until = end.nanoseconds;
    }
    const Instant before = session_.now();
    bool kernel_ready = false;
    *result = WaitResult::kStackReady;
    if (!LookInSpin(looks % kLooksPerTurn == 0, &kernel_ready)) return true;
    done = true;
    if (kernel_ready) {
      *result = WaitResult::kKernelReady;
    } else if (IsReady()) {
      *result = WaitResult::kStackReady;
    } else if (IsInterrupted()) {
      *result = WaitResult::kInterrupted;
    } else {
      done = false;
    }
    if (!done && session_.now() - before > kPreempted) {
      t_state.estimate.NotePreempted(spin_limit_);
      break;
    }
  }
  if (done) StopAttending(me);
  return done;
}

// Puts the thread in the queues and decides what it watches.
SleepPlan Waiting::Enqueue() {
  Sleeper& me = *t_state.sleeper;
  me.waiter.set = request_.set;
  __atomic_store_n(&me.waiter.wake_word, 0, __ATOMIC_RELEASE);
  request_.set->waiters.PushBack(&me.waiter);
  SleepPlan plan;
  plan.sessions = g_shared->sessions;
  Sleeper* attendant = g_shared->attendant;
  plan.queue = t_state.queue;
  LearnQueues();
  plan.queues = queues_;
  plan.attend = !follows_ && plan.queue == 0 &&
                (attendant == nullptr || attendant == &me || attendant == g_shared->pump);
  plan.use_poll = plan.attend || (plan.queue | plan.queues) != 0 || request_.kernel_count != 0 ||
                  request_.mask != nullptr;
  plan.wake_at = std::min(request_.deadline, session_.now() + kLongest);
  if (plan.use_poll) plan.has_doorbell = EnsureDoorbell(me);
  __atomic_store_n(&me.needs_doorbell, plan.use_poll, __ATOMIC_RELAXED);
  if (plan.attend) {
    SetAttendant(&me);
    g_local.device->BeforeSleep();
    ReportProblem();
    plan.wake_at = std::min(plan.wake_at, session_.stack().NextDeadline());
    g_shared->attended_until = plan.wake_at.nanoseconds;
  } else if (attendant != nullptr && attendant->pid != g_local.pid) {
    plan.wake_at = std::min(plan.wake_at, session_.now() + kDistrust);
  }
  if (plan.use_poll && !plan.has_doorbell) {
    // No descriptor left for a doorbell: look again and again instead.
    plan.wake_at = std::min(plan.wake_at, session_.now() + kWithoutDoorbell);
  }
  return plan;
}

long Waiting::SleepOnFutex(timespec* until) {
  return RawSyscall(SYS_futex, Word(&t_state.sleeper->waiter.wake_word), kFutexWaitBitset, 0,
                    Word(until), 0, kFutexMatchAny);
}

// Returns what ppoll does, with the caller's revents filled in and our own entries not counted.
long Waiting::SleepInPoll(const SleepPlan& plan, timespec* timeout) {
  const size_t count = request_.kernel_count;
  pollfd* entries = PollBuffer(count + kOwnEntries);
  if (entries == nullptr) return -ENOMEM;
  std::copy_n(request_.kernel, count, entries);
  size_t total = count;
  if (plan.has_doorbell) entries[total++] = {t_state.doorbell, POLLIN, 0};
  if (plan.attend && !g_local.device->gone()) {
    const short events = g_shared->device_busy ? POLLIN | POLLOUT : POLLIN;
    entries[total++] = {g_local.device->wait_descriptor(), events, 0};
    entries[total++] = {g_local.device->side_descriptor(), POLLIN, 0};
  }
  if (plan.queue != 0 && !g_local.device->gone()) {
    entries[total++] = {g_local.device->queue_descriptor(plan.queue), POLLIN, 0};
  }
  const size_t first_queue = total;
  if (!g_local.device->gone()) total += AddEntries(plan.queues, entries + total);
  const long result = RawSyscall(SYS_ppoll, Word(entries), static_cast<long>(total), Word(timeout),
                                 Word(request_.mask), 8);
  if (result <= 0) return result;
  if (total != first_queue) readable_ = ReadableOf(plan.queues, entries + first_queue);
  for (size_t i = count; i < first_queue; ++i) {
    if (entries[i].fd != t_state.doorbell && entries[i].revents != 0) first_readable_ = true;
  }
  if (plan.has_doorbell && entries[count].revents != 0) DrainDoorbell();
  long ready = 0;
  for (size_t i = 0; i < count; ++i) {
    request_.kernel[i].revents = entries[i].revents;
    if (entries[i].revents != 0) ++ready;
  }
  return ready;
}

void Waiting::SleepNow(const SleepPlan& plan, timespec* timeout, long* result) {
  *result = plan.use_poll ? SleepInPoll(plan, timeout) : SleepOnFutex(timeout);
}

// A blocking call is a cancellation point. The frames above have nothing that must be undone:
// LeaveCancelled drops what the call has in the stack.
void Waiting::SleepCancellably(const SleepPlan& plan, timespec* timeout, long* result) {
  pthread_cleanup_push(LeaveCancelled, nullptr);
  int type = 0;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  SleepNow(plan, timeout, result);
  pthread_setcanceltype(type, nullptr);
  pthread_cleanup_pop(0);
}

long Waiting::Sleep(const SleepPlan& plan) {
  ThreadState& state = t_state;
  slept_ = true;
  Leave();
  const int64_t left = std::max<int64_t>(0, (plan.wake_at - MonotonicNow()).nanoseconds);
  timespec timeout = ToTimespec(plan.use_poll ? left : plan.wake_at.nanoseconds);
  state.sleep_timeout = &timeout;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  long result = 0;
  const Sleeper& me = *state.sleeper;
  readable_ = 0;
  first_readable_ = false;
  if (!state.wait_detached && !state.leaves_for_handlers &&
      __atomic_load_n(&me.waiter.wake_word, __ATOMIC_ACQUIRE) == 0) {
    SleepCancellably(plan, &timeout, &result);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  state.sleep_timeout = nullptr;
  if (result == -EINTR || state.wait_detached) interrupted_ = true;
  if (plan.use_poll && result < 0 && result != -EINTR) PauseAfterFailure();
  return plan.use_poll ? result : 0;
}

// A follower that nobody woke: is the attendant stopped, or dead? Then somebody else attends.
void Waiting::SuspectAttendant(const SleepPlan& plan) {
  const Sleeper* attendant = g_shared->attendant;
  if (attendant == nullptr || attendant->pid == g_local.pid) return;
  if (session_.now() < plan.wake_at || !CannotRun(attendant->tid)) return;
  SetAttendant(nullptr);
}

// An attendant that the device woke for nothing. When others were in the stack meanwhile, input is
// probably theirs: the next of them that blocks attends, and the pump before that (StopAttending).
void Waiting::MaybeFollow(const SleepPlan& plan) {
  const bool others = g_shared->sessions != plan.sessions + 1 || !session_.core().wakes.empty();
  if (others && !IsReady() && t_state.sleeper == g_shared->attendant) {
    follows_ = true;
    crossed_ = true;
    StopAttending(t_state.sleeper);
  }
}

// With the lock again. True: *result is the answer.
bool Waiting::AfterSleep(const SleepPlan& plan, long slept, WaitResult* result) {
  Sleeper& me = *t_state.sleeper;
  if (!t_state.wait_detached) me.waiter.node.Unlink();
  me.waiter.set = nullptr;
  if (plan.queues != 0) {
    LookWhereReadable();
  } else if (plan.queue != 0 || plan.attend) {
    LookAtDevice();
  }
  if (plan.attend) {
    MaybeFollow(plan);
  } else if (plan.queue == 0) {
    SuspectAttendant(plan);
    crossed_ = true;
  }
  if (slept > 0) {
    *result = WaitResult::kKernelReady;
  } else if (IsReady()) {
    *result = WaitResult::kStackReady;
  } else if (IsInterrupted()) {
    *result = WaitResult::kInterrupted;
  } else if (session_.now() >= request_.deadline) {
    *result = WaitResult::kTimedOut;
  } else {
    return false;
  }
  return true;
}

WaitResult Waiting::KernelOnly() {
  ThreadState& state = t_state;
  const Instant wake_at = std::min(request_.deadline, session_.now() + kLongest);
  Drain(session_.now());
  Leave();
  const int64_t left = std::max<int64_t>(0, (wake_at - MonotonicNow()).nanoseconds);
  timespec timeout = ToTimespec(left);
  state.sleep_timeout = &timeout;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  long result = -EINTR;
  if (!state.wait_detached && !state.leaves_for_handlers) {
    result = RawSyscall(SYS_ppoll, Word(request_.kernel), request_.kernel_count, Word(&timeout),
                        Word(request_.mask), 8);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  state.sleep_timeout = nullptr;
  if (!Enter()) return WaitResult::kStackReady;
  if (result > 0) return WaitResult::kKernelReady;
  if (result == -EINTR || IsInterrupted()) return WaitResult::kInterrupted;
  return session_.now() >= request_.deadline ? WaitResult::kTimedOut : WaitResult::kStackReady;
}

WaitResult Waiting::WaitForSomething() {
  if (request_.set == nullptr) return KernelOnly();
  if (!g_local.pump_started.load(std::memory_order_relaxed)) {
    Leave();
    EnsurePump();
    if (!Enter()) return WaitResult::kStackReady;
  }
  if (IsReady()) return WaitResult::kStackReady;
  const bool spin = WillSpin();
  const bool expired = session_.now() >= request_.deadline;
  // Who is about to sleep on the device sees there what has come; a look before would be a system
  // call that finds nothing.
  if (spin || expired) {
    LookAtDevice();
    if (IsReady()) return WaitResult::kStackReady;
  } else {
    Drain(session_.now());
    if (IsReady()) return WaitResult::kStackReady;
  }
  if (IsInterrupted()) return WaitResult::kInterrupted;
  if (expired && request_.kernel_count == 0) return WaitResult::kTimedOut;
  WaitResult result;
  if (spin && !expired && Spin(&result)) return result;
  for (;;) {
    const SleepPlan plan = Enqueue();
    const long slept = Sleep(plan);
    if (!Enter()) return WaitResult::kStackReady;
    if (!AfterSleep(plan, slept, &result)) continue;
    StopAttending(t_state.sleeper);
    return result;
  }
}

}  // namespace

WaitResult Wait(Session& session, const WaitRequest& request) {
  if (session.failed()) return WaitResult::kStackReady;
  return Waiting(session, request).Run();
}

bool ShouldRestart() { return t_state.all_restart; }

bool MustLeaveForHandlers() { return t_state.leaves_for_handlers; }

void StopAttending(Sleeper* sleeper) {
  if (g_shared->attendant != sleeper) return;
  SetAttendant(nullptr);
  if (g_shared->pump_state != PumpState::kParked) return;
  g_shared->pump_state = PumpState::kTicking;
  RingPump();
}

void DetachWait() {
  ThreadState& state = t_state;
  state.in_session = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (state.sleep_timeout != nullptr) *state.sleep_timeout = {};
  state.wait_detached = true;
  state.waiting = false;
  if (!LockShared()) {
    state.in_session = false;
    return;
  }
  state.sleeper->waiter.node.Unlink();
  StopAttending(state.sleeper);
  LeaveStack();
}

}  // namespace userstack::shim
