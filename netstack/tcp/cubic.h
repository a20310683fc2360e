// CUBIC (RFC 9438), with windows in bytes and integers only, and HyStart's delay test to leave slow
// start before the queue overflows (RFC 9406 4.2).
#pragma once

#include "netstack/tcp/congestion.h"

namespace userstack::tcp {

void CubicAvoid(Congestion& c, const AckSample& sample, uint64_t bytes, uint32_t mss);
// Fast convergence (RFC 9438 4.7) and the multiplicative decrease (4.6).
uint64_t CubicReduce(Congestion& c, uint32_t mss);
// Looks for rising delay in slow start; sets the threshold when it is found.
void CubicHyStart(Congestion& c, const AckSample& sample, uint32_t mss);

// RFC 9438 equation 2, in ns: the time to grow from `window_at_epoch` back to `maximum_window`.
int64_t CubicK(uint64_t maximum_window, uint64_t window_at_epoch, uint32_t mss);
// RFC 9438 equation 1: the window in bytes at `t` ns after the epoch's start.
uint64_t CubicWindow(uint64_t maximum_window, int64_t k_nanoseconds, int64_t t, uint32_t mss);
// The integer cube root, rounded down.
uint64_t CubeRoot(unsigned __int128 x);

}  // namespace userstack::tcp
