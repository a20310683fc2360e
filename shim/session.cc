// Session: one call's stay inside the stack. Lock, clock, input; at the end output, wake-ups,
// unlock.
//
// When the device is read: a read that finds nothing costs a system call, so a session looks only
// when nobody has for kPollInterval; a call that is about to block or to say EAGAIN looks anyway
// (Poll, Wait), and one with much to send looks more often (LookBeforeBulk). Between two looks a
// busy program is at most kPollInterval behind the wire, which is less than the time a wake-up
// takes.
#include <ctime>
#include <iterator>

#include "shim/internal.h"
#include "shim/signals.h"

namespace userstack::shim {

constinit Local g_local;
constinit thread_local ThreadState t_state __attribute__((tls_model("initial-exec")));

namespace {

constexpr Duration kPollInterval = Duration::Microseconds(50);
// A reader whose socket has data needs no more of it: what it leaves in the device costs nothing,
// what it took and could not hold would cost a system call a packet to throw away. Well below the
// pump's millisecond, after which that would look.
constexpr Duration kReaderInterval = Duration::Microseconds(250);
// Of several streams with a queue each, those that are not ready are looked at so often while
// others are: one after the other in long turns, their bytes are found in the cache more often.
constexpr Duration kQueueInterval = Duration::Milliseconds(1);
// In kPollInterval a sender in bulk sends 256 KB, and as many are acknowledged in buffers that the
// nearest cache still holds.
constexpr Duration kBulkInterval = Duration::Microseconds(10);
// One look takes no more than the nearest cache holds, so that the program's copy finds the bytes
// there and the buffers are used again while they are warm.
constexpr size_t kBatch = 64;
constexpr uint64_t kLookBytes = 256 << 10;
constexpr size_t kLookPackets = 128;
// A thread that reads no more often than this between its waits has the habit to wait first.
constexpr unsigned kReadsPerWait = 64;
// A datagram is kept for others that follow it while the pump looks within this time (or should
// have within this time, so that one that is stopped holds nothing up).
constexpr Duration kSoon = Duration::Microseconds(200);
// What is sent in a batch of events waits so long for the rest of them.
constexpr Duration kLongestHold = Duration::Microseconds(200);

static_assert(offsetof(Sleeper, waiter) == 0);
Sleeper* SleeperOf(Waiter* waiter) { return reinterpret_cast<Sleeper*>(waiter); }

void Store(int64_t* to, int64_t value) { __atomic_store_n(to, value, __ATOMIC_RELAXED); }

// Wakes that are done after the lock is free, so that who wakes up does not run into it. Should
// this process be killed in between, the pump that notices wakes everybody.
class WakeBatch {
 public:
  void Add(Sleeper* sleeper) {
    if (count_ == kCapacity) Send();
    sleepers_[count_++] = sleeper;
  }
  void Send() {
    for (size_t i = 0; i < count_; ++i) WakeSleeper(*sleepers_[i]);
    count_ = 0;
  }

 private:
  static constexpr size_t kCapacity = 32;
  size_t count_ = 0;
  Sleeper* sleepers_[kCapacity];
};

void CollectWakes(WakeBatch* batch) {
  WakeList& wakes = g_shared->stack->core().wakes;
  while (Waiter* waiter = wakes.Pop()) {
    waiter->set = nullptr;
    __atomic_store_n(&waiter->wake_word, 1, __ATOMIC_RELEASE);
    Sleeper* sleeper = SleeperOf(waiter);
    if (sleeper != t_state.sleeper) batch->Add(sleeper);
  }
}

// What is kept for more to follow goes at a tick of the pump, at the latest. False: it does not
// tick yet.
bool PumpTicks() {
  Shared& shared = *g_shared;
  if (shared.pump_state == PumpState::kTicking) return true;
  if (shared.pump_state != PumpState::kNone) {
    shared.pump_state = PumpState::kTicking;
    RingPump();
  }
  return false;
}

// May the burst of datagrams wait for more? Only while the pump is known to look soon: it is what
// sends the rest when the program stops calling. It looks so often only after it was asked to.
bool MayHoldOutput(Instant now) {
  Shared& shared = *g_shared;
  if (t_state.is_pump || shared.device_busy) return false;
  // A reply: its close is all but certain, so that a pump that looks at all is enough.
  if (shared.stack->HoldsReply()) return shared.pump_state == PumpState::kTicking;
  if (!shared.stack->OutputMayWait(now)) return false;
  Store(&shared.pump_hurry, now.nanoseconds);
  PumpTicks();
  const Instant looks{__atomic_load_n(&shared.pump_looks_at, __ATOMIC_RELAXED)};
  return looks - now <= kSoon && now - looks <= kSoon;
}

// The thread is in the middle of a batch of events: may what it sends wait for the rest? Only while
// the pump looks, which is what sends it when the program stops calling.
bool HoldsForBatch(Instant now) {
  Shared& shared = *g_shared;
  if (!t_state.batch.MayHold()) return false;
  if (shared.device_busy || !PumpTicks()) return false;
  if (shared.held_until == 0) Store(&shared.held_until, (now + kLongestHold).nanoseconds);
  if (now.nanoseconds < shared.held_until) return true;
  t_state.batch.Spend();
  return false;
}

bool IsForked() { return g_local.fork_mark->load(std::memory_order_relaxed) == 0; }

}  // namespace

// Who sleeps on the device sleeps until what was the next deadline then. A session that made an
// earlier one sees to it that it is kept: a ticking pump notices by itself, any other is told once.
void KeepDeadline() {
  Shared& shared = *g_shared;
  const int64_t next = shared.device_busy ? 0 : shared.stack->NextDeadline().nanoseconds;
  Store(&shared.next_deadline, next);
  if (shared.attendant == nullptr || shared.attendant == t_state.sleeper) return;
  if (next >= shared.attended_until) return;
  switch (shared.pump_state) {
    case PumpState::kTicking:
      break;
    case PumpState::kParked:
    case PumpState::kAttending:
      shared.pump_state = PumpState::kTicking;
      RingPump();
      break;
    case PumpState::kNone:
      shared.attended_until = next;
      SendRing(*shared.attendant);
      break;
  }
}

Instant MonotonicNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return {now.tv_sec * 1'000'000'000 + now.tv_nsec};
}

Process& CurrentProcess() { return *g_local.process; }
Shared& CurrentShared() { return *g_shared; }
Sleeper& CurrentSleeper() { return *t_state.sleeper; }

namespace {

void SetDeviceBusy(bool busy) { __atomic_store_n(&g_shared->device_busy, busy, __ATOMIC_RELAXED); }

void OpenLanding(Stack& stack) {
  stack.OpenLanding(*t_state.landing_socket, t_state.landing_memory, t_state.landing_size,
                    t_state.reads_since_wait < kReadsPerWait);
}

// A thread that waits before it reads, and is all that the wire works for: it is ready with the
// first frame, and its read takes those behind it, into the program's memory (LookForMore).
bool WillReadItself(const Landing& landing) {
  return t_state.landing_memory == nullptr && t_state.reads_since_wait < kReadsPerWait &&
         landing.streak >= Landing::kLongStreak && landing.recent == t_state.reads_from;
}

// One look. A full batch may have left something.
size_t TakeBatch(Instant now, unsigned queue, size_t limit, uint64_t* bytes) {
  Stack& stack = *g_shared->stack;
  Packet* packets[kBatch];
  if (t_state.landing_memory != nullptr) OpenLanding(stack);
  backend::Device& device = *g_local.device;
  const size_t count =
      queue == 0 ? device.Receive(stack.core(), packets, limit, kWireInterface, now)
                 : device.ReceiveFrom(queue, stack.core(), packets, limit, kWireInterface, now);
  stack.core().landing.Close();
  for (size_t i = 0; i < count; ++i) *bytes += packets[i]->length;
  if (count != 0) stack.Input(packets, count, now);
  if (queue != 0) {
    NoteLook(queue, count != 0, now);
  } else if (!t_state.is_pump) {
    Store(&g_shared->last_poll, now.nanoseconds);
  }
  return count;
}

// The device learns of new addresses and groups before anything leaves in their name. A process
// that dies in between leaves it to the next.
void TellAddresses(const Ip& ip) {
  const uint32_t generation = ip.local_generation();
  IpAddress wanted[kMaxAddresses + Membership::kMaxGroups];
  const size_t count = ip.WantedAddresses(kWireInterface, wanted, std::size(wanted));
  if (g_local.device->SetAddresses(wanted, count)) g_shared->local_generation = generation;
}

}  // namespace

void ReportProblem() {
  if (t_state.own_files && LogDescriptor() == 2) return;
  const char* problem = g_local.device->Problem();
  if (problem == nullptr || g_local.problem_reported) return;
  g_local.problem_reported = true;
  Log(LogLevel::kWarn, "%s", problem);
}

size_t TakeQueue(unsigned queue, Instant now) {
  size_t taken = 0;
  uint64_t bytes = 0;
  while (taken < kLookPackets && bytes < kLookBytes) {
    const size_t count = TakeBatch(now, queue, kBatch, &bytes);
    taken += count;
    if (count < kBatch) break;
  }
  return taken;
}

// What comes by the queue of a connection that the call is about. The thread that waits first takes
// what it is woken by; its read takes those behind it.
static size_t TakeFor(unsigned queue, Instant now) {
  const bool waits_first =
      t_state.landing_memory == nullptr && t_state.reads_since_wait < kReadsPerWait;
  return waits_first ? TakeUntilReadable(queue, now) : TakeQueue(queue, now);
}

size_t TakeInput(Instant now) {
  if (t_state.queue != 0) return TakeFor(t_state.queue, now);
  if (WillReadItself(g_shared->stack->core().landing)) return TakeOne(now);
  const size_t taken = TakeQueue(0, now);
  if (HasOpenQueues()) TakeForgotten(now);
  return taken;
}

size_t TakeOneOf(unsigned queue, Instant now) {
  uint64_t bytes = 0;
  return TakeBatch(now, queue, 1, &bytes);
}

size_t TakeOne(Instant now) { return TakeOneOf(t_state.queue, now); }

void Drain(Instant now, bool all) {
  Stack& stack = *g_shared->stack;
  stack.Advance(now);
  if (stack.ip().local_generation() != g_shared->local_generation) [[unlikely]] {
    TellAddresses(stack.ip());
  }
  __atomic_store_n(&g_shared->output_held, !all, __ATOMIC_RELAXED);
  Store(&g_shared->held_until, 0);
  if (t_state.refused != 0) [[unlikely]] {
    stack.core().counters.Add(Counter::kDeviceOutRefused, TakeRefused());
  }
  const bool later = IsContended(now);
  bool queued = false;
  while (Frame* frame = stack.NextFrame(kWireInterface, all)) {
    if (Carry(frame, later)) continue;
    if (later && AddToOutbox(*frame)) {
      stack.core().frames.Release(frame);
      continue;
    }
    using Sent = backend::Device::Sent;
    const Sent result =
        FlushOutbox() ? g_local.device->Transmit(stack.core(), *frame) : Sent::kBusy;
    if (result == Sent::kBusy) {
      stack.ReturnFrame(frame);
      SetDeviceBusy(true);
      queued = true;
      break;
    }
    stack.core().frames.Release(frame);
    SetDeviceBusy(false);
    queued = true;
  }
  if (queued && !g_local.device->Kick()) SetDeviceBusy(true);
}

// The device took no more after the lock was let go: what is left waits in the stack, whose
// programs are held back meanwhile.
static void QueueOutbox() {
  if (!LockShared()) return ForgetOutbox();
  ReturnOutbox();
  SetDeviceBusy(true);
  KeepDeadline();
  UnlockShared();
}

bool TakeAgain() {
  if (LockShared()) return true;
  g_slots = nullptr;
  t_state.in_session = false;
  DeliverDeferredSignals();
  return false;
}

bool EnterStack() {
  t_state.in_session = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (IsForked()) [[unlikely]]
    AdoptAfterSilentFork();
  if (!TakeAgain()) return false;
  if (t_state.suspended != nullptr) [[unlikely]]
    DropAbandonedWait();
  if (t_state.sleeper == nullptr) [[unlikely]] {
    t_state.sleeper = NewSleeper();
    if (t_state.sleeper == nullptr) {
      LeaveStack();
      return false;
    }
    AnnounceThread();
  }
  return true;
}

void LetGo() {
  WakeBatch wakes;
  CollectWakes(&wakes);
  KeepDeadline();
  if (!t_state.is_pump) {
    __atomic_store_n(&g_shared->sessions, g_shared->sessions + 1, __ATOMIC_RELAXED);
  }
  const CarriedFrames carried = FirstCarried();
  UnlockShared();
  if (!FlushOutbox()) [[unlikely]]
    QueueOutbox();
  wakes.Send();
  if (carried.count != 0) WriteCarried(carried);
}

void LeaveStack() {
  LetGo();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  t_state.in_session = false;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (t_state.deferred_count != 0) [[unlikely]]
    DeliverDeferredSignals();
}

static void LookIfDue(Instant now, Duration interval) {
  const Instant last{__atomic_load_n(&g_shared->last_poll, __ATOMIC_RELAXED)};
  if (now - last >= interval) TakeInput(now);
}

Session::Session(Look look) {
  if (t_state.in_session || !EnterStack()) {
    failed_ = true;
    return;
  }
  // A handler's call must not fill the memory of the call that it interrupted.
  t_state.landing_memory = nullptr;
  t_state.queue = 0;
  now_ = MonotonicNow();
  t_state.batch.NoteCall(now_);
  // Who sleeps on the first queue looks at it, and this thread's text does not come there.
  const bool leaves_it = t_state.waited_apart && g_shared->attendant != nullptr;
  if (look == Look::kWhenDue && !leaves_it) LookIfDue(now_, kPollInterval);
}

Session::~Session() {
  if (failed_) return;
  if (HoldsForBatch(now_)) {
    __atomic_store_n(&g_shared->output_held, true, __ATOMIC_RELAXED);
    LeaveStack();
    return;
  }
  const bool keep = hold_ == Hold::kCertain || (hold_ == Hold::kIfKept && MayHoldOutput(now_));
  if (keep && g_shared->stack->HoldsReply()) {
    Drain(now_, false);
  } else if (keep) {
    __atomic_store_n(&g_shared->output_held, true, __ATOMIC_RELAXED);
  } else {
    Drain(now_);
  }
  LeaveStack();
}

Stack& Session::stack() { return *g_shared->stack; }
Core& Session::core() { return g_shared->stack->core(); }

void Session::Poll(const Socket* of, QueueMask queues) {
  if (failed_) return;
  const unsigned queue = of != nullptr ? g_shared->stack->DeviceQueue(*of) : 0;
  if (queue != 0) {
    TakeFor(queue, now_);
  } else {
    TakeInput(now_);
    TakeUnseen(queues, now_, Duration{});
  }
}

void Session::PollBeforeWait(const Socket* of) {
  const Duration limit = Duration::Microseconds(CurrentConfig().spin_microseconds);
  // A sleep that begins with asking the kernel which of several queues have something.
  if (of == nullptr && t_state.waited_apart) return;
  if (t_state.estimate.PollingPays(limit)) Poll(of);
}

void Session::LookBeside() {
  if (!failed_) LookIfDue(now_, kReaderInterval);
}

void Session::LookBeside(QueueMask queues) {
  if (!failed_ && queues != 0) TakeUnseen(queues, now_, kQueueInterval);
}

QueueMask Session::QueuesOf(const Socket& socket) {
  const unsigned queue = g_shared->stack->DeviceQueue(socket);
  return queue != 0 ? QueueMask{1} << (queue - 1) : 0;
}

QueueMask Session::QueuesOf(const WatchSet& set) {
  return HasOpenQueues() ? shim::QueuesOf(set) : 0;
}

void Session::LookBeforeBulk() {
  if (!failed_) LookIfDue(now_, kBulkInterval);
}

void Session::OfferMemory(Socket* socket, void* memory, size_t size) {
  t_state.landing_socket = socket;
  t_state.landing_memory = memory;
  t_state.landing_size = size;
  t_state.queue = socket != nullptr ? g_shared->stack->DeviceQueue(*socket) : 0;
  if (socket == nullptr) return;
  if (size > Landing::kLongestText) t_state.reads_from = socket->tcp;
  if (t_state.reads_since_wait < kReadsPerWait) ++t_state.reads_since_wait;
}

static Instant LookedAt(unsigned queue) {
  return {queue == 0 ? g_shared->last_poll : g_shared->queue_use[queue - 1].looked};
}

bool Session::LookForMore() {
  // It has looked just now: what there was it has.
  if (failed_ || LookedAt(t_state.queue) == now_) return false;
  Landing& landing = core().landing;
  OpenLanding(stack());
  if (!landing.IsOpen()) return false;
  uint64_t bytes = 0;
  TakeBatch(now_, t_state.queue, kBatch, &bytes);
  return landing.taken != 0;
}

void Session::NoteBulk(Socket& socket, size_t received) {
  const bool waits_apart = t_state.reads_since_wait < kReadsPerWait;
  if (failed_) return;
  if (waits_apart) {
    NoteBulkOfSeveral(socket, received, now_);
  } else {
    shim::NoteBulk(socket, received, now_);
  }
}

void Session::NoteWaitApart() { t_state.reads_since_wait = 0; }

Socket* OnlySocket(const Pollable& target) {
  const Pollable* found = &target;
  if (found->set != nullptr) {
    if (found->set->count != 1) return nullptr;
    found = found->set->all.front()->target;
    if (found->set != nullptr) return nullptr;
  }
  return reinterpret_cast<Socket*>(reinterpret_cast<uintptr_t>(found) - offsetof(Socket, pollable));
}

void Session::ReturnQueue(const Pollable& target) {
  if (!HasOpenQueues()) return;
  const Socket* const socket = OnlySocket(target);
  QueueMask queues = 0;
  if (socket != nullptr) {
    queues = QueuesOf(*socket);
  } else if (target.set != nullptr) {
    queues = QueuesOf(*target.set);
  }
  ReturnQueues(queues, now_);
}

void Session::ReturnRequestQueue(const Pollable& target) {
  if (!HasOpenQueues()) return;
  const Socket* const socket = OnlySocket(target);
  const unsigned queue = socket != nullptr ? g_shared->stack->DeviceQueue(*socket) : 0;
  if (queue != 0 && IsForRequests(queue)) ReturnQueues(QueuesOf(*socket), now_);
}

void Session::EndBatch() {
  t_state.batch.End(now_);
  if (g_shared->held_until != 0) Drain(now_);
}
void Session::BeginBatch(int64_t events) {
  // What the call itself gave rise to does not wait.
  if (events > 1) Drain(now_);
  t_state.batch.Begin(events, now_);
}

bool Session::ExpectsClose() const { return t_state.replies.ExpectsClose(); }
void Session::NoteWrite(const Description& connection) {
  t_state.replies.NoteWrite(&connection, now_);
}
void Session::NoteClose(const Description& connection) {
  t_state.replies.NoteClose(&connection, now_);
}

void Session::Flush() {
  if (!failed_) Drain(now_);
}

}  // namespace userstack::shim
