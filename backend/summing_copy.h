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
    for (; i + 4 <= length; i += 4) sum += Word(bytes + i, 4);
    if (i < length) sum += Word(bytes + i, length - i);
    if (odd_) sum = ByteSwap(Fold(sum));
    sum_ += sum;
    odd_ ^= (length & 1) != 0;
  }
  // A 16-bit value as Load16 gives it.
  void AddValue(uint16_t value) { sum_ += ByteSwap(value); }
  // The sum as Store16 wants it, not complemented.
  uint16_t Sum() const { return ByteSwap(Fold(sum_)); }

 private:
  static uint32_t Word(const uint8_t* p, size_t n) {
    uint32_t w = 0;
    std::memcpy(&w, p, n);
    return w;
  }
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
    for (; i < length; i += 4) {
      const size_t n = length - i < 4 ? length - i : 4;
      const uint32_t word = Word(from + i, n);
      std::memcpy(to + i, &word, n);
      sum += word;
    }
    return sum;
  }

  uint64_t sum_ = 0;  // of little-endian words; swapped at the end (RFC 1071 2(B))
  bool odd_ = false;
};

}  // namespace userstack::backend
