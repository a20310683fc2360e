// The steps of a passive open: SYN -> SynRecord and SYN-ACK (or a cookie), ACK -> Connection.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

void BeginHandshake(Context& context, Connection& listener, const Segment& segment,
                    const SeqNum* lowest_initial, Instant now);
// True when the ACK of a SYN numbered `peer_initial` carried a valid cookie (the connection was
// made, or there was no room for it).
bool AcceptCookie(Context& context, Connection& listener, Segment& segment, SeqNum peer_initial,
                  Instant now);

}  // namespace userstack::tcp
