// Frames that come without a word about their checksum, from wires that may leave it unfinished.
#pragma once

#include <cstdint>

#include "netstack/packet/packet.h"

namespace userstack::backend {

// A veth pair carries what its other side's kernel has left to the hardware: TCP and UDP with only
// the pseudo-header's sum in the checksum field, in segments longer than the MTU. When the field
// holds exactly that, the packet's offload says so, as a virtio header would. A damaged frame looks
// like this once in 65536, which is what the checksum itself lets through.
void FindPartialChecksum(Packet& packet, uint32_t mtu);

}  // namespace userstack::backend
