// Pump: keeps timers and input going when no call is in progress. Every attached process may have
// one such thread; the one that holds the pump's lease (a robust mutex: the kernel passes it on
// when its process dies) works, the others sleep in it. It also notices the death of processes
// (pidfds) and serves newcomers (rendezvous).
//
// States. kAttending: nobody else watches the device, so the pump sleeps on it and on the stack's
// next deadline. kTicking: the program is active and looks at the device itself; the pump wakes
// every millisecond, takes no lock, and attends when a whole tick has passed without a look.
// kParked: a thread of a program sleeps on the device, no further queue of it is open, and nothing
// has happened for some ticks; the pump sleeps for good. Who stops attending wakes a parked pump
// (StopAttending). A program that does nothing therefore costs nothing, and an active one a
// thousand short wake-ups a second at most.
#include <dlfcn.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr Duration kTick = Duration::Milliseconds(1);
constexpr Duration kShortestTick = Duration::Microseconds(100);
// A stream of datagrams is going out in bursts: the last one must not wait for a whole tick.
constexpr Duration kHurry = Duration::Milliseconds(2);
constexpr long kTimerSlack = 5000;  // ns; Linux's 50 us would be half of a short tick
constexpr int kQuietTicksBeforeParking = 8;
// The lock's owner may be stopped: a pump that found it taken so often sleeps for it.
constexpr int kMostPassedOver = 8;
constexpr Duration kParkedCheck = Duration::Seconds(2);
// So often an idle pump looks for what nobody tells it of.
constexpr Duration kLongestSleep = Duration::Seconds(2);
constexpr size_t kStackBytes = 256 << 10;
constexpr uint64_t kListenerKey = ~uint64_t{0};

struct Watched {
  pid_t pid = 0;  // 0: free
  int descriptor = -1;
};

class Pump {
 public:
  // Works until `done` (a successor's) says so; a thread of a program never returns.
  void Run(bool successor, Instant deadline);
  // A forked child: what its parent's pump watched is the parent's.
  void Forget() {
    epoll_ = -1;
    for (Watched& watched : watched_) watched = {};
    yielding_ = false;
  }
  // A newcomer that cannot share this stack wants its device. True: a successor will give way.
  bool Yield() {
    yielding_ = successor_;
    return successor_;
  }

 private:
  bool Start();
  void Stop();
  bool IsDone(Instant deadline);
  Instant Decide(bool* watch_device);
  Instant Attend(Instant now);
  Instant Observe(Instant now);
  void Sleep(Instant until, bool watch_device);
  void HandleEvents();
  void UpdateWatches();
  void WatchProcess(pid_t pid);
  void Unwatch(Watched& watched);
  void BuryIfDead(pid_t pid);
  void Bury(pid_t pid);

  int epoll_ = -1;
  uint64_t generation_ = 0;
  uint64_t sessions_ = 0;
  int quiet_ticks_ = 0;
  int passed_over_ = 0;
  Instant looked_;  // at what is looked at now and then
  bool successor_ = false;
  bool yielding_ = false;
  Watched watched_[kMaxProcesses];
};

// A process ends with its last thread, which glibc knows by this counter (nptl/nptl_init, 2.36).
// The pump's thread is taken out of it, so that it is none of the program's. Null: another glibc;
// then the pump looks every now and then whether it is alone.
constinit unsigned* g_thread_count = nullptr;

[[gnu::constructor]] void FindThreadCount() {
  g_thread_count = static_cast<unsigned*>(dlvsym(RTLD_DEFAULT, "__nptl_nthreads", "GLIBC_PRIVATE"));
}

void CountPump(int change) {
  if (g_thread_count != nullptr) __atomic_add_fetch(g_thread_count, change, __ATOMIC_ACQ_REL);
}

void EndWithLastThread() {
  if (g_thread_count == nullptr && IsLastThread()) exit(0);
}

bool Enter(Instant* now) {
  if (!EnterStack()) return false;
  *now = MonotonicNow();
  return true;
}

void Leave(Instant now) {
  Drain(now);
  LeaveStack();
}

bool Pump::Start() {
  generation_ = 0;
  const long epoll = RawSyscall(SYS_epoll_create1, EPOLL_CLOEXEC);
  if (epoll < 0) return false;
  epoll_ = MoveInternal(static_cast<int>(epoll));
  if (epoll_ < 0) return false;
  epoll_event event{EPOLLIN, {.u64 = kListenerKey}};
  RawSyscall(SYS_epoll_ctl, epoll_, EPOLL_CTL_ADD, g_local.listener_descriptor, Word(&event));
  Instant now;
  if (!Enter(&now)) return false;
  EnsureDoorbell(*t_state.sleeper);
  __atomic_store_n(&t_state.sleeper->needs_doorbell, true, __ATOMIC_RELAXED);
  g_shared->pump = t_state.sleeper;
  g_shared->pump_state = PumpState::kTicking;
  Leave(now);
  return true;
}

void Pump::Stop() {
  Instant now;
  if (Enter(&now)) {
    g_shared->pump_state = PumpState::kNone;
    ReleaseSleeper(t_state.sleeper, now);
    t_state.sleeper = nullptr;
    Leave(now);
  }
  for (Watched& watched : watched_) Unwatch(watched);
  if (epoll_ >= 0) CloseInternal(epoll_);
  epoll_ = -1;
}

// A successor is done when programs have joined, when no work is left, or when it takes too long.
// TIME_WAIT is no reason to keep the device from a stack of another configuration.
bool Pump::IsDone(Instant deadline) {
  Instant now;
  if (!Enter(&now)) return true;
  const bool done = AttachedProcesses() != 0 || now >= deadline || g_local.device->gone() ||
                    !g_shared->stack->HasUnfinishedWork(!yielding_);
  Leave(now);
  return done;
}

void Pump::Run(bool successor, Instant deadline) {
  successor_ = successor;
  if (!Start()) Log(LogLevel::kWarn, "the pump cannot start: no descriptor is left");
  while (epoll_ >= 0 && !__atomic_load_n(&g_shared->failed, __ATOMIC_ACQUIRE)) {
    if (successor && IsDone(deadline)) break;
    if (__atomic_load_n(&g_shared->process_generation, __ATOMIC_ACQUIRE) != generation_) {
      UpdateWatches();
    }
    bool watch_device = false;
    const Instant until = Decide(&watch_device);
    Sleep(successor ? std::min(until, deadline) : until, watch_device);
  }
  Stop();
}

// When a ticking pump looks again.
Instant NextTick(Instant now) {
  const Instant deadline{__atomic_load_n(&g_shared->next_deadline, __ATOMIC_RELAXED)};
  const Instant hurry{__atomic_load_n(&g_shared->pump_hurry, __ATOMIC_RELAXED)};
  if (now - hurry < kHurry) return now + kShortestTick;
  return std::max(std::min(now + kTick, deadline), now + kShortestTick);
}

// Returns until when to sleep. Without the lock while the program is active and nothing is due.
Instant Pump::Decide(bool* watch_device) {
  Instant now = MonotonicNow();
  const Sleeper* attendant = __atomic_load_n(&g_shared->attendant, __ATOMIC_ACQUIRE);
  const Instant last{__atomic_load_n(&g_shared->last_poll, __ATOMIC_RELAXED)};
  const int64_t held = __atomic_load_n(&g_shared->held_until, __ATOMIC_RELAXED);
  const bool due = __atomic_load_n(&g_shared->next_deadline, __ATOMIC_RELAXED) <= now.nanoseconds ||
                   (held != 0 && held <= now.nanoseconds) || HasForgotten(now);
  if (attendant == nullptr && now - last < kTick && !due) return NextTick(now);
  if (attendant != nullptr && attendant != t_state.sleeper) {
    const uint64_t sessions = __atomic_load_n(&g_shared->sessions, __ATOMIC_RELAXED);
    quiet_ticks_ = sessions != sessions_ ? 0 : quiet_ticks_ + 1;
    sessions_ = sessions;
    if (quiet_ticks_ < kQuietTicksBeforeParking && !due) return NextTick(now);
  }
  // What is due is done by whoever is in the stack already, as often as not: to sleep for the lock
  // would cost that a wake-up, and take the rest of a burst from it.
  if (attendant == nullptr && passed_over_ < kMostPassedOver && IsLockTaken()) {
    ++passed_over_;
    return now + kShortestTick;
  }
  passed_over_ = 0;
  if (!Enter(&now)) return now + kTick;
  TendQueues(now);
  Drain(now);
  ReportProblem();
  attendant = g_shared->attendant;
  Instant until;
  if (attendant == nullptr || attendant == t_state.sleeper) {
    until = Attend(now);
    *watch_device = g_shared->attendant == t_state.sleeper && !g_local.device->gone();
  } else {
    until = Observe(now);
  }
  if (HasOpenQueues()) until = std::min(until, now + kTick);
  Leave(now);
  return until;
}

// Nobody else watches the device.
Instant Pump::Attend(Instant now) {
  const Instant last{g_shared->last_poll};
  if (now - last < kTick) {  // but somebody looks at it: a program is active
    SetAttendant(nullptr);
    g_shared->pump_state = PumpState::kTicking;
    return NextTick(now);
  }
  SetAttendant(t_state.sleeper);
  g_shared->pump_state = PumpState::kAttending;
  TakeInput(now);
  Drain(now);
  g_local.device->BeforeSleep();
  const Instant until = g_shared->stack->NextDeadline();
  g_shared->attended_until = until.nanoseconds;
  return until;
}

// Another thread sleeps on the device.
Instant Pump::Observe(Instant now) {
  const Sleeper& attendant = *g_shared->attendant;
  if (attendant.pid != g_local.pid && CannotRun(attendant.tid)) {
    // The next turn attends. The dead are not only those that are watched: a successor has no
    // record.
    SetAttendant(nullptr);
    return now;
  }
  if (quiet_ticks_ < kQuietTicksBeforeParking || HasOpenQueues()) return NextTick(now);
  // From now on the attendant keeps the deadlines: does it know the next one?
  if (g_shared->stack->NextDeadline().nanoseconds < g_shared->attended_until) {
    g_shared->attended_until = g_shared->stack->NextDeadline().nanoseconds;
    SendRing(*g_shared->attendant);
  }
  g_shared->pump_state = PumpState::kParked;
  quiet_ticks_ = 0;
  return AttachedProcesses() > 1 ? now + kParkedCheck : Instant::Never();
}

void Pump::Sleep(Instant until, bool watch_device) {
  pollfd entries[4] = {
      {t_state.doorbell, POLLIN, 0}, {epoll_, POLLIN, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}};
  if (watch_device) {
    entries[2].fd = g_local.device->wait_descriptor();
    entries[3].fd = g_local.device->side_descriptor();
    if (__atomic_load_n(&g_shared->device_busy, __ATOMIC_RELAXED)) entries[2].events |= POLLOUT;
  }
  timespec timeout{};
  const Instant now = MonotonicNow();
  const int64_t left = (std::min(until, now + kLongestSleep) - now).nanoseconds;
  if (left > 0) timeout = {left / 1'000'000'000, left % 1'000'000'000};
  const Instant looks_at = until - now <= kTick ? until : Instant{};
  __atomic_store_n(&g_shared->pump_looks_at, looks_at.nanoseconds, __ATOMIC_RELAXED);
  const long ready = RawSyscall(SYS_ppoll, Word(entries), std::size(entries), Word(&timeout), 0, 8);
  if (now - looked_ >= kLongestSleep && !successor_) {
    looked_ = now;
    EndWithLastThread();
    ReleaseStrayRights();
  }
  if (ready <= 0) return;
  if (entries[0].revents != 0) DrainDoorbell();
  if (entries[1].revents != 0) HandleEvents();
}

void Pump::HandleEvents() {
  constexpr int kEvents = 16;
  epoll_event events[kEvents];
  const long count = RawSyscall(SYS_epoll_wait, epoll_, Word(events), kEvents, 0);
  for (long i = 0; i < count; ++i) {
    if (events[i].data.u64 == kListenerKey) {
      ServeNewcomer();
    } else {
      BuryIfDead(static_cast<pid_t>(events[i].data.u64));
    }
  }
}

// Out of the epoll set by name: a child that was forked in between may hold the pidfd as well, and
// then closing our number does not take it out.
void Pump::Unwatch(Watched& watched) {
  if (watched.pid == 0) return;
  RawSyscall(SYS_epoll_ctl, epoll_, EPOLL_CTL_DEL, watched.descriptor, 0);
  CloseInternal(watched.descriptor);
  watched = {};
}

void Pump::BuryIfDead(pid_t pid) {
  for (Watched& watched : watched_) {
    if (watched.pid != pid) continue;
    pollfd entry{watched.descriptor, POLLIN, 0};
    timespec zero{};
    if (RawSyscall(SYS_ppoll, Word(&entry), 1, Word(&zero), 0, 8) != 1) return;
    Unwatch(watched);
    Bury(pid);
    return;
  }
}

// The process has ended.
void Pump::Bury(pid_t pid) {
  Instant now;
  if (!Enter(&now)) return;
  for (Process* process : g_shared->processes) {
    if (process != nullptr && process->pid == pid) ReapProcess(*process, now);
  }
  Leave(now);
}

void Pump::WatchProcess(pid_t pid) {
  constexpr long kPidfdOpen = 434;
  auto* free = std::find_if(std::begin(watched_), std::end(watched_),
                            [](const Watched& w) { return w.pid == 0; });
  if (free == std::end(watched_)) return;
  const long pidfd = RawSyscall(kPidfdOpen, pid, 0);
  if (pidfd == -ESRCH) {
    Bury(pid);
    return;
  }
  if (pidfd < 0) return;
  const int moved = MoveInternal(static_cast<int>(pidfd));
  if (moved < 0) return;
  *free = {pid, moved};
  epoll_event event{EPOLLIN, {.u64 = static_cast<uint64_t>(pid)}};
  RawSyscall(SYS_epoll_ctl, epoll_, EPOLL_CTL_ADD, moved, Word(&event));
}

void Pump::UpdateWatches() {
  pid_t pids[kMaxProcesses];
  size_t count = 0;
  Instant now;
  if (!Enter(&now)) return;
  generation_ = g_shared->process_generation;
  for (Process* process : g_shared->processes) {
    if (process == nullptr || process->pid <= 0 || process->pid == g_local.pid) continue;
    const uint64_t start = StartTimeOf(process->pid);
    if (process->start_time == 0) process->start_time = start;
    if (process->start_time == start) {
      pids[count++] = process->pid;
    } else {
      ReapProcess(*process, now);  // it has ended; another may have its number
    }
  }
  Leave(now);
  for (Watched& watched : watched_) {
    if (std::find(pids, pids + count, watched.pid) == pids + count) Unwatch(watched);
  }
  for (size_t i = 0; i < count; ++i) {
    const bool known = std::any_of(std::begin(watched_), std::end(watched_),
                                   [&](const Watched& w) { return w.pid == pids[i]; });
    if (!known) WatchProcess(pids[i]);
  }
}

constinit Pump g_pump;

// The lease outlives nobody: a process that ends without giving it back passes it on.
void TakeLease(bool successor) {
  for (bool got = false; !got;) {
    if (LockRobust(&g_shared->pump_lock, kLongestSleep, &got)) {
      Log(LogLevel::kDebug, "the process that pumped has ended; taking over");
    }
    if (!got && !successor) EndWithLastThread();
  }
}

void Serve(bool successor, Instant deadline) {
  TakeLease(successor);
  __atomic_add_fetch(&g_shared->process_generation, 1, __ATOMIC_ACQ_REL);
  g_pump.Run(successor, deadline);
  pthread_mutex_unlock(&g_shared->pump_lock);
}

void* PumpMain(void*) {
  t_state.is_pump = true;
  RawSyscall(SYS_prctl, PR_SET_NAME, Word("userstack"));
  RawSyscall(SYS_prctl, PR_SET_TIMERSLACK, kTimerSlack);
  // A program counts on getting the lowest free number; the pump opens things at any time.
  t_state.own_files = CloseAllButInternal(true);
  g_local.pump_apart.store(1);
  RawSyscall(SYS_futex, Word(&g_local.pump_apart), FUTEX_WAKE_PRIVATE, 1);
  Serve(false, Instant::Never());
  CountPump(1);  // glibc counts it out when it ends
  return nullptr;
}

}  // namespace

// The kernel copies the table of descriptors before it closes what is not ours in the copy. What
// the program closed meanwhile would stay open: a port bound, a pipe without its end.
static void AwaitPumpApart() {
  constexpr timespec kPatience{1, 0};  // a thread that does not get to run is not waited for longer
  if (g_local.pump_apart.load() != 0) return;
  RawSyscall(SYS_futex, Word(&g_local.pump_apart), FUTEX_WAIT_PRIVATE, 0, Word(&kPatience));
}

void EnsurePump() {
  if (g_local.pump_started.exchange(true)) return;
  g_local.pump_apart.store(0);
  // Signals are for the program's threads. glibc keeps its own two out of the set.
  sigset_t all;
  sigset_t saved;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &saved);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, PumpMain, nullptr);
  pthread_attr_destroy(&attributes);
  if (error == 0) {
    CountPump(-1);
    AwaitPumpApart();
  }
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  if (error != 0) {
    Log(LogLevel::kWarn,
        "no thread for timers and input (errno %d): they wait for the program's "
        "own calls",
        error);
  }
}

void ForgetPump() { g_pump.Forget(); }

bool YieldToNewcomer() { return g_pump.Yield(); }

void RingPump() {
  if (g_shared->pump != nullptr) SendRing(*g_shared->pump);
}

void PumpUntilDone(Instant deadline) {
  t_state.is_pump = true;
  Serve(true, deadline);
}

}  // namespace userstack::shim
