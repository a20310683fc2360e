// TIME-WAIT (RFC 9293 3.10.7.4), and FIN-WAIT-2 without a socket, as compact records: 60 s, bounded
// in number (the oldest gives way). A new SYN may take over the tuple when sequence number or
// timestamp prove it new (RFC 6191, RFC 9293 3.10.7.4 note).
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

void StartTimeWait(Context& context, Connection& c, bool fin_wait_2, Duration length, Instant now);
TimeWait* FindTimeWait(const Context& context, const Tuple& tuple, uint64_t hash);
// What to do with a segment for a TimeWait. `for_listener`: it is a SYN and somebody listens.
enum class TimeWaitVerdict : uint8_t {
  kDone,    // answered or dropped
  kNewSyn,  // the record is gone; treat the SYN as new, with *next_initial as lowest ISS
};
TimeWaitVerdict TimeWaitSegment(Context& context, TimeWait& t, Segment& segment, bool for_listener,
                                SeqNum* next_initial, Instant now);
void OnTimeWaitTimer(Context& context, TimeWait& t);
// An outgoing connection wants the tuple (Linux: tcp_twsk_unique): with timestamps it may have it
// after a second. The connection's sequence numbers and timestamp go on from the old ones.
bool ReuseTimeWait(Context& context, TimeWait& t, Connection& c, Instant now);
void RemoveTimeWait(Context& context, TimeWait& t);

}  // namespace userstack::tcp
