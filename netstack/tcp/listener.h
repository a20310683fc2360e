// Passive open: the listeners of a port, their SYN queues and accept queues with Linux's limits,
// SYN cookies when the SYN queue is full (RFC 4987).
//
// Invariants: 1. accept_count and syn_count are the lengths of the queues. 2. A SynRecord is in
// syn_table exactly while it is on a listener's queue.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// Makes the connection a listener, or changes its backlog. EADDRINUSE, ENOBUFS.
Status StartListening(Context& context, Connection& c, int backlog, Instant now);
// Gives up the queues: what was not accepted is reset.
void StopListening(Context& context, Connection& c, Instant now);
// The next established connection, or nullptr.
Connection* TakeAccepted(Context& context, Connection& listener);

// The best listener for the segment's destination: a bound address beats a wildcard, a wildcard of
// the same family beats a dual-stack one, and of equal ones (SO_REUSEPORT) a hash of the tuple
// chooses. nullptr: none.
Connection* FindListener(const Context& context, const Segment& segment);
// RFC 9293 3.10.7.2: a segment for a listener. `lowest_initial` is set when the tuple was in
// TIME-WAIT.
void ListenSegment(Context& context, Connection& listener, Segment& segment,
                   const SeqNum* lowest_initial, Instant now);

SynRecord* FindSynRecord(const Context& context, const Tuple& tuple, uint64_t hash);
// RFC 9293 3.10.7.4 in SYN-RECEIVED, for a handshake that is only a record yet.
void SynRecordSegment(Context& context, SynRecord& record, Segment& segment, Instant now);
void OnSynTimer(Context& context, SynRecord& record, Instant now);
void RemoveSynRecord(Context& context, SynRecord& record);

}  // namespace userstack::tcp
