// When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2; Linux's policy): at once in the beginning,
// for every second full segment, for anything out of order; otherwise delayed, so that the ACK can
// ride on a reply.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// Payload came in at `now`: updates the delay estimate and marks an ACK as owed.
void ScheduleAck(Connection& c, Instant now);
// Enters quick-ACK mode: the next `most` segments are acknowledged at once.
void QuickAck(Connection& c, uint32_t most);
void EnterQuickAck(Connection& c);
// Sends the owed ACK now or arms the timer.
void SendOwedAck(Context& context, Connection& c, Instant now);
// What SendOwedAck left for the end of the turn.
void SendAckPutOff(Context& context, Instant now);
// Arms the delayed-ACK timer, at most `most` from now.
void DelayAck(Context& context, Connection& c, Duration most, Instant now);
// A segment with ACK left.
void NoteAckSent(Context& context, Connection& c, uint32_t segments);
// A data segment left: interactive when it follows what came in shortly before.
void NoteDataSent(Connection& c, Instant now);
// The user has read `copied` bytes: a window update or an ACK may be due (Linux: tcp_cleanup_rbuf).
void AckAfterRead(Context& context, Connection& c, uint32_t copied, Instant now);
void OnDelayedAckTimer(Context& context, Connection& c, Instant now);

}  // namespace userstack::tcp
