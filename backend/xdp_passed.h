// What an XDP program passes to the kernel and the stack wants to see as well: frames for everybody
// on the wire. XDP cannot copy a frame, a packet socket behind it can: it has a filter, so that it
// holds nothing but broadcasts (ARP, IPv4) and what is for all nodes (224.0.0.1, ff02::1).
//
// Such a socket is in error once when its interface goes down or away, which wakes who polls it.
#pragma once

#include "backend/system_call.h"
#include "netstack/packet/core.h"

namespace userstack::backend {

// 0 or -errno.
long OpenPassed(unsigned interface, OwnedDescriptor* out);

// The next frame, or nullptr; *lost: because the interface went down or away. A frame that is bad
// or finds no memory is counted and dropped.
Packet* ReceiveCopy(int descriptor, Core& core, uint32_t mtu, bool* lost);

}  // namespace userstack::backend
