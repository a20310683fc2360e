// What an ICMP error does to a connection (RFC 5461, RFC 5927): it must quote a segment that is in
// flight; it ends only a connection that is not open yet; path MTU messages lower the MSS and what
// was too large goes again.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

void IcmpErrorArrives(Context& context, const IpAddress& local, const IpAddress& remote,
                      const uint8_t* embedded, uint32_t length, int error, bool hard, uint32_t mtu,
                      Instant now);

}  // namespace userstack::tcp
