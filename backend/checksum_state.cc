// What a frame says of its own checksum. Nothing in it is believed before it is measured.
#include "backend/checksum_state.h"

#include "netstack/base/byte_order.h"
#include "netstack/base/checksum.h"

namespace userstack::backend {
namespace {

constexpr uint32_t kEthernet = 14;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

struct Transport {
  uint8_t protocol = 0;
  uint32_t start = 0;
  uint32_t length = 0;  // of header and payload
  IpAddress source;
  IpAddress destination;
};

// False: no whole IP packet whose transport header is right behind the network header.
bool FindTransport(const uint8_t* bytes, uint32_t size, uint32_t total, Transport* out) {
  if (size < kEthernet + 28) return false;
  const uint8_t* ip = bytes + kEthernet;
  uint32_t end = 0;
  if (Load16(bytes + 12) == 0x0800) {
    const uint32_t header = (ip[0] & 15u) * 4;
    const bool fragment = (Load16(ip + 6) & 0x3fff) != 0;
    if (ip[0] >> 4 != 4 || header < 20 || fragment) return false;
    out->protocol = ip[9];
    out->source = IpAddress::V4FromBytes(ip + 12);
    out->destination = IpAddress::V4FromBytes(ip + 16);
    out->start = kEthernet + header;
    end = kEthernet + Load16(ip + 2);
  } else if (Load16(bytes + 12) == 0x86dd && size >= kEthernet + 40) {
    out->protocol = ip[6];
    out->source = IpAddress::V6FromBytes(ip + 8);
    out->destination = IpAddress::V6FromBytes(ip + 24);
    out->start = kEthernet + 40;
    end = out->start + Load16(ip + 4);
  } else {
    return false;
  }
  if (end > total || end < out->start) return false;
  out->length = end - out->start;
  return out->start + (out->protocol == kTcp ? 20 : 8) <= size;
}

}  // namespace

void FindPartialChecksum(Packet& packet, uint32_t mtu) {
  const uint8_t* bytes = packet.data();
  Transport transport;
  if (!FindTransport(bytes, packet.contiguous(), packet.length, &transport)) return;
  const bool tcp = transport.protocol == kTcp;
  if (!tcp && transport.protocol != kUdp) return;
  const uint32_t field = tcp ? 16 : 6;
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(transport.source, transport.destination, transport.protocol,
                         transport.length);
  if (Load16(bytes + transport.start + field) != pseudo.Sum()) return;
  Offload& offload = packet.offload;
  offload.checksum_needed = true;
  offload.checksum_start = static_cast<uint16_t>(transport.start);
  offload.checksum_offset = static_cast<uint16_t>(field);
  if (!tcp || packet.length <= mtu + kEthernet) return;
  const uint32_t header = transport.start + (bytes[transport.start + 12] >> 4) * 4u;
  if (header >= mtu + kEthernet || header > packet.contiguous()) return;
  offload.segmentation =
      transport.source.is_v4() ? SegmentationType::kTcpV4 : SegmentationType::kTcpV6;
  offload.segment_size = static_cast<uint16_t>(mtu + kEthernet - header);
  offload.header_length = static_cast<uint16_t>(header);
}

}  // namespace userstack::backend
