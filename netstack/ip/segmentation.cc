// Segmentation in software: a large TCP or UDP frame for a device that does not cut it (what Linux
// calls GSO). Transports keep segments whole for as long as possible; this is the last place before
// the wire. Segments share the frame's slices.
#include <algorithm>

#include "netstack/ip/ip.h"
#include "netstack/wire/tcp.h"

namespace userstack {

bool Ip::NeedsCutting(const Frame& frame, const Interface& interface) {
  switch (frame.offload.segmentation) {
    case SegmentationType::kNone:
    case SegmentationType::kUdpFragment:  // only ever asked of a device that does it
      return false;
    case SegmentationType::kTcpV4:
      return frame.length() > std::max(interface.device.tcp_segmentation_max,
                                       interface.device.host_segmentation_max);
    case SegmentationType::kTcpV6:
      return frame.length() > interface.device.tcp_segmentation_max;
    case SegmentationType::kUdpSegment:
      return !interface.device.udp_segmentation;
  }
  return false;
}

// Headers of one segment, copied from the whole: lengths, sequence number, flags, and the pseudo
// header's sum. `segment` begins with its network header; `position` is that of its payload.
void Ip::FinishSegment(Frame* segment, uint32_t index, uint32_t position, bool last) {
  uint8_t* network = segment->header();
  const uint32_t transport_at = segment->offload.checksum_start;
  const uint32_t transport_length = segment->length() - transport_at;
  uint8_t* transport = network + transport_at;
  const bool v4 = network[0] >> 4 == 4;
  IpAddress source;
  IpAddress destination;
  uint8_t protocol = wire::kProtocolTcp;
  if (v4) {
    source = IpAddress::V4FromBytes(network + 12);
    destination = IpAddress::V4FromBytes(network + 16);
    Store16(network + 2, static_cast<uint16_t>(segment->length()));
    Store16(network + 4, static_cast<uint16_t>(Load16(network + 4) + index));
    Store16(network + 10, 0);
    ChecksumAccumulator sum;
    sum.Add(network, transport_at);
    Store16(network + 10, sum.Checksum());
  } else {
    source = IpAddress::V6FromBytes(network + 8);
    destination = IpAddress::V6FromBytes(network + 24);
    Store16(network + 4, static_cast<uint16_t>(segment->length() - wire::kIpv6HeaderBytes));
  }
  if (segment->offload.segmentation == SegmentationType::kUdpSegment) {
    protocol = wire::kProtocolUdp;
    Store16(transport + 4, static_cast<uint16_t>(transport_length));
  } else {
    Store32(transport + 4, Load32(transport + 4) + position);
    // RFC 3168 6.1.2: CWR once. FIN and PSH belong to the last byte.
    if (index > 0) transport[13] &= static_cast<uint8_t>(~wire::kTcpCwr);
    if (!last) transport[13] &= static_cast<uint8_t>(~(wire::kTcpFin | wire::kTcpPush));
  }
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(source, destination, protocol, transport_length);
  Store16(transport + segment->offload.checksum_offset, pseudo.Sum());
  segment->offload.segmentation = SegmentationType::kNone;
  segment->offload.checksum_needed = true;
}

// `frame` begins with its network header. Takes it.
Status Ip::EnqueueSegments(Frame* frame, Interface& interface, const MacAddress& destination,
                           uint16_t ether_type) {
  const uint32_t header = frame->offload.header_length;
  const uint32_t size = frame->offload.segment_size;
  if (header > frame->header_length() || size == 0) return Refuse(frame, EINVAL);
  const uint32_t total = frame->length() - header;
  Status result = Status::Ok();
  uint32_t index = 0;
  for (uint32_t position = 0; position < total && result.ok(); position += size) {
    const uint32_t length = std::min(size, total - position);
    const bool last = position + length == total;
    Frame* segment =
        CutFrame(*frame, header + position, length, header + wire::kEthernetHeaderBytes);
    if (segment == nullptr) {
      result = Status(ENOBUFS);
      break;
    }
    std::memcpy(segment->Prepend(static_cast<uint16_t>(header)), frame->header(), header);
    segment->offload = frame->offload;
    FinishSegment(segment, index++, position, last);
    if (last) frame->MoveChargeTo(segment);
    result = Enqueue(segment, interface, destination, ether_type);
  }
  core_->frames.Release(frame);
  return result;
}

}  // namespace userstack
