#include "netstack/base/checksum.h"

#include <cstring>

#include "netstack/base/byte_order.h"

namespace userstack {
namespace {

// Two 64-bit words side by side, in any processor of this kind.
using Pair = uint64_t __attribute__((vector_size(16)));

uint16_t Fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

template <typename Word>
Word Load(const uint8_t* p) {
  Word word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

uint64_t Halves(uint64_t word) { return (word & 0xffffffff) + (word >> 32); }

// The sum of the 32-bit words of `length` bytes, a multiple of 32.
uint64_t SumBlocks(const uint8_t* p, size_t length) {
  constexpr Pair kLow = {0xffffffff, 0xffffffff};
  Pair low = {0, 0};
  Pair high = {0, 0};
  for (size_t i = 0; i < length; i += 32) {
    const Pair a = Load<Pair>(p + i);
    const Pair b = Load<Pair>(p + i + 16);
    low += (a & kLow) + (b & kLow);
    high += (a >> 32) + (b >> 32);
  }
  const Pair both = low + high;
  return both[0] + both[1];
}

// What is left has sizes that the compiler knows: bytes put together one by one would stall the
// load of their word.
uint64_t SumWords(const uint8_t* p, size_t length) {
  const size_t blocks = length & ~size_t{31};
  uint64_t sum = blocks == 0 ? 0 : SumBlocks(p, blocks);
  size_t i = blocks;
  for (; i + 8 <= length; i += 8) sum += Halves(Load<uint64_t>(p + i));
  if (length & 4) {
    sum += Load<uint32_t>(p + i);
    i += 4;
  }
  if (length & 2) {
    sum += Load<uint16_t>(p + i);
    i += 2;
  }
  if (length & 1) sum += p[i];
  return sum;
}

}  // namespace

void ChecksumAccumulator::Add(const void* bytes, size_t length) {
  uint64_t sum = SumWords(static_cast<const uint8_t*>(bytes), length);
  if (odd_) sum = ByteSwap(Fold(sum));
  sum_ += sum;  // far from 2^64: a packet has 64 KiB
  odd_ ^= (length & 1) != 0;
}

void ChecksumAccumulator::AddPseudoHeader(const IpAddress& source, const IpAddress& destination,
                                          uint8_t protocol, uint32_t length) {
  if (source.is_v4()) {
    Add(source.v4_bytes(), 4);
    Add(destination.v4_bytes(), 4);
  } else {
    Add(source.v6_bytes(), 16);
    Add(destination.v6_bytes(), 16);
  }
  uint8_t tail[4];
  Store32(tail, length + protocol);  // far from 2^32, and both are at the ends of their words
  Add(tail, sizeof tail);
}

uint16_t ChecksumAccumulator::Sum() const { return ByteSwap(Fold(sum_)); }

}  // namespace userstack
