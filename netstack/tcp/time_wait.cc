#include "netstack/tcp/time_wait.h"

#include "netstack/tcp/constants.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/ports.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/transmit.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

bool Before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

void Arm(Context& context, TimeWait& t, Duration length, Instant now) {
  context.core->timers.Arm(&t.timer, now + length);
}

void Acknowledge(Context& context, TimeWait& t, Instant now) {
  Outgoing out;
  out.sequence = t.send_next;
  out.acknowledgment = t.receive_next;
  out.flags = wire::kTcpAck;
  out.window = static_cast<uint16_t>(std::min<uint32_t>(t.receive_window, 65535));
  if (t.timestamps) {
    out.options.has_timestamps = true;
    out.options.timestamp_value = TimestampClock(now, t.timestamp_offset);
    out.options.timestamp_echo_reply = t.recent_timestamp;
  }
  SendBare(context, t.tuple, out, t.interface, t.traffic_class, now);
}

void AcknowledgeLimited(Context& context, TimeWait& t, const Segment& segment, Instant now) {
  // Linux: tcp_timewait_check_oow_rate_limit. Data is always answered.
  const bool bare = segment.length == 0;
  if (bare && t.last_ack.nanoseconds != 0 && now - t.last_ack < kInvalidAckInterval) return;
  t.last_ack = now;
  Acknowledge(context, t, now);
}

bool PawsRejects(const TimeWait& t, const Segment& segment, Instant now) {
  if (!t.timestamps || !segment.options.has_timestamps) return false;
  if (now - t.recent_timestamp_at > kPawsValidity) return false;
  return Before(segment.options.timestamp_value, t.recent_timestamp);
}

void TakeTimestamp(TimeWait& t, const Segment& segment, Instant now) {
  if (!segment.options.has_timestamps) return;
  t.recent_timestamp = segment.options.timestamp_value;
  t.recent_timestamp_at = now;
}

// Linux: tcp_timewait_state_process, substate FIN_WAIT2.
TimeWaitVerdict FinWait2Segment(Context& context, TimeWait& t, const Segment& segment,
                                bool paws_rejects, Instant now) {
  const bool in_window = segment.end().AtOrAfter(t.receive_next) &&
                         segment.sequence.AtOrBefore(t.receive_next + t.receive_window);
  if (paws_rejects || !in_window) {
    if (!segment.Has(wire::kTcpReset)) AcknowledgeLimited(context, t, segment, now);
    return TimeWaitVerdict::kDone;
  }
  const bool bad_syn = segment.Has(wire::kTcpSyn) && !segment.sequence.Before(t.receive_next);
  if (segment.Has(wire::kTcpReset)) {
    if (segment.sequence == t.receive_next) RemoveTimeWait(context, t);
    return TimeWaitVerdict::kDone;
  }
  if (bad_syn) {
    SendResetTo(context, segment, now);
    RemoveTimeWait(context, t);
    return TimeWaitVerdict::kDone;
  }
  if (!segment.Has(wire::kTcpAck) || segment.end().AtOrBefore(t.receive_next) ||
      segment.sequence_length() == 0) {
    return TimeWaitVerdict::kDone;
  }
  // Data for a socket that is gone, or anything but the FIN that we wait for.
  if (!segment.Has(wire::kTcpFin) || segment.end() != t.receive_next + 1) {
    context.core->counters.Add(Counter::kTcpAbortOnData);
    SendResetTo(context, segment, now);
    RemoveTimeWait(context, t);
    return TimeWaitVerdict::kDone;
  }
  t.fin_wait_2 = false;
  t.receive_next = segment.end();
  TakeTimestamp(t, segment, now);
  Arm(context, t, kTimeWait, now);
  Acknowledge(context, t, now);
  return TimeWaitVerdict::kDone;
}

}  // namespace

TimeWait* FindTimeWait(const Context& context, const Tuple& tuple, uint64_t hash) {
  return context.time_wait_table.Find(hash, [&](const TimeWait& t) { return t.tuple == tuple; });
}

void StartTimeWait(Context& context, Connection& c, bool fin_wait_2, Duration length, Instant now) {
  TimeWait* t = context.time_waits.New();
  if (t == nullptr && !context.time_wait_list.empty()) {
    RemoveTimeWait(context, *context.time_wait_list.front());
    t = context.time_waits.New();
  }
  if (t == nullptr) return;  // Linux: tcp_time_wait without memory just closes
  t->tuple = c.tuple;
  t->port = c.port;
  t->send_next = c.send.next;
  t->receive_next = c.receive.next;
  t->receive_window = RemainingReceiveWindow(c);
  t->timestamp_offset = c.timestamp_offset;
  t->recent_timestamp = c.recent_timestamp;
  t->recent_timestamp_at = c.recent_timestamp_at;
  t->interface = c.interface;
  t->traffic_class = c.tuple.remote.is_v4() ? c.options.tos : c.options.traffic_class;
  t->timestamps = c.timestamps;
  t->fin_wait_2 = fin_wait_2;
  t->reuse_address = c.options.reuse_address;
  t->reuse_port = c.options.reuse_port;
  t->v6_only = c.options.v6_only;
  if (t->port != nullptr) t->port->time_waits.PushBack(t);
  context.time_wait_list.PushBack(t);
  context.time_wait_table.Insert(t, HashOf(context, t->tuple));
  context.core->counters.Add(Counter::kTcpTimeWait);
  Arm(context, *t, length, now);
}

void RemoveTimeWait(Context& context, TimeWait& t) {
  context.core->timers.Disarm(&t.timer);
  context.time_wait_table.Erase(&t);
  t.age_node.Unlink();
  t.port_node.Unlink();
  PortBucket* port = t.port;
  context.time_waits.Delete(&t);
  if (port != nullptr) ReleaseBucketIfUnused(context, port);
}

void OnTimeWaitTimer(Context& context, TimeWait& t) { RemoveTimeWait(context, t); }

TimeWaitVerdict TimeWaitSegment(Context& context, TimeWait& t, Segment& segment, bool for_listener,
                                SeqNum* next_initial, Instant now) {
  const bool paws_rejects = PawsRejects(t, segment, now);
  if (t.fin_wait_2) return FinWait2Segment(context, t, segment, paws_rejects, now);

  const bool reset = segment.Has(wire::kTcpReset);
  const bool exact = segment.sequence == t.receive_next;
  if (!paws_rejects && exact && (segment.sequence_length() == 0 || reset)) {
    if (reset) {
      // RFC 1337: TIME-WAIT assassination. Linux (tcp_rfc1337 = 0) lets an exact RST end it.
      RemoveTimeWait(context, t);
      return TimeWaitVerdict::kDone;
    }
    Arm(context, t, kTimeWait, now);
    TakeTimestamp(t, segment, now);
    return TimeWaitVerdict::kDone;
  }
  // RFC 9293 3.10.7.4, RFC 6191: a SYN that is new by sequence number or by timestamp.
  if (for_listener && !reset && !segment.Has(wire::kTcpAck) && !paws_rejects &&
      (segment.sequence.After(t.receive_next) ||
       (t.timestamps && segment.options.has_timestamps &&
        Before(t.recent_timestamp, segment.options.timestamp_value)))) {
    *next_initial = t.send_next + 65535 + 2;
    RemoveTimeWait(context, t);
    return TimeWaitVerdict::kNewSyn;
  }
  if (paws_rejects) context.core->counters.Add(Counter::kTcpPawsDropped);
  if (reset) return TimeWaitVerdict::kDone;
  // Linux: in this case the timer starts again only for a retransmitted FIN.
  if (paws_rejects || segment.Has(wire::kTcpAck)) Arm(context, t, kTimeWait, now);
  AcknowledgeLimited(context, t, segment, now);
  return TimeWaitVerdict::kDone;
}

bool ReuseTimeWait(Context& context, TimeWait& t, Connection& c, Instant now) {
  // RFC 6191. Linux: by default (tcp_tw_reuse = 2) only on loopback, because turning it on for all
  // is left to the administrator; here it is on for all, because timestamps make it safe and a
  // program that makes many short connections would else run out of ports.
  if (!t.timestamps || t.fin_wait_2) return false;
  if (now - t.recent_timestamp_at < Duration::Seconds(1)) return false;
  c.send.initial = t.send_next + 65535 + 2;
  c.recent_timestamp = t.recent_timestamp;
  c.recent_timestamp_at = t.recent_timestamp_at;
  RemoveTimeWait(context, t);
  return true;
}

}  // namespace userstack::tcp
