// Local ports: who is bound to which, whether two may share one (Linux: inet_csk_bind_conflict),
// and how a free one is chosen (RFC 6056 algorithm 4 for connect; random for bind).
//
// Invariants: 1. A bucket exists while it has an owner or a TimeWait. 2. Connection::port is set
// exactly while port_node is on that bucket's owners.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

PortBucket* FindPort(const Context& context, uint16_t number);
// Binds to `number`, or to a free port when it is 0. EADDRINUSE, ENOBUFS.
Status BindPort(Context& context, Connection& c, uint16_t number);
// Chooses a local port such that the connection's tuple is unique (tuple.local and .remote are
// set). EADDRNOTAVAIL, ENOBUFS.
Status ChooseConnectPort(Context& context, Connection& c, Instant now);
// True when the tuple may be used for a new connection; a TimeWait that may give way does so
// (RFC 6191). *replaced_next gets the sequence number from which to go on, when there was one.
bool ClaimTuple(Context& context, Connection& c, const Tuple& tuple, Instant now);
// May a listener start on the connection's port? (Linux binds again at listen.)
bool MayListen(const Connection& c);
// Shares `from`'s port (a child and its listener).
void SharePort(Context& context, Connection& c, PortBucket* bucket);
void ReleasePort(Context& context, Connection& c);
void ReleaseBucketIfUnused(Context& context, PortBucket* bucket);

}  // namespace userstack::tcp
