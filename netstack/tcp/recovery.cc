#include "netstack/tcp/recovery.h"

#include <algorithm>

namespace userstack::tcp {
namespace {

void EnterFastRecovery(Context& context, Connection& c, AckOutcome* outcome, Instant now) {
  if (!c.sack) MarkHeadLost(context, c, outcome);
  CongestionOnLoss(c.congestion, c.send.next - c.send.unacknowledged, c.mss, now);
  c.recovery = Recovery::kFast;
  c.recovery_point = c.send.next;
  context.core->counters.Add(Counter::kTcpFastRetransmits);
}

void LeaveRecovery(Connection& c, Instant now) {
  if (c.recovery == Recovery::kFast) CongestionOnRecovered(c.congestion, c.mss, now);
  c.recovery = Recovery::kOpen;
  c.duplicate_acks = 0;
  c.retransmit_started = {};
}

// RFC 9937: how much may be sent now, so that the window glides to the threshold.
void ReduceProportionally(Connection& c, const AckOutcome& outcome, bool first) {
  Congestion& g = c.congestion;
  const uint64_t delivered =
      outcome.newly_acknowledged - outcome.acknowledged_after_sack + outcome.newly_sacked;
  g.recovery_delivered += delivered;
  const uint64_t pipe = InFlight(c);
  uint64_t allowed = 0;
  if (pipe > g.threshold) {
    const uint64_t target =
        (g.recovery_delivered * g.threshold + g.recovery_flight - 1) / g.recovery_flight;
    allowed = target > g.recovery_sent ? target - g.recovery_sent : 0;
  } else {
    const uint64_t conservative =
        g.recovery_delivered > g.recovery_sent ? g.recovery_delivered - g.recovery_sent : 0;
    allowed = std::min(g.threshold - pipe, std::max(conservative, delivered) + c.mss);
  }
  // The first retransmission goes at once (RFC 6675 5, step 4.3).
  if (first) allowed = std::max<uint64_t>(allowed, c.mss);
  g.window = std::max<uint64_t>(pipe + allowed, c.mss);
}

bool LossDetected(const Connection& c) {
  if (c.sack) return c.lost_bytes > 0;
  return c.duplicate_acks >= c.reordering;
}

// Without SACK an acknowledgment that is duplicate tells that one more segment left the network;
// one that advances takes back what was assumed (Linux: tcp_add_reno_sack, tcp_remove_reno_sacks).
void CountDuplicates(Connection& c, const AckOutcome& outcome, bool advanced, bool duplicate) {
  if (c.sack) return;
  if (duplicate) ++c.duplicate_acks;
  if (!advanced) return;
  if (c.recovery != Recovery::kFast) {
    c.duplicate_acks = 0;
    return;
  }
  const auto segments =
      static_cast<uint32_t>((outcome.newly_acknowledged + c.mss - 1) / std::max(c.mss, 1u));
  const uint32_t beyond_hole = segments > 0 ? segments - 1 : 0;
  c.duplicate_acks -= std::min(c.duplicate_acks, beyond_hole);
}

}  // namespace

void UpdateRecovery(Context& context, Connection& c, AckOutcome* outcome, bool advanced,
                    bool duplicate, Instant now) {
  const bool past_point = c.send.unacknowledged.AtOrAfter(c.recovery_point);
  CountDuplicates(c, *outcome, advanced, duplicate);
  if (c.recovery >= Recovery::kFast && past_point && advanced) {
    // RFC 6582 3.2 step 3, full acknowledgment. Without SACK wait for one more byte, lest
    // duplicate ACKs of the old window start a second recovery (4.1; Linux: tcp_try_undo_recovery).
    if (c.sack || c.send.unacknowledged.After(c.recovery_point) || c.sent.empty()) {
      LeaveRecovery(c, now);
    }
  }
  if (c.sack) MarkLost(c, outcome);
  switch (c.recovery) {
    case Recovery::kOpen:
    case Recovery::kDisorder:
    case Recovery::kReduced:
      if (LossDetected(c)) {
        EnterFastRecovery(context, c, outcome, now);
        ReduceProportionally(c, *outcome, true);
      } else {
        const bool disorder = c.sacked_bytes > 0 || c.duplicate_acks > 0;
        c.recovery = disorder ? Recovery::kDisorder : Recovery::kOpen;
      }
      return;
    case Recovery::kFast:
      // RFC 6582 3.2: a partial acknowledgment uncovers the next hole.
      if (!c.sack && advanced && !past_point) MarkHeadLost(context, c, outcome);
      ReduceProportionally(c, *outcome, false);
      return;
    case Recovery::kLoss:
      return;
  }
}

void EnterLoss(Context& context, Connection& c, Instant now) {
  // Linux: tcp_enter_loss. The threshold falls once for one window of data.
  const bool fresh = c.recovery < Recovery::kFast ||
                     c.send.unacknowledged.AtOrAfter(c.recovery_point) ||
                     (c.recovery == Recovery::kLoss && c.retransmissions == 0);
  if (fresh) CongestionOnTimeout(c.congestion, c.send.next - c.send.unacknowledged, c.mss, now);
  // A SACKed record at the head: the peer has reneged (RFC 2018 8).
  const SentSegment* head = c.sent.front();
  const bool reneged = head != nullptr && head->sacked;
  if (reneged) context.core->counters.Add(Counter::kTcpSackReneging);
  MarkAllLost(c, reneged);
  c.congestion.window = InFlight(c) + c.mss;
  c.recovery = Recovery::kLoss;
  c.recovery_point = c.send.next;
}

}  // namespace userstack::tcp
