// NewReno's window rules (RFC 5681 3.1, with appropriate byte counting as Linux does it).
#pragma once

#include "netstack/tcp/congestion.h"

namespace userstack::tcp {

// Congestion avoidance: one MSS per window of `bytes` acknowledged.
void RenoAvoid(Congestion& c, uint64_t bytes, uint32_t mss);
uint64_t RenoThreshold(const Congestion& c, uint32_t mss);

}  // namespace userstack::tcp
