#include "netstack/tcp/acknowledge.h"

#include <algorithm>
#include <utility>

#include "netstack/tcp/constants.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

// Linux acknowledges a conversation's first segments at once. One small segment by itself is
// usually a request, whose reply takes the ACK along when it may wait this long: one segment and
// one wake-up less, and too short for the sender's Nagle test or slow start to notice.
constexpr Duration kReplyDelay = Duration::Microseconds(500);

bool InQuickMode(const Connection& c) { return c.quick_acks > 0 && !c.ping_pong; }

// Segments that came together are answered together, as those that GRO has merged are; a hole or a
// duplicate never waits. One connection at a time: a stream's segments come in runs.
bool PutOff(Context& context, Connection& c, Instant now) {
  if (!context.more_input || c.ack_now || !c.reorder.empty()) return false;
  if (context.ack_later != &c) SendAckPutOff(context, now);
  context.ack_later = &c;
  return true;
}

}  // namespace

void QuickAck(Connection& c, uint32_t most) {
  uint32_t count = c.receive.window / (2u * std::max<uint32_t>(c.receive_mss, 1));
  count = std::min(std::max(count, 2u), most);
  c.quick_acks = static_cast<uint8_t>(std::max<uint32_t>(c.quick_acks, count));
}

void EnterQuickAck(Connection& c) {
  QuickAck(c, kMaximumQuickAcks);
  c.ping_pong = false;
  c.ack_timeout = kMinimumAckDelay;
}

void ScheduleAck(Connection& c, Instant now) {
  c.ack_pending = true;
  // Linux: tcp_event_data_recv.
  if (c.ack_timeout.nanoseconds == 0) {
    QuickAck(c, kMaximumQuickAcks);
    c.ack_timeout = kMinimumAckDelay;
  } else {
    const Duration gap = now - c.last_received_data;
    if (gap <= kMinimumAckDelay / 2) {
      c.ack_timeout = c.ack_timeout / 2 + kMinimumAckDelay / 2;
    } else if (gap < c.ack_timeout) {
      c.ack_timeout = std::min(c.ack_timeout / 2 + gap, c.rto);
    } else if (gap > c.rto) {
      // The sender paused long enough to be in slow start again.
      QuickAck(c, kMaximumQuickAcks);
    }
  }
  c.last_received_data = now;
}

void DelayAck(Context& context, Connection& c, Duration most, Instant now) {
  c.ack_pending = true;
  const Instant at = now + most;
  if (c.delayed_ack_timer.armed() && c.delayed_ack_timer.deadline <= at) return;
  context.core->timers.Arm(&c.delayed_ack_timer, at);
}

void SendOwedAck(Context& context, Connection& c, Instant now) {
  if (!c.ack_pending && !c.ack_now) return;
  // More than one full segment waits and the window does not lag behind, or somebody said now
  // (Linux: __tcp_ack_snd_check).
  const uint32_t waiting = c.receive.next - c.receive.acknowledged;
  const bool enough =
      waiting > c.receive_mss && (ReceivedBytes(c) < c.options.receive_low_water ||
                                  SelectReceiveWindow(c) >= RemainingReceiveWindow(c));
  const bool at_once = enough || c.ack_now || !c.reorder.empty();
  if (!at_once && InQuickMode(c) && waiting < c.receive_mss && !c.receive.fin_received) {
    DelayAck(context, c, kReplyDelay, now);
    return;
  }
  if (at_once || InQuickMode(c)) {
    if (!PutOff(context, c, now)) SendAck(context, c, now);
    return;
  }
  // Linux: tcp_send_delayed_ack. Never longer than a round trip.
  Duration delay = c.ack_timeout;
  if (delay > kMinimumAckDelay) {
    Duration most = c.ping_pong ? kMaximumAckDelay : Duration::Milliseconds(500);
    if (c.smoothed_rtt.nanoseconds != 0) {
      most = std::min(most, std::max(c.smoothed_rtt, kMinimumAckDelay));
    }
    delay = std::min(delay, most);
  }
  DelayAck(context, c, std::min(delay, kMaximumAckDelay), now);
}

void SendAckPutOff(Context& context, Instant now) {
  Connection* c = std::exchange(context.ack_later, nullptr);
  if (c != nullptr && c->ack_pending && c->state != State::kClosed) SendAck(context, *c, now);
}

void NoteAckSent(Context& context, Connection& c, uint32_t segments) {
  c.quick_acks = static_cast<uint8_t>(c.quick_acks > segments ? c.quick_acks - segments : 0);
  c.ack_pending = false;
  c.ack_now = false;
  c.ack_pushed = 0;
  context.core->timers.Disarm(&c.delayed_ack_timer);
}

void NoteDataSent(Connection& c, Instant now) {
  c.last_sent_data = now;
  // Linux: tcp_event_data_sent. A reply: this conversation is interactive.
  if (c.last_received_data.nanoseconds != 0 && now - c.last_received_data < c.ack_timeout) {
    c.ping_pong = true;
  }
}

void AckAfterRead(Context& context, Connection& c, uint32_t copied, Instant now) {
  bool due = false;
  if (c.ack_pending) {
    const bool pushed = c.ack_pushed > 1 || (c.ack_pushed == 1 && !c.ping_pong);
    due = c.receive.next - c.receive.acknowledged > c.receive_mss ||
          (copied > 0 && pushed && c.received.empty() && !InQuickMode(c));
  }
  // A window update when the window has at least doubled.
  if (copied > 0 && !due && !c.receive.fin_received && !c.receive_shut) {
    const uint32_t now_open = RemainingReceiveWindow(c);
    const uint32_t full = WindowFromMemory(c.options.receive_buffer);
    if (uint64_t{2} * now_open <= std::min(c.receive.window_clamp, full)) {
      const uint32_t could = SelectReceiveWindow(c);
      due = could != 0 && could >= 2 * now_open;
    }
  }
  if (due) SendAck(context, c, now);
}

void OnDelayedAckTimer(Context& context, Connection& c, Instant now) {
  if (!c.ack_pending) return;
  if (InQuickMode(c)) {  // kReplyDelay
    SendAck(context, c, now);
    return;
  }
  if (c.ping_pong) {
    // Nothing came to ride on: leave interactive mode, in which we deflated the delay.
    c.ping_pong = false;
    c.ack_timeout = kMinimumAckDelay;
  } else {
    c.ack_timeout = std::min(c.ack_timeout * 2, c.rto);
  }
  context.core->counters.Add(Counter::kTcpDelayedAcks);
  SendAck(context, c, now);
}

}  // namespace userstack::tcp
