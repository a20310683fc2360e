// Loss recovery (RFC 5681, 6582, 6675) with proportional rate reduction (RFC 9937): which state the
// connection is in, and what the congestion window is meanwhile.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/scoreboard.h"

namespace userstack::tcp {

// After the scoreboard took an acknowledgment. `duplicate`: it acknowledged nothing new.
void UpdateRecovery(Context& context, Connection& c, AckOutcome* outcome, bool advanced,
                    bool duplicate, Instant now);
// The retransmission timer fired (RFC 5681 3.1, RFC 6675 5.1).
void EnterLoss(Context& context, Connection& c, Instant now);

}  // namespace userstack::tcp
