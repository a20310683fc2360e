// Reading a segment off a packet, and cutting it to the window.
#include "netstack/tcp/segment.h"

#include <algorithm>

#include "netstack/base/checksum.h"
#include "netstack/tcp/context.h"
#include "netstack/tcp/packets.h"

namespace userstack::tcp {
namespace {

constexpr uint8_t kTcpProtocol = 6;

bool ChecksumIsRight(const Packet& packet) {
  if (packet.offload.checksum_verified || packet.offload.checksum_needed) return true;
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(packet.ip.source, packet.ip.destination, kTcpProtocol, packet.length);
  for (unsigned i = 0; i < packet.slice_count; ++i) {
    sum.Add(packet.slices[i].data(), packet.slices[i].length);
  }
  return sum.Checksum() == 0;
}

}  // namespace

bool ParseSegment(Context& context, Packet* packet, Segment* segment) {
  Counters& counters = context.core->counters;
  counters.Add(Counter::kTcpInSegments);
  wire::TcpHeader header;
  if (!wire::ParseTcpHeader(packet->data(), packet->contiguous(), &header)) {
    counters.Add(Counter::kTcpInErrors);
    return false;
  }
  if (!ChecksumIsRight(*packet)) {
    counters.Add(Counter::kTcpInErrors);
    counters.Add(Counter::kTcpChecksumErrors);
    return false;
  }
  // Linux: a malformed option list ends at the fault; what came before it stands.
  (void)wire::ParseTcpOptions(packet->data() + wire::kTcpHeaderBytes,
                              header.header_length - wire::kTcpHeaderBytes, &segment->options);
  packet->Pull(header.header_length);
  segment->packet = packet;
  segment->sequence = header.sequence;
  segment->acknowledgment = header.acknowledgment;
  segment->length = packet->length;
  segment->window = header.window;
  // Linux (and everybody, RFC 6093 3.1): the pointer is one past the urgent byte.
  segment->urgent =
      header.sequence + (header.urgent_pointer == 0 ? 0u : header.urgent_pointer - 1u);
  segment->unit = packet->offload.segmentation == SegmentationType::kNone
                      ? uint16_t{0}
                      : packet->offload.segment_size;
  segment->flags = header.flags;
  segment->arrival = packet->arrival;
  segment->tuple = {packet->ip.destination, packet->ip.source, header.destination_port,
                    header.source_port};
  segment->interface = packet->ip.interface;
  return true;
}

void TrimFront(Context& context, Segment& segment, uint32_t n) {
  if (n == 0) return;
  if (segment.Has(wire::kTcpSyn)) {
    segment.flags &= static_cast<uint8_t>(~wire::kTcpSyn);
    segment.sequence = segment.sequence + 1;
    --n;
  }
  n = std::min(n, segment.length);
  DropFront(*context.core, segment.packet, n);
  segment.sequence = segment.sequence + n;
  segment.length -= n;
}

void TrimBack(Context& context, Segment& segment, uint32_t n) {
  segment.flags &= static_cast<uint8_t>(~wire::kTcpFin);
  if (segment.length <= n) return;
  context.core->packets.Trim(segment.packet, n);
  segment.length = n;
}

}  // namespace userstack::tcp
