// Loads and stores of big-endian ("network order") integers at any alignment.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace userstack {

constexpr uint16_t ByteSwap(uint16_t v) { return __builtin_bswap16(v); }
constexpr uint32_t ByteSwap(uint32_t v) { return __builtin_bswap32(v); }
constexpr uint64_t ByteSwap(uint64_t v) { return __builtin_bswap64(v); }

template <typename T>
T LoadBigEndian(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return ByteSwap(v);
}
template <typename T>
void StoreBigEndian(uint8_t* p, T v) {
  v = ByteSwap(v);
  std::memcpy(p, &v, sizeof v);
}

inline uint16_t Load16(const uint8_t* p) { return LoadBigEndian<uint16_t>(p); }
inline uint32_t Load32(const uint8_t* p) { return LoadBigEndian<uint32_t>(p); }
inline uint64_t Load64(const uint8_t* p) { return LoadBigEndian<uint64_t>(p); }
inline void Store16(uint8_t* p, uint16_t v) { StoreBigEndian(p, v); }
inline void Store32(uint8_t* p, uint32_t v) { StoreBigEndian(p, v); }
inline void Store64(uint8_t* p, uint64_t v) { StoreBigEndian(p, v); }

}  // namespace userstack
