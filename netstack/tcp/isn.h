// What must not be guessed: initial sequence numbers (RFC 6528), timestamp offsets (RFC 7323 7.1),
// SYN cookies.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

// RFC 6528 3: a clock of 4 us ticks plus a keyed hash of the tuple.
SeqNum InitialSequence(const Context& context, const Tuple& tuple, Instant now);
// One offset per pair of addresses, so that timestamps of successive connections between two hosts
// keep rising (RFC 6191 needs it).
uint32_t TimestampOffset(const Context& context, const Tuple& tuple);

// RFC 4987 3.6. The cookie is an ISS that holds the MSS's index and proves that we sent it; what
// else the SYN offered travels in the low bits of our timestamp.
SeqNum MakeCookie(const Context& context, const Tuple& tuple, SeqNum peer_initial, uint16_t mss,
                  Instant now);
// False when `cookie` is none of ours or too old; else *mss is the MSS to assume.
bool CheckCookie(const Context& context, const Tuple& tuple, SeqNum peer_initial, SeqNum cookie,
                 Instant now, uint16_t* mss);

}  // namespace userstack::tcp
