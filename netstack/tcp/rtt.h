// Round trip time estimation and the retransmission timeout (RFC 6298), with Linux's shape: the
// variance term alone is kept at the minimum RTO, RTO = SRTT + max(200 ms, 4 * RTTVAR).
#pragma once

#include "netstack/tcp/state.h"

namespace userstack::tcp {

void TakeRttSample(Connection& c, Duration sample);
// The timeout with the current back-off.
Duration BackedOffRto(const Connection& c);
// RFC 7323 5.4: our clock ticks in milliseconds.
uint32_t TimestampClock(Instant now, uint32_t offset);

}  // namespace userstack::tcp
