// Encoding and checked decoding of the virtio-net header.
#include "backend/virtio.h"

#include <cstring>

#include "netstack/base/byte_order.h"

namespace userstack::backend {
namespace {

constexpr uint8_t kFlagNeedsChecksum = 1;
constexpr uint8_t kFlagDataValid = 2;
constexpr uint8_t kTypeNone = 0;
constexpr uint8_t kTypeTcpV4 = 1;
constexpr uint8_t kTypeUdpFragment = 3;
constexpr uint8_t kTypeTcpV6 = 4;
constexpr uint8_t kTypeUdpSegment = 5;
constexpr uint8_t kTypeEcn = 0x80;

constexpr size_t kEthernetBytes = 14;
constexpr size_t kVlanBytes = 4;
constexpr uint16_t kEtherTypeIpv4 = 0x0800;
constexpr uint16_t kEtherTypeIpv6 = 0x86dd;
constexpr uint16_t kEtherTypeVlan = 0x8100;
constexpr uint8_t kProtocolTcp = 6;
constexpr uint8_t kProtocolUdp = 17;
constexpr size_t kTcpHeaderBytes = 20;
constexpr size_t kUdpHeaderBytes = 8;

uint16_t LoadNative16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
void StoreNative16(uint8_t* p, uint16_t v) { std::memcpy(p, &v, sizeof v); }

uint8_t EncodeType(SegmentationType type) {
  switch (type) {
    case SegmentationType::kNone:
      return kTypeNone;
    case SegmentationType::kTcpV4:
      return kTypeTcpV4;
    case SegmentationType::kTcpV6:
      return kTypeTcpV6;
    case SegmentationType::kUdpFragment:
      return kTypeUdpFragment;
    case SegmentationType::kUdpSegment:
      return kTypeUdpSegment;
  }
  return kTypeNone;
}

std::optional<SegmentationType> DecodeType(uint8_t type) {
  const auto kind = static_cast<uint8_t>(type & ~kTypeEcn);
  if (kind == kTypeNone && type == kTypeNone) return SegmentationType::kNone;
  if (kind == kTypeTcpV4) return SegmentationType::kTcpV4;
  if (kind == kTypeTcpV6) return SegmentationType::kTcpV6;
  if (kind == kTypeUdpFragment) return SegmentationType::kUdpFragment;
  if (kind == kTypeUdpSegment) return SegmentationType::kUdpSegment;
  return std::nullopt;
}

struct Location {
  Family family = Family::kIpv4;
  uint8_t protocol = 0;
  size_t transport = 0;  // offset from the Ethernet header
};

// Extension headers stay where they are: what needs to look past them drops the frame, because no
// sender of segments puts any.
std::optional<Location> Locate(const uint8_t* frame, size_t contiguous) {
  size_t network = kEthernetBytes;
  if (contiguous < network) return std::nullopt;
  uint16_t type = Load16(frame + 12);
  if (type == kEtherTypeVlan) {
    network += kVlanBytes;
    if (contiguous < network) return std::nullopt;
    type = Load16(frame + network - 2);
  }
  if (type == kEtherTypeIpv4) {
    if (contiguous < network + 20) return std::nullopt;
    const size_t header = size_t{4} * (frame[network] & 0x0f);
    if (header < 20) return std::nullopt;
    return Location{Family::kIpv4, frame[network + 9], network + header};
  }
  if (type == kEtherTypeIpv6) {
    if (contiguous < network + 40) return std::nullopt;
    return Location{Family::kIpv6, frame[network + 6], network + 40};
  }
  return std::nullopt;
}

bool Fits(SegmentationType type, const Location& at) {
  switch (type) {
    case SegmentationType::kNone:
      return true;
    case SegmentationType::kTcpV4:
      return at.protocol == kProtocolTcp && at.family == Family::kIpv4;
    case SegmentationType::kTcpV6:
      return at.protocol == kProtocolTcp && at.family == Family::kIpv6;
    case SegmentationType::kUdpFragment:
    case SegmentationType::kUdpSegment:
      return at.protocol == kProtocolUdp;
  }
  return false;
}

}  // namespace

VirtioHeader EncodeVirtioHeader(const Offload& offload) {
  VirtioHeader header{};
  if (offload.checksum_needed) {
    header[0] = kFlagNeedsChecksum;
    StoreNative16(&header[6], offload.checksum_start);
    StoreNative16(&header[8], offload.checksum_offset);
  }
  if (offload.segmentation != SegmentationType::kNone) {
    header[1] = EncodeType(offload.segmentation);
    StoreNative16(&header[2], offload.header_length);
    StoreNative16(&header[4], offload.segment_size);
  }
  return header;
}

std::optional<Offload> DecodeVirtioHeader(const VirtioHeader& header, const uint8_t* frame,
                                          size_t contiguous, size_t length) {
  if (length < kEthernetBytes || contiguous > length) return std::nullopt;
  Offload offload;
  if ((header[0] & kFlagNeedsChecksum) != 0) {
    // The kernel skipped the checksum because the bytes never left this machine: it vouches for
    // them.
    offload.checksum_needed = true;
    offload.checksum_verified = true;
    offload.checksum_start = LoadNative16(&header[6]);
    offload.checksum_offset = LoadNative16(&header[8]);
    if (offload.checksum_start < kEthernetBytes) return std::nullopt;
    const size_t end = size_t{offload.checksum_start} + offload.checksum_offset + 2;
    if (end > contiguous) return std::nullopt;
  } else if ((header[0] & kFlagDataValid) != 0) {
    offload.checksum_verified = true;
  }

  const std::optional<SegmentationType> type = DecodeType(header[1]);
  if (!type) return std::nullopt;
  if (*type == SegmentationType::kNone) return offload;
  offload.segmentation = *type;
  offload.segment_size = LoadNative16(&header[4]);
  const std::optional<Location> at = Locate(frame, contiguous);
  if (offload.segment_size == 0 || !at || !Fits(*type, *at)) return std::nullopt;
  size_t end = at->transport;
  if (at->protocol == kProtocolTcp) {
    if (contiguous < end + kTcpHeaderBytes) return std::nullopt;
    const size_t tcp_header = size_t{4} * (frame[end + 12] >> 4);
    if (tcp_header < kTcpHeaderBytes) return std::nullopt;
    end += tcp_header;
  } else {
    end += kUdpHeaderBytes;
  }
  if (end > contiguous) return std::nullopt;
  offload.header_length = static_cast<uint16_t>(end);
  return offload;
}

}  // namespace userstack::backend
