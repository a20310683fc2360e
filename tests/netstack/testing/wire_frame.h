// WireFrame: a frame as a wire carries it: bytes, and what the sender's device was asked to finish.
// Here is the software half of a device: serialising, checksum completion, segmentation (TSO, USO,
// UFO), merging (as GRO does) and delivery into a stack's packets.
//
// Independent of the code under test: headers are parsed and checksums computed here, not by
// netstack's layers, so that an error made there is not repeated here.
#pragma once

#include <cstdint>
#include <vector>

#include "netstack/packet/core.h"

namespace userstack::testing {

struct WireFrame {
  std::vector<uint8_t> bytes;
  Offload offload;
};

// Where the headers of a frame lie. Zero offsets mean "not there".
struct FrameLayout {
  uint16_t ether_type = 0;
  uint32_t network = 0;    // offset of the IP header
  uint32_t transport = 0;  // offset of the transport header; 0 behind a non-first fragment
  uint32_t end = 0;        // end of the IP packet (link padding excluded)
  uint8_t protocol = 0;    // of the transport header
  bool is_v6 = false;
  bool is_fragment = false;
};
// False when the frame is no well-formed IP packet.
bool ParseLayout(const std::vector<uint8_t>& bytes, FrameLayout* layout);

WireFrame Serialize(const Frame& frame);

// Stores the checksum that offload.checksum_needed left open, and clears the flag.
void FinishChecksum(WireFrame* frame);

// Recomputes the IPv4 header checksum and the TCP, UDP, ICMP, ICMPv6, IGMP checksum of a frame,
// where its headers are well formed. For fuzzers and for links that rewrite a frame.
void FixChecksums(std::vector<uint8_t>* bytes);

// The same for the IPv4 header only; nothing for other frames.
void FixIpv4Checksum(std::vector<uint8_t>* bytes);

// True when all checksums of a well-formed frame are right (a frame that is not IP counts as
// right).
bool ChecksumsAreRight(const std::vector<uint8_t>& bytes);

// The frames that a device makes of one with segmentation, each with its checksums finished.
std::vector<WireFrame> Segment(const WireFrame& frame);

// Cuts the IPv4 or IPv6 packet in `frame` (no offload pending) into fragments of at most `mtu`
// bytes of IP packet.
std::vector<WireFrame> Fragment(const WireFrame& frame, uint32_t mtu, uint32_t identification);

// As GRO: true, and `next` appended to `into`, when both are adjoining segments of one TCP stream
// with right checksums. The merge is marked checksum_verified; its TCP checksum field is stale.
bool Merge(WireFrame* into, const WireFrame& next);

// How Deliver lays bytes out in buffers.
struct DeliveryShape {
  uint32_t offset = 0;       // of the first byte in its buffer
  uint32_t first_slice = 0;  // bytes in slice 0 (0: as many as fit), at least 256
};
// A packet from the stack's own pools, its text in the program's memory where core.landing is open
// and foretells it, or nullptr (counted) when they are exhausted.
Packet* Deliver(Core& core, const WireFrame& frame, uint16_t interface, Instant arrival,
                const DeliveryShape& shape);

}  // namespace userstack::testing
