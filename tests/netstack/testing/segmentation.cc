// Segmentation, fragmentation and merging of WireFrames: the work of a device and of a router.
#include <algorithm>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack::testing {
namespace {

constexpr uint8_t kFin = 1, kPsh = 8, kUrg = 32, kCwr = 128;

void SetNetworkLength(std::vector<uint8_t>* b, const FrameLayout& layout) {
  const auto total = static_cast<uint32_t>(b->size()) - layout.network;
  if (layout.is_v6) {
    Store16(&(*b)[layout.network + 4], static_cast<uint16_t>(total - 40));
  } else {
    Store16(&(*b)[layout.network + 2], static_cast<uint16_t>(total));
  }
}

std::vector<WireFrame> SegmentTcp(const WireFrame& frame, const FrameLayout& layout) {
  const std::vector<uint8_t>& b = frame.bytes;
  const uint32_t tcp = layout.transport;
  const uint32_t headers = tcp + (b[tcp + 12] >> 4) * 4u;
  Check(frame.offload.header_length == headers, "offload: header_length is not the headers'");
  Check((b[tcp + 13] & kUrg) == 0, "offload: urgent data in a large segment");
  const uint32_t size = frame.offload.segment_size;
  std::vector<WireFrame> out;
  for (uint32_t at = headers; at < b.size(); at += size) {
    const uint32_t n = std::min<uint32_t>(size, static_cast<uint32_t>(b.size()) - at);
    const bool last = at + n == b.size();
    WireFrame segment;
    segment.bytes.reserve(headers + n);
    segment.bytes.assign(b.begin(), b.begin() + headers);
    segment.bytes.insert(segment.bytes.end(), b.begin() + at, b.begin() + at + n);
    uint8_t* header = &segment.bytes[tcp];
    Store32(header + 4, Load32(header + 4) + (at - headers));
    if (!last) header[13] &= static_cast<uint8_t>(~(kFin | kPsh));
    if (at != headers) header[13] &= static_cast<uint8_t>(~kCwr);
    SetNetworkLength(&segment.bytes, layout);
    if (!layout.is_v6) {
      uint8_t* id = &segment.bytes[layout.network + 4];
      Store16(id, static_cast<uint16_t>(Load16(id) + out.size()));
    }
    FixChecksums(&segment.bytes);
    out.push_back(std::move(segment));
  }
  return out;
}

std::vector<WireFrame> SegmentUdp(const WireFrame& frame, const FrameLayout& layout) {
  const std::vector<uint8_t>& b = frame.bytes;
  const uint32_t headers = layout.transport + 8;
  const uint32_t size = frame.offload.segment_size;
  std::vector<WireFrame> out;
  for (uint32_t at = headers; at < b.size(); at += size) {
    const uint32_t n = std::min<uint32_t>(size, static_cast<uint32_t>(b.size()) - at);
    WireFrame segment;
    segment.bytes.assign(b.begin(), b.begin() + headers);
    segment.bytes.insert(segment.bytes.end(), b.begin() + at, b.begin() + at + n);
    Store16(&segment.bytes[layout.transport + 4], static_cast<uint16_t>(n + 8));
    SetNetworkLength(&segment.bytes, layout);
    FixChecksums(&segment.bytes);
    out.push_back(std::move(segment));
  }
  return out;
}

}  // namespace

std::vector<WireFrame> Segment(const WireFrame& frame) {
  std::vector<WireFrame> out;
  if (frame.offload.segmentation == SegmentationType::kNone) {
    out.push_back(frame);
    FinishChecksum(&out.back());
    out.back().offload = {};
    return out;
  }
  FrameLayout layout;
  Check(ParseLayout(frame.bytes, &layout), "offload: segmentation of a malformed packet");
  Check(frame.offload.segment_size > 0, "offload: segment_size is zero");
  Check(frame.offload.checksum_needed, "offload: segmentation without checksum_needed");
  switch (frame.offload.segmentation) {
    case SegmentationType::kTcpV4:
    case SegmentationType::kTcpV6:
      Check(layout.protocol == 6, "offload: TSO of a packet that is not TCP");
      Check(layout.is_v6 == (frame.offload.segmentation == SegmentationType::kTcpV6),
            "offload: TSO of the wrong family");
      return SegmentTcp(frame, layout);
    case SegmentationType::kUdpSegment:
      Check(layout.protocol == 17, "offload: USO of a packet that is not UDP");
      return SegmentUdp(frame, layout);
    case SegmentationType::kUdpFragment: {
      Check(layout.protocol == 17, "offload: UFO of a packet that is not UDP");
      WireFrame whole = frame;
      FinishChecksum(&whole);
      whole.offload = {};
      const uint32_t header = layout.transport - layout.network;
      const uint32_t mtu = header + (layout.is_v6 ? 8 : 0) + frame.offload.segment_size;
      return Fragment(whole, mtu, 0x55aa);
    }
    case SegmentationType::kNone:
      break;
  }
  return out;
}

std::vector<WireFrame> Fragment(const WireFrame& frame, uint32_t mtu, uint32_t identification) {
  FrameLayout layout;
  std::vector<WireFrame> out;
  const std::vector<uint8_t>& b = frame.bytes;
  if (!ParseLayout(b, &layout) || layout.end - layout.network <= mtu) {
    out.push_back(frame);
    return out;
  }
  const uint32_t header = layout.is_v6 ? 40 : (b[layout.network] & 15) * 4u;
  const uint32_t body = layout.network + header;
  const uint32_t extra = layout.is_v6 ? 8 : 0;
  const uint32_t step = (mtu - header - extra) & ~7u;
  for (uint32_t at = body; at < layout.end; at += step) {
    const uint32_t n = std::min(step, layout.end - at);
    const bool more = at + n < layout.end;
    WireFrame fragment;
    fragment.bytes.assign(b.begin(), b.begin() + body);
    uint8_t* ip = &fragment.bytes[layout.network];
    const uint32_t offset = at - body;
    if (layout.is_v6) {
      uint8_t extension[8] = {ip[6], 0, 0, 0, 0, 0, 0, 0};
      Store16(extension + 2, static_cast<uint16_t>(offset | (more ? 1 : 0)));
      Store32(extension + 4, identification);
      ip[6] = 44;
      fragment.bytes.insert(fragment.bytes.end(), extension, extension + 8);
    } else {
      const uint16_t old = Load16(ip + 6);
      const uint32_t flags = (old & 0xe000u & ~0x4000u) | (more ? 0x2000u : 0u);
      Store16(ip + 6, static_cast<uint16_t>(flags | ((old & 0x1fffu) + offset / 8)));
    }
    fragment.bytes.insert(fragment.bytes.end(), b.begin() + at, b.begin() + at + n);
    SetNetworkLength(&fragment.bytes, layout);
    FixChecksums(&fragment.bytes);
    out.push_back(std::move(fragment));
  }
  return out;
}

bool Merge(WireFrame* into, const WireFrame& next) {
  FrameLayout a, c;
  if (!ParseLayout(into->bytes, &a) || !ParseLayout(next.bytes, &c)) return false;
  if (a.protocol != 6 || c.protocol != 6 || a.is_fragment || c.is_fragment) return false;
  if (a.is_v6 != c.is_v6 || a.transport != c.transport) return false;
  if (next.offload.segmentation != SegmentationType::kNone) return false;
  const uint8_t* ta = &into->bytes[a.transport];
  const uint8_t* tc = &next.bytes[c.transport];
  const uint32_t tcp_header = (ta[12] >> 4) * 4u;
  const uint32_t headers = a.transport + tcp_header;
  if (headers >= a.end || headers >= c.end || tcp_header != (tc[12] >> 4) * 4u) return false;
  const uint32_t size_a = a.end - headers, size_c = c.end - headers;
  // Linux's tcp_gro_receive: equal options and ACK, only ACK and PSH, full segments up to the last.
  if (((ta[13] | tc[13]) & ~(16u | kPsh)) != 0 || (ta[13] & kPsh) != 0) return false;
  if (Load32(ta + 4) + size_a != Load32(tc + 4) || Load32(ta + 8) != Load32(tc + 8)) return false;
  if (std::memcmp(ta + 20, tc + 20, tcp_header - 20) != 0) return false;
  if (std::memcmp(ta, tc, 4) != 0 || Load16(ta + 14) != Load16(tc + 14)) return false;
  const uint32_t addresses = a.is_v6 ? 8 : 12, bytes = a.is_v6 ? 32 : 8;
  if (std::memcmp(&into->bytes[a.network + addresses], &next.bytes[c.network + addresses], bytes))
    return false;
  const uint32_t segment =
      into->offload.segmentation == SegmentationType::kNone ? size_a : into->offload.segment_size;
  if (size_a % segment != 0 || size_c > segment) return false;
  if (a.end - a.network + size_c > 65535) return false;
  if (!into->offload.checksum_verified && !ChecksumsAreRight(into->bytes)) return false;
  if (!next.offload.checksum_verified && !ChecksumsAreRight(next.bytes)) return false;
  into->bytes.resize(a.end);
  into->bytes.insert(into->bytes.end(), next.bytes.begin() + headers, next.bytes.begin() + c.end);
  into->bytes[a.transport + 13] |= tc[13];
  into->offload.segmentation = a.is_v6 ? SegmentationType::kTcpV6 : SegmentationType::kTcpV4;
  into->offload.segment_size = static_cast<uint16_t>(segment);
  into->offload.header_length = static_cast<uint16_t>(headers);
  into->offload.checksum_needed = false;
  into->offload.checksum_verified = true;
  SetNetworkLength(&into->bytes, a);
  FixIpv4Checksum(&into->bytes);
  return true;
}

}  // namespace userstack::testing
