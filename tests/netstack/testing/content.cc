#include "tests/netstack/testing/content.h"

#include <algorithm>
#include <cstring>

namespace userstack::testing {
namespace {

uint64_t Word(uint64_t id, uint64_t index) {
  uint64_t z = (id + 1) * 0x9e3779b97f4a7c15ull + index * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 29)) * 0x94d049bb133111ebull;
  return z ^ (z >> 32);
}

}  // namespace

void FillContent(uint64_t id, uint64_t offset, uint8_t* out, size_t length) {
  while (length > 0) {
    const uint64_t word = Word(id, offset / 8);
    const size_t skip = offset % 8;
    const size_t n = std::min(length, 8 - skip);
    std::memcpy(out, reinterpret_cast<const uint8_t*>(&word) + skip, n);
    out += n;
    offset += n;
    length -= n;
  }
}

size_t MatchContent(uint64_t id, uint64_t offset, const uint8_t* bytes, size_t length) {
  size_t done = 0;
  while (done < length) {
    const uint64_t word = Word(id, (offset + done) / 8);
    const size_t skip = (offset + done) % 8;
    const size_t n = std::min(length - done, 8 - skip);
    const auto* expected = reinterpret_cast<const uint8_t*>(&word) + skip;
    if (std::memcmp(bytes + done, expected, n) != 0) {
      while (bytes[done] == *expected) ++done, ++expected;
      return done;
    }
    done += n;
  }
  return done;
}

}  // namespace userstack::testing
