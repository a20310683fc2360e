#include "netstack/base/checksum.h"

#include <cstring>

#include "netstack/base/byte_order.h"

namespace userstack {
namespace {

uint64_t AddWithCarry(uint64_t a, uint64_t b) {
  uint64_t sum = a + b;
  return sum + (sum < a ? 1 : 0);
}

uint16_t Fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// The sum of 32-bit words, widened: the compiler turns this loop into vector code.
uint64_t SumWords(const uint8_t* p, size_t length) {
  uint64_t sum = 0;
  size_t i = 0;
  for (; i + 32 <= length; i += 32) {
    uint32_t w[8];
    std::memcpy(w, p + i, 32);
    for (uint32_t v : w) sum += v;
  }
  for (; i + 4 <= length; i += 4) {
    uint32_t w;
    std::memcpy(&w, p + i, 4);
    sum += w;
  }
  uint32_t tail = 0;
  if (i < length) std::memcpy(&tail, p + i, length - i);
  return sum + tail;
}

}  // namespace

void ChecksumAccumulator::Add(const void* bytes, size_t length) {
  if (length == 0) return;
  uint64_t sum = SumWords(static_cast<const uint8_t*>(bytes), length);
  if (odd_) sum = ByteSwap(Fold(sum));
  sum_ = AddWithCarry(sum_, sum);
  if (length & 1) odd_ = !odd_;
}

void ChecksumAccumulator::AddPseudoHeader(const IpAddress& source, const IpAddress& destination,
                                          uint8_t protocol, uint32_t length) {
  uint8_t tail[8];
  if (source.is_v4()) {
    Add(source.v4_bytes(), 4);
    Add(destination.v4_bytes(), 4);
  } else {
    Add(source.v6_bytes(), 16);
    Add(destination.v6_bytes(), 16);
  }
  Store32(tail, length);
  Store32(tail + 4, protocol);
  Add(tail, sizeof tail);
}

uint16_t ChecksumAccumulator::Sum() const { return ByteSwap(Fold(sum_)); }

}  // namespace userstack
