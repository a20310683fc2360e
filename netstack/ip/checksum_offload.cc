// Partial checksums (virtio 1.2, 5.1.6.2) finished in software: what FinishChecksum does.
#include "netstack/ip/ip.h"

namespace userstack {
namespace {

void Store(uint8_t* field, const ChecksumAccumulator& sum) {
  // Zero would say "no checksum" in UDP; all ones is the same sum (RFC 768).
  const uint16_t checksum = sum.Checksum();
  Store16(field, checksum == 0 ? 0xffff : checksum);
}

}  // namespace

void FinishChecksum(Frame& frame) {
  const Offload& offload = frame.offload;
  const uint32_t field = uint32_t{offload.checksum_start} + offload.checksum_offset;
  Check(field + 2 <= frame.header_length(), "frame: checksum outside of the headers");
  ChecksumAccumulator sum;
  sum.Add(frame.header() + offload.checksum_start, frame.header_length() - offload.checksum_start);
  for (unsigned i = 0; i < frame.slice_count; ++i) {
    sum.Add(frame.slices[i].data(), frame.slices[i].length);
  }
  Store(frame.header() + field, sum);
  frame.offload.checksum_needed = false;
}

void FinishChecksum(Packet& packet) {
  // Offsets are from the link header, and come from outside: nothing may be trusted. The bytes
  // from the link header on are still in slice 0's buffer, whatever was pulled.
  const Slice& first = packet.slices[0];
  const uint32_t start = packet.link_offset + packet.offload.checksum_start;
  const uint32_t field = start + packet.offload.checksum_offset;
  const uint32_t end = first.offset + first.length;
  packet.offload.checksum_needed = false;
  if (start > end || field + 2 > end) return;
  ChecksumAccumulator sum;
  sum.Add(first.buffer->bytes + start, end - start);
  for (unsigned i = 1; i < packet.slice_count; ++i) {
    sum.Add(packet.slices[i].data(), packet.slices[i].length);
  }
  Store(first.buffer->bytes + field, sum);
}

}  // namespace userstack
