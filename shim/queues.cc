// Queues: the device's further queues (netstack/packet/device_queues.h): which reader gets one, who
// looks at it, and when it ends.
//
// A connection gets one when a thread reads bulk from it while others' text comes between, or waits
// for it alone, call after call, and takes from the device what is for other threads of the stack,
// or they what is for it: then each frame would cost a wake-up more. Its reader then sleeps on that
// queue alone and is not woken for others, and bulk may be read straight into its memory. The first
// queue stays with whoever attends the device. An open queue is anybody's to look at, because
// frames of flows that the kernel does not know come by any queue: sessions do when nobody has for
// kForgotten, and the pump, which does not park while one is open. The pump closes those that
// nobody has, and takes back those that have been idle.
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
// So many crossings in so short a time are a habit.
constexpr unsigned kCrossings = 64;
constexpr Duration kHabit = Duration::Milliseconds(250);

uint32_t OpenQueues() { return __atomic_load_n(&g_shared->open_queues, __ATOMIC_RELAXED); }
uint32_t BitOf(unsigned queue) { return 1u << (queue - 1); }
void SetOpen(unsigned queue, bool open) {
  const uint32_t others = g_shared->open_queues & ~BitOf(queue);
  __atomic_store_n(&g_shared->open_queues, open ? others | BitOf(queue) : others, __ATOMIC_RELAXED);
}
QueueUse& UseOf(unsigned queue) { return g_shared->queue_use[queue - 1]; }

template <typename Function>
void ForEachOpen(Function function) {
  for (uint32_t left = OpenQueues(); left != 0; left &= left - 1) {
    function(static_cast<unsigned>(std::countr_zero(left)) + 1);
  }
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

// Somebody waits for the socket in another set, or for the set in one, and watches the first queue
// only.
bool IsWatchedBeside(const Socket& socket, const WatchSet& set) {
  for (const Watch* watch = socket.pollable.watches.front(); watch != nullptr;
       watch = socket.pollable.watches.Next(watch)) {
    if (watch->set != &set) return true;
  }
  return !set.pollable.watches.empty();
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
  } else if (MayGiveQueue() && !IsWatchedBeside(socket, t_state.sleeper->own_set)) {
    GiveQueue(socket, false, now);
  }
}

void NoteCrossing(Socket& socket, const WatchSet& set, Instant now) {
  Crossings& crossings = t_state.crossings;
  if (crossings.socket != &socket || now - crossings.since > kHabit) crossings = {&socket, now, 0};
  if (++crossings.count < kCrossings) return;
  crossings = {};
  if (MayGiveQueue() && !IsWatchedBeside(socket, set)) GiveQueue(socket, true, now);
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
