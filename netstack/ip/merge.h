// Merging what arrives: the reverse of segmentation (Linux: GRO). Small segments of one flow that
// one look took off a device become one packet as a device with large receive would deliver it, so
// that all that is done once a packet is done once for several.
#pragma once

#include <cstddef>

#include "netstack/packet/core.h"

namespace userstack {

// Whether asking is worth it: large segments come merged, and small ones are requests.
inline bool MayContinue(const Packet& first, const Packet& next) {
  constexpr uint32_t kLeast = 512;
  return first.length >= kLeast && next.length <= first.length &&
         first.offload.segmentation == SegmentationType::kNone;
}

// Appends to packets[0], link header in front, those of packets[1] .. packets[count - 1] that
// continue it, and releases them. Returns for how many packets, 1 or more, packets[0] stands now.
size_t MergeSegments(Core& core, Packet* const* packets, size_t count);

}  // namespace userstack
