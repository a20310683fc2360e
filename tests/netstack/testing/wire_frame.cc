#include "tests/netstack/testing/wire_frame.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"

namespace userstack::testing {
namespace {

constexpr uint8_t kIcmp = 1, kIgmp = 2, kTcp = 6, kUdp = 17, kFragment = 44, kIcmpV6 = 58;
constexpr uint32_t kEthernet = 14;
constexpr unsigned kSmallBuffers = 4;
constexpr uint32_t kSpillCopied = 8192;

// The one's complement sum of big-endian 16-bit words (RFC 1071), not complemented.
uint16_t Sum(const uint8_t* p, size_t length, uint64_t sum = 0) {
  uint64_t words = 0;
  size_t i = 0;
  for (; i + 2 <= length; i += 2) {
    uint16_t w;
    std::memcpy(&w, p + i, 2);
    words += w;
  }
  if (i < length) words += p[i];  // little-endian: the last odd byte is the word's low half
  while (words >> 16) words = (words & 0xffff) + (words >> 16);
  sum += ByteSwap(static_cast<uint16_t>(words));
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

uint16_t PseudoSum(const std::vector<uint8_t>& b, const FrameLayout& layout) {
  const uint32_t length = layout.end - layout.transport;
  uint64_t sum = layout.protocol + (length >> 16) + (length & 0xffff);
  const uint8_t* ip = b.data() + layout.network;
  return layout.is_v6 ? Sum(ip + 8, 32, sum) : Sum(ip + 12, 8, sum);
}

// Offset of the checksum field in the transport header, or -1.
int ChecksumField(uint8_t protocol) {
  switch (protocol) {
    case kTcp:
      return 16;
    case kUdp:
      return 6;
    case kIcmp:
    case kIgmp:
    case kIcmpV6:
      return 2;
  }
  return -1;
}

bool HasPseudoHeader(uint8_t protocol) { return protocol != kIcmp && protocol != kIgmp; }

void FixTransportChecksum(std::vector<uint8_t>* bytes, const FrameLayout& layout) {
  const int field = ChecksumField(layout.protocol);
  if (field < 0 || layout.is_fragment) return;
  if (layout.transport + static_cast<uint32_t>(field) + 2 > layout.end) return;
  uint8_t* transport = bytes->data() + layout.transport;
  Store16(transport + field, 0);
  const uint64_t pseudo = HasPseudoHeader(layout.protocol) ? PseudoSum(*bytes, layout) : 0;
  auto checksum = static_cast<uint16_t>(~Sum(transport, layout.end - layout.transport, pseudo));
  if (layout.protocol == kUdp && checksum == 0) checksum = 0xffff;
  Store16(transport + field, checksum);
}

// Skips IPv6 extension headers; false when they are cut short.
bool SkipExtensions(const std::vector<uint8_t>& b, FrameLayout* layout, uint32_t at, uint8_t next) {
  while (next == 0 || next == 43 || next == 60 || next == kFragment) {
    if (at + 8 > layout->end) return false;
    if (next == kFragment) {
      layout->is_fragment = (Load16(&b[at + 2]) & 0xfff9) != 0;
      if ((Load16(&b[at + 2]) & 0xfff8) != 0) {
        layout->protocol = b[at];
        return true;  // no transport header behind a later fragment
      }
      next = b[at];
      at += 8;
      continue;
    }
    const uint32_t length = 8 + b[at + 1] * 8u;
    next = b[at];
    at += length;
  }
  if (at > layout->end) return false;
  layout->protocol = next;
  layout->transport = at;
  return true;
}

}  // namespace

bool ParseLayout(const std::vector<uint8_t>& b, FrameLayout* layout) {
  *layout = {};
  if (b.size() < kEthernet) return false;
  layout->ether_type = Load16(&b[12]);
  layout->network = kEthernet;
  const uint8_t* ip = b.data() + kEthernet;
  const uint32_t room = static_cast<uint32_t>(b.size()) - kEthernet;
  if (layout->ether_type == 0x0800) {
    if (room < 20 || (ip[0] >> 4) != 4) return false;
    const uint32_t header = (ip[0] & 15) * 4u;
    uint32_t total = Load16(ip + 2);
    if (total == 0 && room > 65535) total = room;  // as long as its frame (Linux: BIG TCP)
    if (header < 20 || header > total || total > room) return false;
    layout->end = kEthernet + total;
    layout->protocol = ip[9];
    layout->is_fragment = (Load16(ip + 6) & 0x3fff) != 0;
    if ((Load16(ip + 6) & 0x1fff) == 0) layout->transport = kEthernet + header;
    return true;
  }
  if (layout->ether_type != 0x86dd || room < 40 || (ip[0] >> 4) != 6) return false;
  layout->is_v6 = true;
  layout->end = kEthernet + 40 + Load16(ip + 4);
  if (layout->end > b.size()) return false;
  return SkipExtensions(b, layout, kEthernet + 40, ip[6]);
}

WireFrame Serialize(const Frame& frame) {
  WireFrame out;
  out.offload = frame.offload;
  out.bytes.reserve(frame.length());
  out.bytes.assign(frame.header(), frame.header() + frame.header_length());
  for (unsigned i = 0; i < frame.slice_count; ++i) {
    const Slice& slice = frame.slices[i];
    Check(slice.offset + slice.length <= slice.buffer->capacity, "frame: slice outside its buffer");
    Check(slice.buffer->references > 0, "frame: slice of a free buffer");
    out.bytes.insert(out.bytes.end(), slice.data(), slice.data() + slice.length);
  }
  Check(out.bytes.size() == frame.length(), "frame: payload_length is not the slices' sum");
  return out;
}

void FinishChecksum(WireFrame* frame) {
  if (!frame->offload.checksum_needed) return;
  const uint32_t start = frame->offload.checksum_start;
  const uint32_t field = start + frame->offload.checksum_offset;
  Check(field + 2 <= frame->bytes.size(), "offload: checksum field outside the frame");
  FrameLayout layout;
  // Link padding is no part of the sum; a stack that asks for a checksum sends whole packets.
  const uint32_t end = ParseLayout(frame->bytes, &layout) ? layout.end : frame->bytes.size();
  auto sum = static_cast<uint16_t>(~Sum(&frame->bytes[start], end - start));
  if (sum == 0 && layout.protocol == kUdp) sum = 0xffff;
  Store16(&frame->bytes[field], sum);
  frame->offload.checksum_needed = false;
}

void FixChecksums(std::vector<uint8_t>* bytes) {
  FrameLayout layout;
  const bool whole = ParseLayout(*bytes, &layout);
  FixIpv4Checksum(bytes);
  if (whole && layout.transport != 0) FixTransportChecksum(bytes, layout);
}

void FixIpv4Checksum(std::vector<uint8_t>* bytes) {
  if (bytes->size() < kEthernet + 20 || Load16(bytes->data() + 12) != 0x0800) return;
  uint8_t* ip = bytes->data() + kEthernet;
  const uint32_t header = (ip[0] & 15) * 4u;
  if (header < 20 || kEthernet + header > bytes->size()) return;
  Store16(ip + 10, 0);
  Store16(ip + 10, static_cast<uint16_t>(~Sum(ip, header)));
}

bool ChecksumsAreRight(const std::vector<uint8_t>& bytes) {
  FrameLayout layout;
  if (!ParseLayout(bytes, &layout)) return true;
  const uint8_t* ip = &bytes[layout.network];
  if (!layout.is_v6 && Sum(ip, (ip[0] & 15) * 4u) != 0xffff) return false;
  const int field = ChecksumField(layout.protocol);
  if (layout.transport == 0 || layout.is_fragment || field < 0 ||
      layout.transport + static_cast<uint32_t>(field) + 2 > layout.end) {
    return true;
  }
  const uint8_t* transport = &bytes[layout.transport];
  if (layout.protocol == kUdp && Load16(transport + field) == 0) {
    return !layout.is_v6;  // RFC 768: left out; RFC 8200 8.1: never with IPv6
  }
  const uint64_t pseudo = HasPseudoHeader(layout.protocol) ? PseudoSum(bytes, layout) : 0;
  return Sum(transport, layout.end - layout.transport, pseudo) == 0xffff;
}

// As the TAP backend: the frame is read as the one that the landing foretells. Returns how much of
// it is in the packet then, which is all that has room; 0: it is another, which has overwritten the
// program's memory.
static uint32_t Land(Core& core, const WireFrame& frame, Packet* packet) {
  Landing& landing = core.landing;
  const auto total = static_cast<uint32_t>(frame.bytes.size());
  const uint32_t header = std::min(landing.header_length, total);
  const uint32_t text = std::min(total - header, landing.room());
  std::memcpy(landing.next(), frame.bytes.data() + header, text);
  if (total < landing.header_length || !landing.Foretells(frame.bytes.data(), total)) {
    landing.Close();
    return 0;
  }
  Buffer* buffer = core.buffers.Allocate(BufferClass::kSmall);
  if (buffer == nullptr) return 0;
  std::memcpy(buffer->bytes, frame.bytes.data(), header);
  packet->slices[0] = {buffer, 0, header};
  packet->slices[1] = landing.Fill(text);
  packet->slice_count = 2;
  return header + text;
}

Packet* Deliver(Core& core, const WireFrame& frame, uint16_t interface, Instant arrival,
                const DeliveryShape& shape) {
  Packet* packet = core.packets.Allocate();
  if (packet == nullptr) {
    core.counters.Add(Counter::kDeviceInNoBuffer);
    return nullptr;
  }
  const auto total = static_cast<uint32_t>(frame.bytes.size());
  uint32_t done = core.landing.IsOpen() ? Land(core, frame, packet) : 0;
  while (done < total || packet->slice_count == 0) {
    uint32_t want = total - done;
    uint32_t offset = 0;
    if (packet->slice_count == 0) {
      offset = shape.offset;
      if (shape.first_slice != 0) want = std::min(want, std::max(shape.first_slice, 256u));
    }
    // As the TAP backend: a few small buffers first, and a large one only for what spills far.
    const bool small = packet->slice_count < kSmallBuffers || want <= kSpillCopied;
    Buffer* buffer = core.buffers.Allocate(small ? BufferClass::kSmall : BufferClass::kLarge);
    if (buffer == nullptr || packet->slice_count == kMaxSlices) {
      if (buffer != nullptr) core.buffers.Release(buffer);
      core.packets.Release(packet);
      core.counters.Add(Counter::kDeviceInNoBuffer);
      return nullptr;
    }
    const uint32_t n = std::min(want, buffer->capacity - offset);
    if (n > 0) std::memcpy(buffer->bytes + offset, frame.bytes.data() + done, n);
    packet->slices[packet->slice_count++] = {buffer, offset, n};
    done += n;
  }
  packet->length = total;
  packet->arrival = arrival;
  packet->ip.interface = interface;
  packet->offload = frame.offload;
  // Nothing computed it because the bytes never left the machine: the device vouches for them.
  if (frame.offload.checksum_needed) packet->offload.checksum_verified = true;
  return packet;
}

}  // namespace userstack::testing
