// RFC 9293 3.10.7.4, fifth: what an acknowledgment does. Window update, scoreboard, RTT, loss
// detection, congestion control, timers.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// False: the segment must be dropped (an ACK of what was never sent, or far too old).
bool ProcessAck(Context& context, Connection& c, const Segment& segment, Instant now);
// Takes the window of a segment without further ado (handshake).
void TakeFirstWindow(Connection& c, const Segment& segment, bool scaled);

}  // namespace userstack::tcp
