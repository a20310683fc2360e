#include "netstack/tcp/ack_input.h"

#include <algorithm>

#include "netstack/tcp/constants.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/recovery.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/scoreboard.h"
#include "netstack/tcp/timers.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

// RFC 9293 3.10.7.4, with Linux's test (tcp_may_update_window): WL2 is not needed when only newer
// segments, or larger windows of the same one, count. True when SND.WND changed.
bool UpdateWindow(Connection& c, const Segment& segment) {
  const uint32_t window = uint32_t{segment.window} << c.send.window_scale;
  const bool newer = segment.acknowledgment.After(c.send.unacknowledged) ||
                     segment.sequence.After(c.send.window_sequence);
  const bool same = segment.sequence == c.send.window_sequence;
  if (!newer && !(same && (window > c.send.window || window == 0))) return false;
  c.send.window_sequence = segment.sequence;
  const bool changed = window != c.send.window;
  c.send.window = window;
  c.send.maximum_window = std::max(c.send.maximum_window, window);
  return changed;
}

// Returns the sample for congestion control, Infinite when there is none.
Duration MeasureRtt(Connection& c, const Segment& segment, const AckOutcome& outcome, bool advanced,
                    Instant at) {
  if (outcome.has_rtt) {
    // The oldest when all was sent once (it includes the peer's delay, as the RTO must).
    const bool clean = !outcome.retransmission_acknowledged;
    TakeRttSample(c, at - (clean ? outcome.oldest_sent_at : outcome.newest_sent_at));
    return at - outcome.newest_sent_at;
  }
  // RFC 7323 4.1: timestamps tell the transmissions apart.
  if (advanced && c.timestamps && segment.options.has_timestamps &&
      segment.options.timestamp_echo_reply != 0) {
    const uint32_t delta =
        TimestampClock(at, c.timestamp_offset) - segment.options.timestamp_echo_reply;
    if (delta < static_cast<uint32_t>(kMaximumRto.milliseconds())) {
      TakeRttSample(c, Duration::Milliseconds(std::max<uint32_t>(delta, 1)));
    }
  }
  return Duration::Infinite();
}

void FillRate(Connection& c, const AckOutcome& outcome, Instant at, AckSample* sample) {
  if (!outcome.has_rate) return;
  const Duration ack_elapsed = at - outcome.prior_delivered_at;
  sample->rate_interval = std::max(outcome.send_elapsed, ack_elapsed);
  sample->rate_delivered = c.delivered - outcome.prior_delivered;
  sample->rate_application_limited = outcome.rate_application_limited;
}

void NoteDelivery(Connection& c, const AckOutcome& outcome, Instant at, AckSample* sample) {
  sample->now = at;
  sample->newly_acknowledged = outcome.newly_acknowledged;
  sample->newly_delivered =
      outcome.newly_acknowledged - outcome.acknowledged_after_sack + outcome.newly_sacked;
  c.delivered += sample->newly_delivered;
  if (sample->newly_delivered > 0) c.delivered_at = at;
  if (c.application_limited_until != 0 && c.delivered > c.application_limited_until) {
    c.application_limited_until = 0;
  }
  FillRate(c, outcome, at, sample);
  if (outcome.newly_acknowledged > 0 && c.send.unacknowledged.AtOrAfter(c.round_end)) {
    sample->round_start = true;
    c.round_end = c.send.next;
  }
}

void ConfirmNeighbor(Context& context, Connection& c, Instant now) {
  if (now - c.neighbor_confirmed < Duration::Seconds(1)) return;
  c.neighbor_confirmed = now;
  context.ip->ConfirmNeighbor(c.route, now);
}

void Advance(Context& context, Connection& c, const Segment& segment, AckOutcome* outcome,
             Instant now) {
  c.bytes_acked += segment.acknowledgment - c.send.unacknowledged;
  AcknowledgeUpTo(context, c, segment.acknowledgment, outcome);
  c.retransmissions = 0;
  c.backoff = 0;
  // What is heard from lives: the time until giving up (RFC 9293 3.8.3 R2) begins anew.
  c.retransmit_started = {};
  if (c.send.urgent_pending && c.send.unacknowledged.AtOrAfter(c.send.urgent)) {
    c.send.urgent_pending = false;
  }
  if (c.send.small_end.Before(c.send.unacknowledged)) c.send.small_end = c.send.unacknowledged;
  if (c.send.push.Before(c.send.unacknowledged)) c.send.push = c.send.unacknowledged;
  ConfirmNeighbor(context, c, now);
}

void UpdateTimers(Context& context, Connection& c, bool advanced, Instant now) {
  if (c.sent.empty()) {
    if (c.retransmit_kind == RetransmitTimer::kRetransmit) DisarmRetransmit(context, c);
    c.retransmit_started = {};
    // Linux: tcp_ack_probe. The window is open for what waits: probing ends.
    const uint32_t wanted = std::min(c.send.end - c.send.next, c.mss);
    if (c.retransmit_kind == RetransmitTimer::kWindowProbe && c.send.window >= wanted &&
        c.send.window > 0) {
      c.backoff = 0;
      DisarmRetransmit(context, c);
    }
  } else if (advanced) {
    ArmRetransmit(context, c, now);
  }
}

bool IsDuplicate(const Connection& c, const Segment& segment, const AckOutcome& outcome,
                 bool advanced, bool window_changed) {
  // RFC 5681 2
  if (advanced || c.sent.empty() || outcome.duplicate_sack) return false;
  return segment.length == 0 && !window_changed && !segment.Has(wire::kTcpFin) &&
         segment.acknowledgment == c.send.unacknowledged;
}

// An acknowledgment from the past, come late: only its SACK blocks may be news.
void ProcessOldAck(Context& context, Connection& c, const Segment& segment, Instant now) {
  if (!c.sack || segment.options.sack_count == 0 || c.sent.empty()) return;
  AckOutcome outcome;
  ApplySack(context, c, segment, c.send.unacknowledged, &outcome);
  if (outcome.newly_sacked == 0) return;
  AckSample sample;
  NoteDelivery(c, outcome, now, &sample);
  UpdateRecovery(context, c, &outcome, false, false, now);
}

}  // namespace

void TakeFirstWindow(Connection& c, const Segment& segment, bool scaled) {
  c.send.window = scaled ? uint32_t{segment.window} << c.send.window_scale : segment.window;
  c.send.maximum_window = std::max(c.send.maximum_window, c.send.window);
  c.send.window_sequence = segment.sequence;
}

bool ProcessAck(Context& context, Connection& c, const Segment& segment, Instant now) {
  const SeqNum ack = segment.acknowledgment;
  const SeqNum prior = c.send.unacknowledged;
  if (ack.After(c.send.next) || ack.Before(prior - std::max(c.send.maximum_window, 1u))) {
    SendChallengeAck(context, c, now);  // RFC 5961 5.2
    return false;
  }
  c.probes = 0;
  c.soft_error = 0;
  c.last_received_ack = now;
  if (ack.Before(prior)) {
    ProcessOldAck(context, c, segment, now);
    return true;
  }
  const Instant at =
      segment.arrival.nanoseconds == 0 || segment.arrival > now ? now : segment.arrival;
  const bool advanced = ack.After(prior);
  AckSample sample;
  AckOutcome outcome;
  sample.prior_in_flight = InFlight(c);
  const bool window_changed = UpdateWindow(c, segment);
  if (advanced) Advance(context, c, segment, &outcome, now);
  if (c.sack && segment.options.sack_count > 0) ApplySack(context, c, segment, prior, &outcome);
  if (outcome.duplicate_sack) context.core->counters.Add(Counter::kTcpSpuriousRetransmits);
  sample.rtt = MeasureRtt(c, segment, outcome, advanced, at);
  NoteDelivery(c, outcome, at, &sample);
  const bool duplicate = IsDuplicate(c, segment, outcome, advanced, window_changed);
  UpdateRecovery(context, c, &outcome, advanced, duplicate, now);
  sample.newly_lost = outcome.newly_lost;
  sample.in_flight = InFlight(c);
  sample.smoothed_rtt = c.smoothed_rtt;
  sample.minimum_rtt = c.minimum_rtt;
  sample.in_recovery = c.recovery == Recovery::kFast;
  // Linux: tcp_is_cwnd_limited. In slow start half a window in use is enough to go on growing.
  sample.window_limited =
      c.window_limited ||
      (c.congestion.InSlowStart() &&
       c.congestion.window < 2 * std::max(sample.prior_in_flight, c.window_limited_in_flight));
  // RFC 3042 2, RFC 5681 3.1: what is only SACKed does not open the window (Linux:
  // tcp_may_raise_cwnd).
  if (c.recovery != Recovery::kFast && advanced) {
    CongestionOnAck(c.congestion, sample, c.mss);
    TuneSendBuffer(c);
  }
  UpdateTimers(context, c, advanced, now);
  return true;
}

}  // namespace userstack::tcp
