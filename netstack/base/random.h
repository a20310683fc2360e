// Random: a seeded generator (xoshiro256**) for jitter and choices, and SipHash-2-4 for keyed
// hashes (ISN, ports, tables). Deterministic: the seed is injected, nothing else enters.
#pragma once

#include <array>
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

// SipHash-2-4 of `length` bytes.
uint64_t SipHash(const SipKey& key, const void* bytes, size_t length);

}  // namespace userstack
