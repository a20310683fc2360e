// Queues: the device's further queues (netstack/packet/device_queues.h): which reader gets one, who
// looks at it, and when it ends.
//
// A connection gets one when a thread reads bulk from it while others' text comes between, or waits
// for it alone, call after call, and takes from the device what is for other threads of the stack,
// or they what is for it: then each frame would cost a wake-up more. Its reader then sleeps on that
// queue alone and is not woken for others, and bulk may be read straight into its memory. A thread
// that waits for several connections (select, epoll) and reads bulk from them gets one for each:
// its sleep learns from the kernel which of them have frames, and takes one frame of one of them,
// so that the others' stay on the device for the reads. The first queue stays with whoever attends
// the device. An open queue is anybody's to look at, because frames of flows that the kernel does
// not know come by any queue: sessions do when nobody has for kForgotten, and the pump, which does
// not park while one is open. The pump closes those that nobody has, and takes back those that have
// been idle.
//
// Owner: the stack's lock. Invariant: a queue that is open in the kernel is in Shared::open_queues,
// whatever instruction a process died at.
#include <bit>

#include "shim/internal.h"

namespace userstack::shim {
namespace {

// Longer than a thread waits for its turn of the core while others have theirs: what others take
// off its queue comes to it cold, and not into its memory.
constexpr Duration kForgotten = Duration::Milliseconds(10);
// Requests are read by the thread that waits for them or not at all for long, while it works: what
// comes there for others, as a new connection's first frame, is not to wait for that.
constexpr Duration kForgottenRequest = Duration::Milliseconds(1);
constexpr Duration kIdle = Duration::Seconds(1);
// So much in so short a time is bulk: 134 Mbit/s.
constexpr uint64_t kBulkBytes = 4 << 20;
constexpr Duration kBulkTime = Duration::Milliseconds(250);
// One look takes no more than this of frames that make nobody readable.
constexpr size_t kMostFrames = 128;
// So many crossings in so short a time are a habit.
constexpr unsigned kCrossings = 64;
constexpr Duration kHabit = Duration::Milliseconds(250);

QueueMask OpenQueues() { return __atomic_load_n(&g_shared->open_queues, __ATOMIC_RELAXED); }
QueueMask BitOf(unsigned queue) { return 1u << (queue - 1); }
unsigned LowestOf(QueueMask queues) { return static_cast<unsigned>(std::countr_zero(queues)) + 1; }
void SetOpen(unsigned queue, bool open) {
  const QueueMask others = g_shared->open_queues & ~BitOf(queue);
  __atomic_store_n(&g_shared->open_queues, open ? others | BitOf(queue) : others, __ATOMIC_RELAXED);
}
QueueUse& UseOf(unsigned queue) { return g_shared->queue_use[queue - 1]; }

template <typename Function>
void ForEachOpen(Function function) {
  for (QueueMask left = OpenQueues(); left != 0; left &= left - 1) function(LowestOf(left));
}

bool IsForgotten(unsigned queue, Instant now) {
  const Instant looked{__atomic_load_n(&UseOf(queue).looked, __ATOMIC_RELAXED)};
  return now - looked >= (IsForRequests(queue) ? kForgottenRequest : kForgotten);
}

bool OpenFor(unsigned queue, Instant now) {
  if ((OpenQueues() & BitOf(queue)) != 0) return true;
  SetOpen(queue, true);
  if (!g_local.device->OpenQueue(queue)) {
    SetOpen(queue, false);
    return false;
  }
  NoteLook(queue, true, now);
  return true;
}

// Somebody waits for the socket in another set than `set`, or for that in one, and watches the
// first queue only; or waits in `set` too, and would be woken with this thread.
bool IsWatchedBeside(const Socket& socket, const WatchSet* set) {
  for (const Watch* watch = socket.pollable.watches.front(); watch != nullptr;
       watch = socket.pollable.watches.Next(watch)) {
    const bool alone = watch->set == set && !IsNested(*set) && set->waiters.empty();
    if (!alone) return true;
  }
  return false;
}

bool IsReadable(unsigned queue) {
  const Pollable* const owner = g_shared->stack->DeviceQueueOwner(queue);
  return owner != nullptr && (owner->level & kEventIn) != 0;
}

bool MayGiveQueue() {
  return t_state.queue == 0 && g_local.device->extra_queues() != 0 && !g_local.no_queues;
}

void GiveQueue(Socket& socket, bool requests, Instant now) {
  Stack& stack = *g_shared->stack;
  const unsigned queue = stack.GiveDeviceQueue(socket, g_local.device->extra_queues());
  if (queue == 0) return;
  __atomic_store_n(&UseOf(queue).requests, requests, __ATOMIC_RELAXED);
  if (OpenFor(queue, now)) {
    Session::OfferMemory(nullptr, nullptr, 0);  // the call has what it reports
    TakeQueue(0, now);  // what is on the first queue comes before what will be on its own
    return;
  }
  stack.ReturnDeviceQueue(queue);
  g_local.no_queues = true;
  Log(LogLevel::kInfo,
      "the device's further queues cannot be opened: bulk readers share the first");
}

}  // namespace

void NoteBulk(Socket& socket, size_t received, Instant now) {
  BulkReader& reader = t_state.bulk;
  if (reader.socket != &socket || now - reader.since > kBulkTime) reader = {&socket, now, 0};
  reader.bytes += received;
  if (reader.bytes < kBulkBytes) return;
  reader = {};
  if (t_state.queue != 0) {
    __atomic_store_n(&UseOf(t_state.queue).requests, false, __ATOMIC_RELAXED);
  } else if (MayGiveQueue() && !IsWatchedBeside(socket, &t_state.sleeper->own_set)) {
    GiveQueue(socket, false, now);
  }
}

void NoteBulkOfSeveral(Socket& socket, size_t received, Instant now) {
  BulkReader& reader = t_state.bulk;
  if (reader.socket != nullptr || now - reader.since > kBulkTime) reader = {nullptr, now, 0};
  reader.bytes += received;
  if (reader.bytes < kBulkBytes) return;
  reader = {};
  if (MayGiveQueue() && !IsWatchedBeside(socket, t_state.waits_in)) GiveQueue(socket, false, now);
}

void NoteCrossing(Socket& socket, const WatchSet& set, Instant now) {
  Crossings& crossings = t_state.crossings;
  if (crossings.socket != &socket || now - crossings.since > kHabit) crossings = {&socket, now, 0};
  if (++crossings.count < kCrossings) return;
  crossings = {};
  if (MayGiveQueue() && !IsWatchedBeside(socket, &set)) GiveQueue(socket, true, now);
}

QueueMask QueuesOf(const WatchSet& set) {
  QueueMask found = 0;
  ForEachOpen([&found, &set](unsigned queue) {
    const Pollable* const owner = g_shared->stack->DeviceQueueOwner(queue);
    if (owner == nullptr) return;
    for (const Watch* watch = owner->watches.front(); watch != nullptr;
         watch = owner->watches.Next(watch)) {
      if (watch->set == &set) found |= BitOf(queue);
    }
  });
  return found;
}

void TakeFirstOf(QueueMask queues, Instant now) {
  // From the one behind the last on, so that each has its turn.
  const QueueMask ahead = queues & ~(BitOf(t_state.queue_turn + 1) - 1);
  const QueueMask behind = queues & ~ahead;
  for (const QueueMask part : {ahead, behind}) {
    for (QueueMask left = part; left != 0; left &= left - 1) {
      const unsigned queue = LowestOf(left);
      t_state.queue_turn = queue;
      if (TakeOneOf(queue, now) != 0) return;
    }
  }
}

size_t TakeUntilReadable(unsigned queue, Instant now) {
  size_t taken = 0;
  while (taken < kMostFrames && !IsReadable(queue)) {
    const size_t count = TakeOneOf(queue, now);
    if (count == 0) break;
    taken += count;
  }
  return taken;
}

void TakeUnseen(QueueMask queues, Instant now, Duration unseen) {
  for (QueueMask left = queues; left != 0; left &= left - 1) {
    const unsigned queue = LowestOf(left);
    if (now - Instant{UseOf(queue).looked} >= unseen) TakeUntilReadable(queue, now);
  }
}

void ReturnQueues(QueueMask queues, Instant now) {
  for (QueueMask left = queues; left != 0; left &= left - 1) {
    const unsigned queue = LowestOf(left);
    TakeQueue(queue, now);  // before what comes by the first queue from now on
    g_shared->stack->ReturnDeviceQueue(queue);
  }
}

size_t AddEntries(QueueMask queues, pollfd* entries) {
  size_t count = 0;
  for (QueueMask left = queues; left != 0; left &= left - 1) {
    entries[count++] = {g_local.device->queue_descriptor(LowestOf(left)), POLLIN, 0};
  }
  return count;
}

QueueMask ReadableOf(QueueMask queues, const pollfd* entries) {
  QueueMask readable = 0;
  for (QueueMask left = queues; left != 0; left &= left - 1) {
    if ((entries++)->revents != 0) readable |= BitOf(LowestOf(left));
  }
  return readable;
}

bool IsForRequests(unsigned queue) {
  return __atomic_load_n(&UseOf(queue).requests, __ATOMIC_RELAXED);
}

void NoteLook(unsigned queue, bool found, Instant now) {
  QueueUse& use = UseOf(queue);
  __atomic_store_n(&use.looked, now.nanoseconds, __ATOMIC_RELAXED);
  if (found) use.filled = now.nanoseconds;
}

void TakeForgotten(Instant now) {
  ForEachOpen([now](unsigned queue) {
    if (IsForgotten(queue, now)) TakeQueue(queue, now);
  });
}

bool HasForgotten(Instant now) {
  bool any = false;
  ForEachOpen([&any, now](unsigned queue) { any = any || IsForgotten(queue, now); });
  return any;
}

bool HasOpenQueues() { return OpenQueues() != 0; }

void TendQueues(Instant now) {
  TakeForgotten(now);
  ForEachOpen([now](unsigned queue) {
    Stack& stack = *g_shared->stack;
    if (now - Instant{UseOf(queue).filled} >= kIdle) stack.ReturnDeviceQueue(queue);
    if (stack.core().queues.owner[queue - 1] != nullptr) return;
    TakeQueue(queue, now);
    g_local.device->CloseQueue(queue);
    SetOpen(queue, false);
  });
}

}  // namespace userstack::shim
