// Offload vocabulary, as virtio-net has it (virtio 1.2, 5.1.6): what a device may be asked to
// finish on a frame, and what it says of one that it delivers.
#pragma once

#include <cstdint>

namespace userstack {

enum class SegmentationType : uint8_t {
  kNone,
  kTcpV4,
  kTcpV6,
  kUdpFragment,  // UFO: the receiver of the work cuts one datagram into IP fragments
  kUdpSegment,   // USO: the receiver of the work cuts one buffer into datagrams of gso_size
};

struct Offload {
  // The one's complement sum from checksum_start to the end is still to be stored at checksum_start
  // + checksum_offset; the field holds the pseudo-header's sum. Offsets are from the start of the
  // Ethernet header.
  bool checksum_needed = false;
  bool checksum_verified = false;  // receive only: the device vouches for the transport checksum
  SegmentationType segmentation = SegmentationType::kNone;
  uint16_t segment_size = 0;   // payload bytes of each segment when segmentation != kNone
  uint16_t header_length = 0;  // Ethernet + IP + transport headers when segmentation != kNone
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;
};

}  // namespace userstack
