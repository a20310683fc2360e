// The scoreboard: what is in flight, what the peer holds (SACK, RFC 2018), what is deemed lost
// (RFC 6675), what must be sent again. Records of contiguous SACKed data are merged, and what was
// examined for loss is not examined again, so that the work per acknowledgment does not grow with
// the window. Records split only at multiples of the MSS, so that a peer's choice of SACK edges
// cannot multiply them.
//
// Invariants: 1. Records tile [SND.UNA, SND.NXT). 2. sacked_bytes, lost_bytes and
// retransmitted_bytes are the sums over the records with that flag. 3. A SACKed record is neither
// lost nor retransmitted; a retransmitted one is lost. 4. No lost record that is not retransmitted
// lies before retransmit_hint.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// What one acknowledgment did to the scoreboard.
struct AckOutcome {
  uint64_t newly_acknowledged = 0;  // bytes, by the cumulative acknowledgment
  uint64_t newly_sacked = 0;
  uint64_t newly_lost = 0;
  uint64_t acknowledged_after_sack = 0;  // part of newly_acknowledged that SACK had told before
  Instant newest_sent_at;                // of the newest never retransmitted record delivered
  bool has_rtt = false;
  Instant oldest_sent_at;  // of the oldest one, cumulatively acknowledged
  bool retransmission_acknowledged = false;
  bool fin_acknowledged = false;
  bool duplicate_sack = false;
  // For the delivery rate: the state at the sending of the newest record delivered.
  bool has_rate = false;
  bool rate_application_limited = false;
  uint64_t prior_delivered = 0;
  Instant prior_delivered_at;
  Duration send_elapsed;
  Instant rate_sent_at;
};

// RFC 6675's pipe.
uint64_t InFlight(const Connection& c);
// A record for [begin, end) at SND.NXT; nullptr when the pool is exhausted.
SentSegment* AddSent(Context& context, Connection& c, uint32_t length, bool fin, SendChunk* chunk);
// Takes back the record that AddSent gave (it could not be sent).
void RemoveLastSent(Context& context, Connection& c, SentSegment* s);
// Cuts `s` at `at`, strictly inside it: `s` keeps the front. nullptr when the pool is exhausted.
SentSegment* SplitSent(Context& context, Connection& c, SentSegment* s, SeqNum at);

void AcknowledgeUpTo(Context& context, Connection& c, SeqNum ack, AckOutcome* outcome);
// Takes the SACK blocks of a segment; sets outcome->duplicate_sack when the first is a D-SACK.
void ApplySack(Context& context, Connection& c, const Segment& segment, SeqNum prior_unacknowledged,
               AckOutcome* outcome);
// RFC 6675 4, IsLost, for everything that is not yet marked.
void MarkLost(Connection& c, AckOutcome* outcome);
// The first MSS at SND.UNA is lost (RFC 6582, and what has no SACK).
void MarkHeadLost(Context& context, Connection& c, AckOutcome* outcome);
// After a timeout: all that is not SACKed is lost, and no retransmission is in flight.
void MarkAllLost(Connection& c, bool forget_sacks);
// Records longer than `mss` are lost: they exceeded the path MTU.
void MarkLongerLost(Connection& c, uint32_t mss);
// The next record to retransmit, or nullptr.
SentSegment* NextToRetransmit(Connection& c);
void NoteRetransmitted(Connection& c, SentSegment* s, Instant now);
void ClearScoreboard(Context& context, Connection& c);

}  // namespace userstack::tcp
