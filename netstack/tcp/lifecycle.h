// Birth and death of connections: entering and leaving the tables, ESTABLISHED, CLOSED, TIME_WAIT,
// and when the record itself goes back to its pool.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

// nullptr when the pool is exhausted.
Connection* NewConnection(Context& context, Family family);
uint64_t HashOf(const Context& context, const Tuple& tuple);
void InsertIntoTable(Context& context, Connection& c);
// `hash` is HashOf the tuple, here and in the other tables by tuple.
Connection* FindConnection(const Context& context, const Tuple& tuple, uint64_t hash);

// The handshake is complete: buffers, window, timers, congestion control start.
void Establish(Context& context, Connection& c, Instant now);
// The device's queue that it had of its own is nobody's.
void ReturnDeviceQueue(Context& context, Connection& c);
// To CLOSED at once, without a word to the peer: out of the tables, timers off, send queue gone.
// What was received stays readable. `error` becomes SO_ERROR (0: none).
void Finish(Context& context, Connection& c, int error, Instant now);
// Finish, with a RST to the peer.
void Abort(Context& context, Connection& c, int error, Instant now);
// Both directions are done: a TimeWait record takes over and the Connection becomes CLOSED.
void EnterTimeWait(Context& context, Connection& c, Instant now);
// An orphan in FIN-WAIT-2 leaves a compact record behind too (Linux: tcp_time_wait).
void EnterFinWait2AsOrphan(Context& context, Connection& c, Instant now);
// Gives the record back when it is CLOSED and nobody holds it. Every entry point ends with it; `c`
// may be gone afterwards.
void ReleaseIfDone(Context& context, Connection& c);

}  // namespace userstack::tcp
