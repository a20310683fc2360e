// Mend: what a process left that was killed in the middle of a change. The lists are whole; tables,
// trees, sums and timers are made anew from them, and a segment or a write that was half done is
// taken for done as far as the lists tell. What cannot be told is given up one connection at a
// time.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

void MendTables(Context& context, const Connection** examined, Instant now);
// CLOSED, with ECONNRESET, whatever the connection looks like. What it had queued is lost to the
// pools; its peer is told when it speaks next.
void CondemnConnection(Context& context, Connection& c);

}  // namespace userstack::tcp
