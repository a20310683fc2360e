// Input: one segment for one connection, in the order of RFC 9293 3.10.7. Each step is a function
// that says whether to go on.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// RFC 9293 3.10.7: finds whom the segment is for and lets it arrive there. The packet stays with
// the caller unless `segment.packet` is nullptr afterwards.
void Demultiplex(Context& context, Segment& segment, Instant now);
// SEGMENT ARRIVES for a connection in the table. The connection may be CLOSED afterwards; the
// caller ends with ReleaseIfDone.
void SegmentArrives(Context& context, Connection& c, Segment& segment, Instant now);

// --- the later steps, in files of their own ---
// Sixth: URG (urgent.cc).
void ProcessUrgent(Context& context, Connection& c, const Segment& segment);
// Seventh: the segment text (payload_input.cc). False: the connection is CLOSED.
bool ProcessPayload(Context& context, Connection& c, Segment& segment, Instant now);
// Eighth: FIN, once everything before it is here (payload_input.cc).
void ProcessFin(Context& context, Connection& c, Instant now);
// 3.10.7.3, SYN-SENT (syn_sent.cc).
void SegmentInSynSent(Context& context, Connection& c, Segment& segment, Instant now);

}  // namespace userstack::tcp
