// SummingCopy: copies bytes and keeps their Internet checksum (RFC 1071) on the way, so that
// payload is read once.
#pragma once

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "netstack/base/byte_order.h"

namespace userstack::backend {

class SummingCopy {
 public:
  // Pieces may have any length; an odd one shifts what follows.
  void Copy(uint8_t* to, const uint8_t* from, size_t length) {
    uint64_t sum = CopyWords(to, from, length);
    if (odd_) sum = ByteSwap(Fold(sum));
    sum_ += sum;  // far from 2^64: a frame has 64 KiB
    odd_ ^= (length & 1) != 0;
  }
  // Bytes that are there already.
  void Add(const uint8_t* bytes, size_t length) {
    uint64_t sum = 0;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) sum += Halves(Load<uint64_t>(bytes + i));
    if (length & 4) sum += Load<uint32_t>(bytes + i);
    if (length & 2) sum += Load<uint16_t>(bytes + i + (length & 4));
    if (length & 1) sum += bytes[length - 1];
    if (odd_) sum = ByteSwap(Fold(sum));
    sum_ += sum;
    odd_ ^= (length & 1) != 0;
  }
  // A 16-bit value as Load16 gives it.
  void AddValue(uint16_t value) { sum_ += ByteSwap(value); }
  // The sum as Store16 wants it, not complemented.
  uint16_t Sum() const { return ByteSwap(Fold(sum_)); }

 private:
  template <typename Word>
  static Word Load(const uint8_t* p) {
    Word word;
    std::memcpy(&word, p, sizeof word);
    return word;
  }
  template <typename Word>
  static Word CopyOne(uint8_t* to, const uint8_t* from) {
    const Word word = Load<Word>(from);
    std::memcpy(to, &word, sizeof word);
    return word;
  }
  static uint64_t Halves(uint64_t word) { return (word & 0xffffffff) + (word >> 32); }
  static uint16_t Fold(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>((sum & 0xffff) + (sum >> 16));
  }
  // The sum of 32-bit words, four in parallel, each widened to 64 bits.
  static uint64_t CopyWords(uint8_t* to, const uint8_t* from, size_t length) {
    const __m128i zero = _mm_setzero_si128();
    __m128i low = zero;
    __m128i high = zero;
    size_t i = 0;
    for (; i + 32 <= length; i += 32) {
      const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
      const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i + 16));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), a);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i + 16), b);
      low = _mm_add_epi64(low, _mm_unpacklo_epi32(a, zero));
      high = _mm_add_epi64(high, _mm_unpackhi_epi32(a, zero));
      low = _mm_add_epi64(low, _mm_unpacklo_epi32(b, zero));
      high = _mm_add_epi64(high, _mm_unpackhi_epi32(b, zero));
    }
    const __m128i both = _mm_add_epi64(low, high);
    uint64_t sum = static_cast<uint64_t>(_mm_cvtsi128_si64(both)) +
                   static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(both, both)));
    // The rest in powers of two, each known to the compiler: bytes put together one by one, and
    // loaded as a word, cost a small frame more than everything else here.
    for (; i + 8 <= length; i += 8) sum += Halves(CopyOne<uint64_t>(to + i, from + i));
    if (length & 4) {
      sum += CopyOne<uint32_t>(to + i, from + i);
      i += 4;
    }
    if (length & 2) {
      sum += CopyOne<uint16_t>(to + i, from + i);
      i += 2;
    }
    if (length & 1) sum += CopyOne<uint8_t>(to + i, from + i);
    return sum;
  }

  uint64_t sum_ = 0;  // of little-endian words; swapped at the end (RFC 1071 2(B))
  bool odd_ = false;
};

}  // namespace userstack::backend
