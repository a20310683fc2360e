// Reads as RFC 9293 3.10.7.
#include "netstack/tcp/input.h"

#include "netstack/tcp/ack_input.h"
#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/listener.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/time_wait.h"
#include "netstack/tcp/timers.h"
#include "netstack/tcp/transmit.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

enum class Step : uint8_t { kGoOn, kDone };

bool TimestampBefore(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

// Linux: tcp_disordered_ack. A pure duplicate ACK that was overtaken is harmless.
bool IsDisorderedAck(const Connection& c, const Segment& segment) {
  if (!segment.Has(wire::kTcpAck) || segment.sequence_length() != 0) return false;
  if (segment.sequence != c.receive.next) return false;
  if (segment.acknowledgment != c.send.unacknowledged) return false;
  if ((uint32_t{segment.window} << c.send.window_scale) != c.send.window) return false;
  const auto age = static_cast<int64_t>(c.recent_timestamp - segment.options.timestamp_value);
  return age <= c.rto.milliseconds();
}

// RFC 7323 5.3 R1.
bool PawsRejects(const Connection& c, const Segment& segment, Instant now) {
  if (!c.timestamps || !segment.options.has_timestamps) return false;
  if (!TimestampBefore(segment.options.timestamp_value, c.recent_timestamp)) return false;
  if (now - c.recent_timestamp_at > kPawsValidity) return false;
  return !IsDisorderedAck(c, segment);
}

// Answers an unacceptable segment with an ACK (3.10.7.4 first), data always, the rest limited.
void AnswerUnacceptable(Context& context, Connection& c, const Segment& segment, Instant now) {
  if (segment.length == 0 || segment.Has(wire::kTcpSyn)) {
    if (c.last_challenge_ack.nanoseconds != 0 && now - c.last_challenge_ack < kInvalidAckInterval) {
      return;
    }
    c.last_challenge_ack = now;
  }
  if (segment.end().After(segment.sequence) && segment.sequence.Before(c.receive.next)) {
    EnterQuickAck(c);
    if (c.sack) {  // RFC 2883: tell what came twice
      c.duplicate_sack = true;
      c.duplicate_sack_begin = segment.sequence;
      c.duplicate_sack_end = Min(segment.end(), c.receive.next);
    }
  }
  SendAck(context, c, now);
}

// Linux: tcp_sequence. Looser than the RFC below RCV.NXT: what we have not acknowledged yet may
// bring a valid ACK.
bool IsAcceptable(const Connection& c, const Segment& segment) {
  return segment.end().AtOrAfter(c.receive.acknowledged) &&
         segment.sequence.AtOrBefore(c.receive.next + RemainingReceiveWindow(c));
}

// RFC 7323 4.3.
void UpdateRecentTimestamp(Connection& c, const Segment& segment, Instant now) {
  if (!c.timestamps || !segment.options.has_timestamps) return;
  if (segment.sequence.After(c.receive.acknowledged)) return;
  if (TimestampBefore(segment.options.timestamp_value, c.recent_timestamp) &&
      now - c.recent_timestamp_at <= kPawsValidity) {
    return;
  }
  c.recent_timestamp = segment.options.timestamp_value;
  c.recent_timestamp_at = now;
}

// The second SYN of a simultaneous open, with its ACK (Linux: tcp_validate_incoming).
bool IsCrossedSynAck(const Connection& c, const Segment& segment) {
  return c.state == State::kSynReceived && segment.Has(wire::kTcpSyn) &&
         segment.Has(wire::kTcpAck) && segment.sequence_length() == 1 &&
         segment.sequence + 1 == c.receive.next && segment.acknowledgment == c.send.next;
}

// First: check the sequence number.
Step CheckSequence(Context& context, Connection& c, const Segment& segment, Instant now) {
  // A RST is looked at even if its timestamp is old (Linux; RFC 7323 5.2 says the same).
  if (!segment.Has(wire::kTcpReset) && PawsRejects(c, segment, now)) {
    context.core->counters.Add(Counter::kTcpPawsDropped);
    AnswerUnacceptable(context, c, segment, now);
    return Step::kDone;
  }
  if (IsAcceptable(c, segment)) return Step::kGoOn;
  if (!segment.Has(wire::kTcpReset)) AnswerUnacceptable(context, c, segment, now);
  return Step::kDone;
}

bool IsExactReset(const Connection& c, const Segment& segment) {
  if (segment.sequence == c.receive.next) return true;
  // Linux: tcp_reset_check. After its FIN a peer may number the RST one lower.
  if (c.receive.fin_received && segment.sequence == c.receive.next - 1) return true;
  // Linux: the right edge of the highest SACK block, which the peer may take for RCV.NXT.
  const ReorderBlock* last = c.reorder.back();
  return c.sack && last != nullptr && segment.sequence == last->end;
}

int ErrorOfReset(State state) { return state == State::kCloseWait ? EPIPE : ECONNRESET; }

// Second: check the RST bit (RFC 5961 3.2).
Step CheckReset(Context& context, Connection& c, const Segment& segment, Instant now) {
  if (!segment.Has(wire::kTcpReset)) return Step::kGoOn;
  if (!IsExactReset(c, segment)) {
    SendChallengeAck(context, c, now);
    return Step::kDone;
  }
  const int error = c.state == State::kSynReceived ? ECONNREFUSED : ErrorOfReset(c.state);
  Finish(context, c, error, now);
  return Step::kDone;
}

// Fourth: check the SYN bit (RFC 5961 4.2).
Step CheckSyn(Context& context, Connection& c, Segment& segment, Instant now) {
  if (!segment.Has(wire::kTcpSyn)) return Step::kGoOn;
  if (IsCrossedSynAck(c, segment)) {
    // RFC 7323 2.2: the window of a SYN is never scaled, and what follows scales it.
    segment.window = static_cast<uint16_t>(segment.window >> c.send.window_scale);
    TrimFront(context, segment, 1);
    return Step::kGoOn;
  }
  SendChallengeAck(context, c, now);
  return Step::kDone;
}

Step CheckAckInSynReceived(Context& context, Connection& c, const Segment& segment, Instant now) {
  if (segment.acknowledgment != c.send.next) {
    SendResetTo(context, segment, now);
    return Step::kDone;
  }
  c.send.unacknowledged = c.send.next;
  Establish(context, c, now);
  if (c.send.fin_queued) c.state = State::kFinWait1;  // closed meanwhile
  TakeFirstWindow(c, segment, true);
  PublishStateChange(context, c);
  return Step::kGoOn;
}

// Our FIN is acknowledged, or not yet: FIN-WAIT-1, CLOSING and LAST-ACK move on.
Step AfterAck(Context& context, Connection& c, Instant now) {
  const bool fin_acknowledged = c.send.fin_sent && c.send.unacknowledged == c.send.next;
  if (!fin_acknowledged) return Step::kGoOn;
  switch (c.state) {
    case State::kFinWait1:
      c.state = State::kFinWait2;
      PublishStateChange(context, c);
      return Step::kGoOn;
    case State::kClosing:
      EnterTimeWait(context, c, now);
      return Step::kDone;
    case State::kLastAck:
      Finish(context, c, 0, now);
      return Step::kDone;
    case State::kEstablished:
    case State::kCloseWait:
    case State::kFinWait2:
    case State::kSynSent:
    case State::kSynReceived:
    case State::kTimeWait:
    case State::kClosed:
    case State::kListen:
      return Step::kGoOn;
  }
  return Step::kGoOn;
}

// Fifth: check the ACK field.
Step CheckAck(Context& context, Connection& c, Segment& segment, Instant now) {
  if (!segment.Has(wire::kTcpAck)) return Step::kDone;
  if (c.state == State::kSynReceived) {
    if (CheckAckInSynReceived(context, c, segment, now) == Step::kDone) return Step::kDone;
  }
  if (!ProcessAck(context, c, segment, now)) return Step::kDone;
  return AfterAck(context, c, now);
}

// Header prediction: the next segment of a one-way flow, with nothing to it but data in order. All
// that the steps below would find is then known, but for the text itself.
bool IsPredictedText(const Connection& c, const Segment& segment) {
  constexpr uint8_t kTelling =
      wire::kTcpFin | wire::kTcpSyn | wire::kTcpReset | wire::kTcpAck | wire::kTcpUrgent;
  if (c.state != State::kEstablished || (segment.flags & kTelling) != wire::kTcpAck) return false;
  if (segment.length == 0 || segment.sequence != c.receive.next) return false;
  if (segment.acknowledgment != c.send.next || c.send.unacknowledged != c.send.next) return false;
  if ((uint32_t{segment.window} << c.send.window_scale) != c.send.window) return false;
  if (segment.options.sack_count != 0 || segment.options.has_timestamps != c.timestamps) {
    return false;
  }
  if (c.timestamps && TimestampBefore(segment.options.timestamp_value, c.recent_timestamp)) {
    return false;
  }
  // What waits to be sent is looked at with each segment: the route may be back, memory be there.
  return !HasUnsent(c) && c.reorder.empty() && !c.receive.fin_known && c.urgent == Urgent::kNone &&
         segment.length <= RemainingReceiveWindow(c);
}

void TakePredictedText(Context& context, Connection& c, Segment& segment, Instant now) {
  context.core->counters.Add(Counter::kTcpHeaderPredictions);
  UpdateRecentTimestamp(c, segment, now);
  c.last_received = c.last_received_ack = now;
  c.probes = 0;
  c.soft_error = 0;
  // SND.WL1 must not fall half the space behind, nor go back: an ACK may have overtaken this.
  c.send.window_sequence = Max(c.send.window_sequence, segment.sequence);
  if (ProcessPayload(context, c, segment, now)) SendOwedAck(context, c, now);
}

void SegmentSynchronized(Context& context, Connection& c, Segment& segment, Instant now) {
  if (context.header_prediction && IsPredictedText(c, segment)) {
    TakePredictedText(context, c, segment, now);
    return;
  }
  if (CheckSequence(context, c, segment, now) == Step::kDone) return;
  if (CheckReset(context, c, segment, now) == Step::kDone) return;
  // Third: security. We have none.
  if (CheckSyn(context, c, segment, now) == Step::kDone) return;
  UpdateRecentTimestamp(c, segment, now);
  c.last_received = now;
  if (CheckAck(context, c, segment, now) == Step::kDone) return;
  ProcessUrgent(context, c, segment);
  if (!ProcessPayload(context, c, segment, now)) return;
  ProcessFin(context, c, now);
  if (c.state == State::kClosed) return;
  if (c.orphan && c.state == State::kFinWait2) {
    // Linux: tcp_rcv_state_process. Without a socket a compact record is enough.
    EnterFinWait2AsOrphan(context, c, now);
    return;
  }
  Output(context, c, now);
  if (c.state != State::kClosed) SendOwedAck(context, c, now);
}

}  // namespace

void SegmentArrives(Context& context, Connection& c, Segment& segment, Instant now) {
  ++c.segments_in;
  switch (c.state) {
    case State::kSynSent:
      SegmentInSynSent(context, c, segment, now);
      break;
    case State::kSynReceived:
    case State::kEstablished:
    case State::kFinWait1:
    case State::kFinWait2:
    case State::kCloseWait:
    case State::kClosing:
    case State::kLastAck:
      SegmentSynchronized(context, c, segment, now);
      break;
    case State::kClosed:
    case State::kListen:
    case State::kTimeWait:
      SendResetTo(context, segment, now);
      return;
  }
  PublishReadiness(context, c);
}

void Demultiplex(Context& context, Segment& segment, Instant now) {
  const uint64_t hash = HashOf(context, segment.tuple);
  if (Connection* c = FindConnection(context, segment.tuple, hash)) {
    SegmentArrives(context, *c, segment, now);
    ReleaseIfDone(context, *c);
    return;
  }
  if (SynRecord* record = FindSynRecord(context, segment.tuple, hash)) {
    SynRecordSegment(context, *record, segment, now);
    return;
  }
  SeqNum lowest;
  const SeqNum* lowest_initial = nullptr;
  if (TimeWait* t = FindTimeWait(context, segment.tuple, hash)) {
    const bool for_listener =
        segment.Has(wire::kTcpSyn) && FindListener(context, segment) != nullptr;
    if (TimeWaitSegment(context, *t, segment, for_listener, &lowest, now) ==
        TimeWaitVerdict::kDone) {
      return;
    }
    lowest_initial = &lowest;
  }
  if (Connection* listener = FindListener(context, segment)) {
    ListenSegment(context, *listener, segment, lowest_initial, now);
    return;
  }
  SendResetTo(context, segment, now);
}

}  // namespace userstack::tcp
