// FrameCutter: one pass over the payload, headers from a template.
#include "backend/frame_cutter.h"

#include <algorithm>
#include <cstring>

namespace userstack::backend {
namespace {

constexpr uint32_t kEthernet = 14;
constexpr uint16_t kIpv4EtherType = 0x0800;
constexpr uint8_t kTcpFin = 0x01;
constexpr uint8_t kTcpPush = 0x08;
constexpr uint8_t kTcpCwr = 0x80;

// The shortest transport header of what is cut, and where its checksum is.
uint32_t TransportBytes(SegmentationType type) {
  return type == SegmentationType::kUdpSegment ? 8 : 20;
}

}  // namespace

FrameCutter::FrameCutter(const Frame& frame, Checksums checksums)
    : frame_(frame), finish_(frame.offload.checksum_needed && checksums == Checksums::kFinish) {
  const Offload& offload = frame.offload;
  const uint32_t storage = frame.header_length();
  cut_ = offload.segmentation != SegmentationType::kNone;
  header_bytes_ = cut_ ? offload.header_length : storage;
  if (header_bytes_ > storage) {
    valid_ = false;
    return;
  }
  total_ = frame.length() - header_bytes_;
  segment_ = total_;
  const uint32_t field = uint32_t{offload.checksum_start} + offload.checksum_offset;
  if (offload.checksum_needed && field + 2 > header_bytes_) valid_ = false;
  if (!cut_) return;
  const bool fits = offload.checksum_needed && offload.segment_size != 0 && total_ > 0 &&
                    offload.segmentation != SegmentationType::kUdpFragment &&
                    offload.checksum_start >= kEthernet + 20 &&
                    offload.checksum_start + TransportBytes(offload.segmentation) <= header_bytes_;
  if (!fits) {
    valid_ = false;
    return;
  }
  segment_ = offload.segment_size;
  count_ = (total_ + segment_ - 1) / segment_;
}

void FrameCutter::WriteNext(uint8_t* const* pieces, uint32_t first_bytes, uint32_t piece_bytes) {
  const uint32_t payload = std::min(segment_, total_ - position_);
  uint8_t* out = pieces[0];
  std::memcpy(out, frame_.header(), header_bytes_);
  if (cut_) FixHeaders(out, payload, index_ + 1 == count_);
  const Offload& offload = frame_.offload;
  SummingCopy sum;
  if (finish_) {
    sum.Add(out + offload.checksum_start, header_bytes_ - offload.checksum_start);
  }
  SummingCopy* const summing = finish_ ? &sum : nullptr;
  const uint32_t first = std::min(payload, first_bytes - header_bytes_);
  CopyPayload(out + header_bytes_, first, summing);
  uint32_t done = first;
  for (unsigned piece = 1; done < payload; ++piece) {
    const uint32_t n = std::min(payload - done, piece_bytes);
    CopyPayload(pieces[piece], n, summing);
    done += n;
  }
  if (finish_) {
    // Zero would say "no checksum" in UDP; all ones is the same sum (RFC 768).
    const auto checksum = static_cast<uint16_t>(~sum.Sum());
    Store16(out + offload.checksum_start + offload.checksum_offset,
            checksum == 0 ? 0xffff : checksum);
  }
  position_ += payload;
  ++index_;
}

void FrameCutter::CopyPayload(uint8_t* to, uint32_t length, SummingCopy* sum) {
  const uint32_t behind = frame_.header_length() - header_bytes_;
  while (length > 0) {
    const Slice* slice = part_ == 0 ? nullptr : &frame_.slices[part_ - 1];
    const uint8_t* from = slice == nullptr ? frame_.header() + header_bytes_ : slice->data();
    const uint32_t size = slice == nullptr ? behind : slice->length;
    const uint32_t n = std::min(length, size - in_part_);
    if (sum != nullptr) {
      sum->Copy(to, from + in_part_, n);
    } else {
      std::memcpy(to, from + in_part_, n);
    }
    to += n;
    length -= n;
    in_part_ += n;
    if (in_part_ < size) continue;
    ++part_;
    in_part_ = 0;
  }
}

// Lengths, identification and IPv4's own checksum.
void FrameCutter::FixNetwork(uint8_t* out, uint32_t length) const {
  uint8_t* network = out + kEthernet;
  const uint32_t transport = frame_.offload.checksum_start;
  if (Load16(out + 12) != kIpv4EtherType) {
    Store16(network + 4, static_cast<uint16_t>(length - kEthernet - 40));
    return;
  }
  Store16(network + 2, static_cast<uint16_t>(length - kEthernet));
  Store16(network + 4, static_cast<uint16_t>(Load16(network + 4) + index_));
  Store16(network + 10, 0);
  SummingCopy sum;
  sum.Add(network, transport - kEthernet);
  Store16(network + 10, static_cast<uint16_t>(~sum.Sum()));
}

// The headers of one segment, copied from the whole, and the pseudo-header's sum in the checksum
// field: that of the whole with another length.
void FrameCutter::FixHeaders(uint8_t* out, uint32_t payload, bool last) const {
  FixNetwork(out, header_bytes_ + payload);
  const Offload& offload = frame_.offload;
  uint8_t* transport = out + offload.checksum_start;
  const uint32_t header = header_bytes_ - offload.checksum_start;
  uint8_t* field = transport + offload.checksum_offset;
  SummingCopy sum;
  sum.AddValue(Load16(field));
  sum.AddValue(static_cast<uint16_t>(~(header + total_)));
  sum.AddValue(static_cast<uint16_t>(header + payload));
  Store16(field, sum.Sum());
  if (offload.segmentation == SegmentationType::kUdpSegment) {
    Store16(transport + 4, static_cast<uint16_t>(header + payload));
    return;
  }
  Store32(transport + 4, Load32(transport + 4) + position_);
  // RFC 3168 6.1.2: CWR once. FIN and PSH belong to the last byte.
  if (index_ > 0) transport[13] &= static_cast<uint8_t>(~kTcpCwr);
  if (!last) transport[13] &= static_cast<uint8_t>(~(kTcpFin | kTcpPush));
}

}  // namespace userstack::backend
