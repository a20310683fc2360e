// Queues: the device's further queues (netstack/packet/device_queues.h): which reader gets one, who
// looks at it, and when it ends.
//
// A connection gets one when a thread reads bulk from it while others' text comes between. Its
// reader then sleeps on that queue alone and is not woken for others, and what it finds there may
// be read straight into its memory. The first queue stays with whoever attends the device. An open
// queue is anybody's to look at, because frames of flows that the kernel does not know come by any
// queue: sessions do when nobody has for kForgotten, and the pump, which does not park while one is
// open. The pump closes those that nobody has, and takes back those that have been idle.
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
constexpr Duration kIdle = Duration::Seconds(1);
// So much in so short a time is bulk: 134 Mbit/s.
constexpr uint64_t kBulkBytes = 4 << 20;
constexpr Duration kBulkTime = Duration::Milliseconds(250);

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
  return now - looked >= kForgotten;
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

// Somebody else waits for the socket too, and watches the first queue only.
bool IsWatchedByOthers(const Socket& socket) {
  for (const Watch* watch = socket.pollable.watches.front(); watch != nullptr;
       watch = socket.pollable.watches.Next(watch)) {
    if (watch->set != &t_state.sleeper->own_set) return true;
  }
  return false;
}

void GiveQueue(Socket& socket, Instant now) {
  Stack& stack = *g_shared->stack;
  const unsigned queue = stack.GiveDeviceQueue(socket, g_local.device->extra_queues());
  if (queue == 0) return;
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
  if (t_state.queue == 0 && g_local.device->extra_queues() != 0 && !g_local.no_queues &&
      !IsWatchedByOthers(socket)) {
    GiveQueue(socket, now);
  }
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
