// Random: a seeded generator (xoshiro256**) for jitter and choices, SipHash-2-4 for keyed hashes
// that a peer sees (ISN, ports), and SipHash-1-3 for those that it does not (tables).
// Deterministic: the seed is injected, nothing else enters.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace userstack {

class Random {
 public:
  explicit Random(uint64_t seed = 0);
  uint64_t Next();
  // Uniform in [0, bound); bound > 0.
  uint64_t Below(uint64_t bound);

 private:
  std::array<uint64_t, 4> state_;
};

struct SipKey {
  uint64_t k0 = 0;
  uint64_t k1 = 0;
};

struct SipState {
  uint64_t v0, v1, v2, v3;

  explicit SipState(const SipKey& key)
      : v0(key.k0 ^ 0x736f6d6570736575ull),
        v1(key.k1 ^ 0x646f72616e646f6dull),
        v2(key.k0 ^ 0x6c7967656e657261ull),
        v3(key.k1 ^ 0x7465646279746573ull) {}
  void Round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  uint64_t Result() const { return v0 ^ v1 ^ v2 ^ v3; }
};

// SipHash-2-4 of `length` bytes.
uint64_t SipHash(const SipKey& key, const void* bytes, size_t length);

// SipHash-1-3 of the bytes of `words` and then of `tail`: for tables, where a peer has to guess
// which inputs collide and never sees a hash (Linux and Rust use as few rounds for theirs).
template <size_t n>
inline uint64_t TableHash(const SipKey& key, const std::array<uint64_t, n>& words, uint32_t tail) {
  SipState s(key);
  const auto compress = [&s](uint64_t m) {
    s.v3 ^= m;
    s.Round();
    s.v0 ^= m;
  };
  for (const uint64_t word : words) compress(word);
  compress(uint64_t{n * 8 + 4} << 56 | tail);
  s.v2 ^= 0xff;
  s.Round();
  s.Round();
  s.Round();
  return s.Result();
}

}  // namespace userstack
