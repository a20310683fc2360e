// The invariants of one connection, for tests and debug builds.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

// Fails a Check when one is broken.
void CheckConnection(const Context& context, const Connection& c);
// *examined: the connection that is being looked at.
void CheckTables(const Context& context, const Connection** examined);

}  // namespace userstack::tcp
