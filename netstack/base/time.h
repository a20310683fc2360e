// Instant and Duration: the only way the core speaks of time. Both are signed 64-bit nanoseconds.
// An Instant counts from an origin that the embedder chooses (CLOCK_MONOTONIC in the shim, zero in
// tests).
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace userstack {

struct Duration {
  int64_t nanoseconds = 0;

  static constexpr Duration Nanoseconds(int64_t n) { return {n}; }
  static constexpr Duration Microseconds(int64_t n) { return {n * 1'000}; }
  static constexpr Duration Milliseconds(int64_t n) { return {n * 1'000'000}; }
  static constexpr Duration Seconds(int64_t n) { return {n * 1'000'000'000}; }
  static constexpr Duration Infinite() { return {std::numeric_limits<int64_t>::max()}; }

  constexpr int64_t microseconds() const { return nanoseconds / 1'000; }
  constexpr int64_t milliseconds() const { return nanoseconds / 1'000'000; }
  constexpr int64_t seconds() const { return nanoseconds / 1'000'000'000; }
  constexpr auto operator<=>(const Duration&) const = default;
};

constexpr Duration operator+(Duration a, Duration b) { return {a.nanoseconds + b.nanoseconds}; }
constexpr Duration operator-(Duration a, Duration b) { return {a.nanoseconds - b.nanoseconds}; }
constexpr Duration operator*(Duration a, int64_t n) { return {a.nanoseconds * n}; }
constexpr Duration operator/(Duration a, int64_t n) { return {a.nanoseconds / n}; }

struct Instant {
  int64_t nanoseconds = 0;

  static constexpr Instant Never() { return {std::numeric_limits<int64_t>::max()}; }
  constexpr bool is_never() const { return nanoseconds == Never().nanoseconds; }
  constexpr auto operator<=>(const Instant&) const = default;
};

// Saturates at Never(), so that "now + infinite" needs no special case.
constexpr Instant operator+(Instant t, Duration d) {
  int64_t sum = 0;
  if (__builtin_add_overflow(t.nanoseconds, d.nanoseconds, &sum)) return Instant::Never();
  return {sum};
}
constexpr Instant operator-(Instant t, Duration d) { return {t.nanoseconds - d.nanoseconds}; }
constexpr Duration operator-(Instant a, Instant b) { return {a.nanoseconds - b.nanoseconds}; }

}  // namespace userstack
