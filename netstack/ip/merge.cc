// What is merged is what TCP may treat as one segment without seeing a difference: in order, only
// ACK set (PSH ends it), headers alike but for length, identification and checksums, and those
// right. So nothing that a rule of RFC 9293, 7323, 3168 or 5961 looks at is lost: no SYN, FIN, RST,
// URG, ECE or CWR, no other options, window, acknowledgment or ECN codepoint. Only neighbours are
// merged: order is that of arrival.
#include "netstack/ip/merge.h"

#include <algorithm>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/checksum.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/ipv4.h"
#include "netstack/wire/ipv6.h"
#include "netstack/wire/tcp.h"

namespace userstack {
namespace {

constexpr uint32_t kNetwork = wire::kEthernetHeaderBytes;
constexpr uint32_t kLongestPacket = 65535;

// Where the headers of a packet that may be merged end.
struct Layout {
  bool v4 = false;
  uint32_t transport = 0;  // from data()
  uint32_t payload = 0;    // likewise
};

// False: not a TCP segment with payload that may be merged, whatever the others are.
bool Examine(const Core& core, const Packet& packet, Layout* layout) {
  constexpr uint32_t kLeast = kNetwork + wire::kIpv4HeaderBytes + wire::kTcpHeaderBytes;
  if (packet.slice_count == 0 || packet.contiguous() < kLeast || packet.looped ||
      packet.offload.segmentation != SegmentationType::kNone) {
    return false;
  }
  // Text in a program's memory stays one segment (packet/landing.h).
  if (packet.slices[packet.slice_count - 1].buffer == &core.landing.buffer) return false;
  const uint8_t* frame = packet.data();
  const uint8_t* network = frame + kNetwork;
  const uint16_t type = Load16(frame + 12);
  layout->v4 = type == wire::kEtherTypeIpv4;
  if (layout->v4) {
    constexpr uint8_t kWithoutOptions = 0x45;
    constexpr uint16_t kFragment = 0x3fff;  // more of them, or an offset
    layout->transport = kNetwork + wire::kIpv4HeaderBytes;
    if (network[0] != kWithoutOptions || (Load16(network + 6) & kFragment) != 0 ||
        network[9] != wire::kProtocolTcp || Load16(network + 2) + kNetwork != packet.length) {
      return false;
    }
  } else {
    layout->transport = kNetwork + wire::kIpv6HeaderBytes;
    if (type != wire::kEtherTypeIpv6 || packet.contiguous() < kLeast + 20 || network[0] >> 4 != 6 ||
        network[6] != wire::kProtocolTcp ||
        Load16(network + 4) + layout->transport != packet.length) {
      return false;
    }
  }
  const uint8_t* tcp = frame + layout->transport;
  const uint32_t header = (tcp[12] >> 4) * 4u;
  layout->payload = layout->transport + header;
  return header >= wire::kTcpHeaderBytes && layout->payload < packet.contiguous() &&
         (tcp[13] & ~wire::kTcpPush) == wire::kTcpAck;
}

bool Same(const uint8_t* a, const uint8_t* b, uint32_t from, uint32_t to) {
  return std::memcmp(a + from, b + from, to - from) == 0;
}

// Whether the headers of `b` are those of `a`, `distance` bytes further on in the stream.
bool Continues(const Packet& first, const Packet& next, const Layout& layout, uint32_t distance) {
  const uint8_t* a = first.data();
  const uint8_t* b = next.data();
  const uint8_t* tcp = a + layout.transport;
  // The ports, then the rest of it: most that do not belong together differ there.
  if (!Same(tcp, b + layout.transport, 0, 4) ||
      Load32(b + layout.transport + 4) != Load32(tcp + 4) + distance) {
    return false;
  }
  // Acknowledgment and length of the header; window; options. Flags were looked at.
  if (!Same(tcp, b + layout.transport, 8, 13) || !Same(tcp, b + layout.transport, 14, 16) ||
      !Same(tcp, b + layout.transport, wire::kTcpHeaderBytes, layout.payload - layout.transport)) {
    return false;
  }
  if (!Same(a, b, 0, kNetwork)) return false;
  const uint8_t* p = a + kNetwork;
  const uint8_t* q = b + kNetwork;
  if (!layout.v4) return Same(p, q, 0, 4) && Same(p, q, 6, wire::kIpv6HeaderBytes);
  // TOS; DF, TTL and protocol; addresses.
  return p[1] == q[1] && Same(p, q, 6, 10) && Same(p, q, 12, wire::kIpv4HeaderBytes);
}

// Notes a right checksum of TCP, so that it is not summed again.
bool IsSound(Packet& packet, const Layout& layout) {
  const uint8_t* network = packet.data() + kNetwork;
  if (layout.v4) {
    ChecksumAccumulator sum;
    sum.Add(network, wire::kIpv4HeaderBytes);
    if (sum.Checksum() != 0) return false;
  }
  if (packet.offload.checksum_verified || packet.offload.checksum_needed) return true;
  const IpAddress source =
      layout.v4 ? IpAddress::V4FromBytes(network + 12) : IpAddress::V6FromBytes(network + 8);
  const IpAddress destination =
      layout.v4 ? IpAddress::V4FromBytes(network + 16) : IpAddress::V6FromBytes(network + 24);
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(source, destination, wire::kProtocolTcp, packet.length - layout.transport);
  sum.Add(packet.data() + layout.transport, packet.contiguous() - layout.transport);
  for (unsigned i = 1; i < packet.slice_count; ++i) {
    sum.Add(packet.slices[i].data(), packet.slices[i].length);
  }
  packet.offload.checksum_verified = sum.Checksum() == 0;
  return packet.offload.checksum_verified;
}

void Append(Core& core, Packet* first, Packet* next, uint32_t headers) {
  next->Pull(headers);
  first->length += next->length;
  std::copy_n(next->slices, next->slice_count, first->slices + first->slice_count);
  first->slice_count = static_cast<uint8_t>(first->slice_count + next->slice_count);
  next->slice_count = 0;
  core.packets.Release(next);
}

// The headers of what several have become.
void Finish(Packet* packet, const Layout& layout, uint32_t unit) {
  uint8_t* network = packet->data() + kNetwork;
  if (layout.v4) {
    Store16(network + 2, static_cast<uint16_t>(packet->length - kNetwork));
    Store16(network + 10, 0);
    ChecksumAccumulator sum;
    sum.Add(network, wire::kIpv4HeaderBytes);
    Store16(network + 10, sum.Checksum());
  } else {
    Store16(network + 4, static_cast<uint16_t>(packet->length - layout.transport));
  }
  Offload& offload = packet->offload;
  offload.checksum_needed = false;
  offload.checksum_verified = true;
  offload.segmentation = layout.v4 ? SegmentationType::kTcpV4 : SegmentationType::kTcpV6;
  offload.segment_size = static_cast<uint16_t>(unit);
  offload.header_length = static_cast<uint16_t>(layout.payload);
}

}  // namespace

size_t MergeSegments(Core& core, Packet* const* packets, size_t count) {
  Packet* const first = packets[0];
  Layout layout;
  if (count < 2 || !Examine(core, *first, &layout)) return 1;
  uint8_t& flags = first->data()[layout.transport + 13];
  const uint32_t unit = first->length - layout.payload;
  size_t merged = 1;
  uint32_t last = unit;
  // A short segment ends it, as one with PSH does: the sender had no more.
  for (; merged < count && last == unit && (flags & wire::kTcpPush) == 0; ++merged) {
    Packet* next = packets[merged];
    Layout other;
    if (!Examine(core, *next, &other) || other.v4 != layout.v4 || other.payload != layout.payload)
      break;
    if (!Continues(*first, *next, layout, first->length - layout.payload)) break;
    last = next->length - other.payload;
    if (last > unit || first->length + last > kLongestPacket ||
        first->slice_count + next->slice_count > kMaxSlices) {
      break;
    }
    if ((merged == 1 && !IsSound(*first, layout)) || !IsSound(*next, layout)) break;
    flags |= next->data()[layout.transport + 13];
    core.counters.Add(Counter::kDeviceInFrames);
    core.counters.Add(Counter::kDeviceInBytes, layout.payload);
    Append(core, first, next, layout.payload);
  }
  if (merged > 1) Finish(first, layout, unit);
  return merged;
}

}  // namespace userstack
