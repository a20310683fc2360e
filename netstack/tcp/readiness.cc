#include "netstack/tcp/readiness.h"

#include <algorithm>

#include "netstack/tcp/landing.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/send_queue.h"

namespace userstack::tcp {
namespace {

// A write found no memory, and there has been none since.
bool IsStarved(const Connection& c) { return c.waiting_node.linked() && !c.in_accept_queue; }

// Linux: sk_stream_is_writeable. At least a third of the buffer is free.
bool IsWritable(const Connection& c) {
  if (!HasSendRoom(c) || IsStarved(c)) return false;
  return c.options.send_buffer - c.queued_memory >= c.queued_memory / 2;
}

// Linux: tcp_stream_is_readable, the urgent byte not counted unless it is inline.
bool IsReadable(const Connection& c) {
  uint32_t target = std::max<uint32_t>(c.options.receive_low_water, 1);
  if (c.urgent == Urgent::kHere && !c.options.out_of_band_inline &&
      c.receive.urgent == c.receive.copied) {
    ++target;
  }
  const uint32_t available = ReceivedBytes(c);
  if (available == 0) return false;
  // Linux: tcp_epollin_ready; a full buffer is ready whatever SO_RCVLOWAT says.
  return available >= target || c.received_memory >= c.options.receive_buffer;
}

}  // namespace

bool HasSendRoom(const Connection& c) {
  if (c.queued_memory >= c.options.send_buffer) return false;
  const uint32_t low_water = c.tcp_options.not_sent_low_water;
  return low_water == 0 || c.send.end - c.send.next < low_water;
}

EventMask ReadinessLevel(const Connection& c) {
  if (c.state == State::kListen) {
    const bool ready = c.listener != nullptr && c.listener->accept_count > 0;
    return ready ? kEventIn | kEventReadNormal : 0;
  }
  EventMask level = 0;
  const bool both_shut = c.receive_shut && c.send_shut;
  if (both_shut || c.state == State::kClosed) level |= kEventHangUp;
  if (c.receive_shut) level |= kEventIn | kEventReadNormal | kEventReadHangUp;
  if (c.state != State::kSynSent && c.state != State::kSynReceived) {
    if (IsReadable(c)) level |= kEventIn | kEventReadNormal;
    if (c.send_shut || IsWritable(c)) level |= kEventOut | kEventWriteNormal;
    if (c.urgent == Urgent::kHere) level |= kEventPriority;
  }
  if (c.error != 0) level |= kEventError;
  return level;
}

void PublishReadiness(Context& context, Connection& c, EventMask edges) {
  if (c.pollable == nullptr) return;
  EventMask level = ReadinessLevel(c);
  if (HasLanded(context, c)) level |= kEventIn | kEventReadNormal;
  Publish(*c.pollable, level, edges & level, context.core->wakes);
}

void FeedStarved(Context& context) {
  if (context.starved.empty() || !HasSendMemory(context)) return;
  while (Connection* c = context.starved.front()) {
    c->waiting_node.Unlink();
    PublishReadiness(context, *c, kEventOut | kEventWriteNormal);
  }
}

void PublishStateChange(Context& context, Connection& c) {
  PublishReadiness(context, c, ~EventMask{0});
}

}  // namespace userstack::tcp
