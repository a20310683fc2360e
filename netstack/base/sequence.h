// SeqNum: a TCP sequence number, modulo 2^32 (RFC 9293 3.4). It has no operator<; "before" depends
// on a window of 2^31.
#pragma once

#include <cstdint>

namespace userstack {

struct SeqNum {
  uint32_t value = 0;

  constexpr bool operator==(const SeqNum&) const = default;
  constexpr bool Before(SeqNum other) const {
    return static_cast<int32_t>(value - other.value) < 0;
  }
  constexpr bool After(SeqNum other) const { return other.Before(*this); }
  constexpr bool AtOrBefore(SeqNum other) const { return !After(other); }
  constexpr bool AtOrAfter(SeqNum other) const { return !Before(other); }
  // True when *this lies in [first, first + length).
  constexpr bool InRange(SeqNum first, uint32_t length) const {
    return value - first.value < length;
  }
};

constexpr SeqNum operator+(SeqNum s, uint32_t n) { return {s.value + n}; }
constexpr SeqNum operator-(SeqNum s, uint32_t n) { return {s.value - n}; }
// The distance from `b` up to `a`; meaningful only where a.AtOrAfter(b).
constexpr uint32_t operator-(SeqNum a, SeqNum b) { return a.value - b.value; }
constexpr SeqNum Max(SeqNum a, SeqNum b) { return a.Before(b) ? b : a; }
constexpr SeqNum Min(SeqNum a, SeqNum b) { return a.Before(b) ? a : b; }

}  // namespace userstack
