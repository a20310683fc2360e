// RFC 9293 3.10.7.3: a segment arrives in SYN-SENT.
#include <algorithm>

#include "netstack/tcp/ack_input.h"
#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/input.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/timers.h"
#include "netstack/tcp/transmit.h"

namespace userstack::tcp {
namespace {

// What the peer's SYN says of options: each is on only when both offered it.
void TakeOptions(Connection& c, const Segment& segment, Instant now) {
  const wire::TcpOptions& options = segment.options;
  if (options.has_maximum_segment_size && options.maximum_segment_size != 0) {
    c.peer_mss = options.maximum_segment_size;
  }
  c.timestamps = c.timestamps && options.has_timestamps;
  if (c.timestamps) {
    c.recent_timestamp = options.timestamp_value;
    c.recent_timestamp_at = now;
  }
  c.sack = c.sack && options.sack_permitted;
  c.window_scaling = c.window_scaling && options.has_window_scale;
  if (c.window_scaling) {
    c.send.window_scale = std::min(options.window_scale, wire::kTcpMaxWindowScale);
  } else {
    c.send.window_scale = 0;
    c.receive.window_scale = 0;
    c.receive.window_clamp = std::min<uint32_t>(c.receive.window_clamp, 65535);
  }
}

bool AckIsAcceptable(const Connection& c, const Segment& segment, Instant now) {
  if (segment.acknowledgment != c.send.next) return false;
  // Linux: an echo that we did not send comes from an earlier incarnation.
  const uint32_t echo = segment.options.timestamp_echo_reply;
  if (!c.timestamps || !segment.options.has_timestamps || echo == 0) return true;
  return static_cast<int32_t>(TimestampClock(now, c.timestamp_offset) - echo) >= 0;
}

void EstablishFromSynAck(Context& context, Connection& c, const Segment& segment, Instant now) {
  c.send.unacknowledged = segment.acknowledgment;
  const bool clean = c.retransmissions == 0;
  const Instant sent_at = c.first_sent_at;
  Establish(context, c, now);
  TakeFirstWindow(c, segment, false);
  const Instant at =
      segment.arrival.nanoseconds == 0 || segment.arrival > now ? now : segment.arrival;
  if (clean) {
    TakeRttSample(c, at - sent_at);
  } else if (c.timestamps && segment.options.timestamp_echo_reply != 0) {
    const uint32_t delta =
        TimestampClock(at, c.timestamp_offset) - segment.options.timestamp_echo_reply;
    TakeRttSample(c, Duration::Milliseconds(std::max<uint32_t>(delta, 1)));
  }
  SendAck(context, c, now);
  PublishStateChange(context, c);
}

}  // namespace

void SegmentInSynSent(Context& context, Connection& c, Segment& segment, Instant now) {
  // First: check the ACK bit.
  const bool ack = segment.Has(wire::kTcpAck);
  if (ack && !AckIsAcceptable(c, segment, now)) {
    SendResetTo(context, segment, now);
    return;
  }
  // Second: check the RST bit.
  if (segment.Has(wire::kTcpReset)) {
    if (ack) Finish(context, c, ECONNREFUSED, now);
    return;
  }
  // Third: security. We have none. Fourth: check the SYN bit.
  if (!segment.Has(wire::kTcpSyn)) return;
  TakeOptions(c, segment, now);
  c.receive.initial = segment.sequence;
  c.receive.next = c.receive.copied = c.receive.acknowledged = segment.sequence + 1;
  UpdateMss(c);
  if (ack) {
    EstablishFromSynAck(context, c, segment, now);
  } else {
    // Simultaneous open.
    c.state = State::kSynReceived;
    TakeFirstWindow(c, segment, false);
    c.retransmissions = 0;
    SendSyn(context, c, now);
    ArmRetransmit(context, c, now);
    return;
  }
  // Text or FIN on the SYN goes through the usual steps.
  TrimFront(context, segment, 1);
  if (segment.length > 0 || segment.Has(wire::kTcpFin)) {
    ProcessUrgent(context, c, segment);
    if (!ProcessPayload(context, c, segment, now)) return;
    ProcessFin(context, c, now);
    if (c.state != State::kClosed) SendOwedAck(context, c, now);
  }
}

}  // namespace userstack::tcp
