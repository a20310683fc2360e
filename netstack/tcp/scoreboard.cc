#include "netstack/tcp/scoreboard.h"

#include <algorithm>

#include "netstack/tcp/send_queue.h"

namespace userstack::tcp {
namespace {

// What a record costs its socket's send buffer.
constexpr uint32_t kRecordOverhead = 256;

void Unlink(Context& context, Connection& c, SentSegment* s) {
  if (c.retransmit_hint == s) c.retransmit_hint = c.sent.Next(s);
  c.sent_tree.Erase(s);
  s->node.Unlink();
  c.queued_memory -= kRecordOverhead;
  context.sent_segments.Delete(s);
}

void SetLost(Connection& c, SentSegment* s) {
  if (s->lost || s->sacked) return;
  s->lost = true;
  c.lost_bytes += s->length();
  if (c.retransmit_hint == nullptr || s->begin.Before(c.retransmit_hint->begin)) {
    c.retransmit_hint = s;
  }
}

void ClearLost(Connection& c, SentSegment* s) {
  if (s->lost) c.lost_bytes -= s->length();
  if (s->retransmitted) c.retransmitted_bytes -= s->length();
  s->lost = false;
  s->retransmitted = false;
}

// RTT and delivery-rate inputs of a record that was just delivered.
void NoteDelivered(Connection& c, const SentSegment& s, AckOutcome* outcome) {
  if (s.ever_retransmitted) {
    outcome->retransmission_acknowledged = true;
  } else {
    // Karn's rule: no sample from what was sent twice.
    if (!outcome->has_rtt || s.sent_at > outcome->newest_sent_at) {
      outcome->newest_sent_at = s.sent_at;
    }
    if (!outcome->has_rtt || s.sent_at < outcome->oldest_sent_at) {
      outcome->oldest_sent_at = s.sent_at;
    }
    outcome->has_rtt = true;
  }
  if (!outcome->has_rate || s.delivered > outcome->prior_delivered ||
      (s.delivered == outcome->prior_delivered && s.sent_at > outcome->rate_sent_at)) {
    outcome->has_rate = true;
    outcome->prior_delivered = s.delivered;
    outcome->prior_delivered_at = s.delivered_at;
    outcome->rate_application_limited = s.application_limited;
    outcome->send_elapsed = s.sent_at - s.first_sent_at;
    outcome->rate_sent_at = s.sent_at;
    c.first_sent_at = s.sent_at;
  }
}

// Joins `s` to the SACKed record before it, if there is one.
void MergeWithPrevious(Context& context, Connection& c, SentSegment* s) {
  SentSegment* previous = c.sent.Previous(s);
  if (previous == nullptr || !previous->sacked) return;
  const SeqNum end = s->end;
  previous->fin = s->fin;
  Unlink(context, c, s);
  previous->end = end;
}

void SetSacked(Connection& c, SentSegment* s, AckOutcome* outcome) {
  ClearLost(c, s);
  NoteDelivered(c, *s, outcome);
  s->sacked = true;
  c.sacked_bytes += s->length();
  outcome->newly_sacked += s->length();
  if (s->end.After(c.highest_sacked)) c.highest_sacked = s->end;
}

// The first cut in `s` at or after `at` that lies on a multiple of the MSS from its begin.
SeqNum RoundUp(const Connection& c, const SentSegment& s, SeqNum at) {
  const uint32_t units = ((at - s.begin) + c.mss - 1) / c.mss;
  return s.begin + std::min(units * c.mss, s.length());
}
SeqNum RoundDown(const Connection& c, const SentSegment& s, SeqNum at) {
  return s.begin + (at - s.begin) / c.mss * c.mss;
}

void ApplyBlock(Context& context, Connection& c, SeqNum begin, SeqNum end, AckOutcome* outcome) {
  SentSegment* s = c.sent_tree.AtOrBefore(begin);
  if (s == nullptr) return;
  if (!s->sacked && s->begin.Before(begin)) {
    const SeqNum cut = RoundUp(c, *s, begin);
    if (cut.Before(s->end) && SplitSent(context, c, s, cut) == nullptr) return;
    s = c.sent.Next(s);
  }
  while (s != nullptr && s->begin.Before(end)) {
    if (!s->sacked) {
      if (s->end.After(end)) {
        const SeqNum cut = RoundDown(c, *s, end);
        if (cut == s->begin || SplitSent(context, c, s, cut) == nullptr) return;
      }
      SetSacked(c, s, outcome);
    }
    SentSegment* next = c.sent.Next(s);
    MergeWithPrevious(context, c, s);
    s = next;
  }
  // What follows may have been SACKed before.
  if (s != nullptr && s->sacked) MergeWithPrevious(context, c, s);
}

bool IsDuplicateSack(const Segment& segment) {
  const auto& blocks = segment.options.sack_blocks;
  if (segment.options.sack_count == 0) return false;
  if (blocks[0].begin.Before(segment.acknowledgment)) return true;  // RFC 2883 4
  return segment.options.sack_count > 1 && blocks[0].end.AtOrBefore(blocks[1].end) &&
         blocks[0].begin.AtOrAfter(blocks[1].begin);
}

}  // namespace

uint64_t InFlight(const Connection& c) {
  const uint64_t outstanding = c.send.next - c.send.unacknowledged;
  uint64_t left = c.sacked_bytes + c.lost_bytes;
  if (!c.sack) left += std::min<uint64_t>(uint64_t{c.duplicate_acks} * c.mss, outstanding);
  left = std::min(left, outstanding);
  return outstanding - left + c.retransmitted_bytes;
}

SentSegment* AddSent(Context& context, Connection& c, uint32_t length, bool fin, SendChunk* chunk) {
  SentSegment* s = context.sent_segments.New();
  if (s == nullptr) return nullptr;
  s->begin = c.send.next;
  s->end = c.send.next + length + (fin ? 1u : 0u);
  s->fin = fin;
  s->chunk = length == 0 ? nullptr : chunk;
  c.sent.PushBack(s);
  c.sent_tree.Insert(s, context.core->random.Next());
  c.queued_memory += kRecordOverhead;
  return s;
}

void RemoveLastSent(Context& context, Connection& c, SentSegment* s) { Unlink(context, c, s); }

SentSegment* SplitSent(Context& context, Connection& c, SentSegment* s, SeqNum at) {
  SentSegment* tail = context.sent_segments.New();
  if (tail == nullptr) return nullptr;
  tail->begin = at;
  tail->end = s->end;
  tail->chunk = ChunkAt(c, s->chunk, at);
  tail->sacked = s->sacked;
  tail->lost = s->lost;
  tail->retransmitted = s->retransmitted;
  tail->ever_retransmitted = s->ever_retransmitted;
  tail->application_limited = s->application_limited;
  tail->transmissions = s->transmissions;
  tail->sent_at = s->sent_at;
  tail->delivered = s->delivered;
  tail->delivered_at = s->delivered_at;
  tail->first_sent_at = s->first_sent_at;
  tail->fin = s->fin;
  s->fin = false;
  s->end = at;
  c.sent.InsertAfter(s, tail);
  c.sent_tree.Insert(tail, context.core->random.Next());
  c.queued_memory += kRecordOverhead;
  return tail;
}

void AcknowledgeUpTo(Context& context, Connection& c, SeqNum ack, AckOutcome* outcome) {
  while (SentSegment* s = c.sent.front()) {
    if (s->begin.AtOrAfter(ack)) break;
    const bool whole = s->end.AtOrBefore(ack);
    const uint32_t bytes = whole ? s->length() : ack - s->begin;
    outcome->newly_acknowledged += bytes;
    if (s->sacked) {
      outcome->acknowledged_after_sack += bytes;
      c.sacked_bytes -= bytes;
    } else if (whole) {
      NoteDelivered(c, *s, outcome);
    }
    if (s->lost) c.lost_bytes -= bytes;
    if (s->retransmitted) c.retransmitted_bytes -= bytes;
    if (!whole) {
      s->begin = ack;
      s->chunk = ChunkAt(c, s->chunk, ack);
      break;
    }
    outcome->fin_acknowledged |= s->fin;
    Unlink(context, c, s);
  }
  c.send.unacknowledged = ack;
  if (c.lost_until.Before(ack)) c.lost_until = ack;
  if (c.highest_sacked.Before(ack)) c.highest_sacked = ack;
  DropAcknowledgedChunks(context, c);
}

void ApplySack(Context& context, Connection& c, const Segment& segment, SeqNum prior_unacknowledged,
               AckOutcome* outcome) {
  outcome->duplicate_sack = IsDuplicateSack(segment);
  for (unsigned i = outcome->duplicate_sack ? 1 : 0; i < segment.options.sack_count; ++i) {
    const wire::SackBlock& block = segment.options.sack_blocks[i];
    // RFC 2018 8: a block must lie within what is outstanding; an old segment's may lie below.
    if (!block.begin.Before(block.end) || block.end.After(c.send.next)) continue;
    if (block.end.AtOrBefore(c.send.unacknowledged)) continue;
    if (block.begin.Before(prior_unacknowledged)) continue;
    ApplyBlock(context, c, Max(block.begin, c.send.unacknowledged), block.end, outcome);
  }
}

void MarkLost(Connection& c, AckOutcome* outcome) {
  if (c.sacked_bytes == 0) return;
  // Find the last record above which enough is SACKed: more than (DupThresh - 1) * SMSS bytes, or
  // DupThresh separate ranges.
  const uint64_t enough = uint64_t{c.reordering - 1} * c.mss;
  uint64_t bytes = 0;
  uint32_t ranges = 0;
  SentSegment* s = c.sent_tree.AtOrBefore(c.highest_sacked - 1);
  while (s != nullptr && s->begin.AtOrAfter(c.lost_until)) {
    if (s->sacked) {
      bytes += s->length();
      ++ranges;
    } else if (bytes > enough || ranges >= c.reordering) {
      break;
    }
    s = c.sent.Previous(s);
  }
  if (s == nullptr || s->begin.Before(c.lost_until)) return;
  const SeqNum boundary = s->end;
  for (; s != nullptr && s->begin.AtOrAfter(c.lost_until); s = c.sent.Previous(s)) {
    if (s->sacked || s->lost) continue;
    outcome->newly_lost += s->length();
    SetLost(c, s);
  }
  c.lost_until = boundary;
}

void MarkHeadLost(Context& context, Connection& c, AckOutcome* outcome) {
  SentSegment* head = c.sent.front();
  if (head == nullptr || head->sacked || head->lost) return;
  if (head->length() > c.mss) (void)SplitSent(context, c, head, head->begin + c.mss);
  outcome->newly_lost += head->length();
  SetLost(c, head);
}

void MarkAllLost(Connection& c, bool forget_sacks) {
  for (SentSegment* s = c.sent.front(); s != nullptr; s = c.sent.Next(s)) {
    if (forget_sacks && s->sacked) {
      s->sacked = false;
      c.sacked_bytes -= s->length();
    }
    if (s->retransmitted) {
      s->retransmitted = false;
      c.retransmitted_bytes -= s->length();
    }
    SetLost(c, s);
  }
  c.duplicate_acks = 0;
  c.retransmit_hint = c.sent.front();
  c.lost_until = c.send.next;
}

void MarkLongerLost(Connection& c, uint32_t mss) {
  for (SentSegment* s = c.sent.front(); s != nullptr; s = c.sent.Next(s)) {
    if (s->length() <= mss) continue;
    if (s->retransmitted) {
      s->retransmitted = false;
      c.retransmitted_bytes -= s->length();
      if (c.retransmit_hint == nullptr || s->begin.Before(c.retransmit_hint->begin)) {
        c.retransmit_hint = s;
      }
    }
    SetLost(c, s);
  }
}

SentSegment* NextToRetransmit(Connection& c) {
  if (c.lost_bytes == c.retransmitted_bytes) return nullptr;
  SentSegment* s = c.retransmit_hint;
  while (s != nullptr && (!s->lost || s->retransmitted)) s = c.sent.Next(s);
  c.retransmit_hint = s;
  return s;
}

void NoteRetransmitted(Connection& c, SentSegment* s, Instant now) {
  if (!s->retransmitted) c.retransmitted_bytes += s->length();
  s->retransmitted = true;
  s->ever_retransmitted = true;
  if (s->transmissions < 255) ++s->transmissions;
  s->sent_at = now;
}

void ClearScoreboard(Context& context, Connection& c) {
  while (SentSegment* s = c.sent.front()) Unlink(context, c, s);
  c.retransmit_hint = nullptr;
  c.sacked_bytes = c.lost_bytes = c.retransmitted_bytes = 0;
  c.duplicate_acks = 0;
}

}  // namespace userstack::tcp
