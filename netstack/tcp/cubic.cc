#include "netstack/tcp/cubic.h"

#include <algorithm>

namespace userstack::tcp {
namespace {

// C = 0.4, beta = 0.7, alpha = 3 * (1 - beta) / (1 + beta) = 9 / 17 (RFC 9438 4.1, 4.3).
constexpr uint64_t kBetaNumerator = 7;
constexpr uint64_t kBetaDenominator = 10;
constexpr uint64_t kAlphaNumerator = 9;
constexpr uint64_t kAlphaDenominator = 17;
// Time in the cubic function is counted in units of 100 us: cubes of hours still fit 128 bits.
constexpr int64_t kUnit = 100'000;
constexpr int64_t kLongestTime = int64_t{1} << 32;  // of those units: five days
// (10^4)^3 units^3 in a second^3.
constexpr unsigned __int128 kCubeOfSecond = 1'000'000'000'000ull;

// RFC 9406 4.2
constexpr Duration kMinimumThreshold = Duration::Milliseconds(4);
constexpr Duration kMaximumThreshold = Duration::Milliseconds(16);
constexpr uint32_t kSamplesPerRound = 8;
constexpr uint64_t kLowWindowSegments = 16;  // Linux: hystart_low_window

void StartEpoch(Congestion& c, Instant now, uint32_t mss) {
  CubicState& s = c.cubic;
  s.epoch_start = now;
  s.window_at_epoch = c.window;
  s.estimate = c.window;
  s.estimate_accumulator = 0;
  s.growth_accumulator = 0;
  if (s.maximum_window <= c.window) {
    s.maximum_window = c.window;
    s.k_nanoseconds = 0;
  } else {
    s.k_nanoseconds = CubicK(s.maximum_window, c.window, mss);
  }
}

// RFC 9438 4.3: what Reno would have, W_est.
void GrowEstimate(Congestion& c, uint64_t bytes, uint32_t mss) {
  CubicState& s = c.cubic;
  // Once W_est has reached the window before the reduction, alpha is 1.
  const bool past = s.estimate >= c.prior_window;
  const uint64_t numerator = past ? kAlphaDenominator : kAlphaNumerator;
  s.estimate_accumulator += bytes * mss * numerator;
  const uint64_t divisor = kAlphaDenominator * c.window;
  s.estimate += s.estimate_accumulator / divisor;
  s.estimate_accumulator %= divisor;
}

}  // namespace

uint64_t CubeRoot(unsigned __int128 x) {
  uint64_t root = 0;
  for (int bit = 41; bit >= 0; --bit) {
    const uint64_t candidate = root | (uint64_t{1} << bit);
    if (static_cast<unsigned __int128>(candidate) * candidate * candidate <= x) root = candidate;
  }
  return root;
}

int64_t CubicK(uint64_t maximum_window, uint64_t window_at_epoch, uint32_t mss) {
  if (maximum_window <= window_at_epoch) return 0;
  // (W_max - cwnd_epoch) / (C * MSS) seconds^3; 1 / C = 5 / 2
  const unsigned __int128 cube = static_cast<unsigned __int128>(maximum_window - window_at_epoch) *
                                 kCubeOfSecond * 5 / (2 * uint64_t{mss});
  return static_cast<int64_t>(CubeRoot(cube)) * kUnit;
}

uint64_t CubicWindow(uint64_t maximum_window, int64_t k_nanoseconds, int64_t t, uint32_t mss) {
  const bool below = t < k_nanoseconds;
  const int64_t distance =
      std::min((below ? k_nanoseconds - t : t - k_nanoseconds) / kUnit, kLongestTime);
  const auto d = static_cast<unsigned __int128>(distance);
  const auto delta = static_cast<uint64_t>(d * d * d / kCubeOfSecond * 2 * mss / 5 +
                                           d * d * d % kCubeOfSecond * 2 * mss / 5 / kCubeOfSecond);
  if (!below) return maximum_window + delta;
  return maximum_window > delta ? maximum_window - delta : 0;
}

void CubicAvoid(Congestion& c, const AckSample& sample, uint64_t bytes, uint32_t mss) {
  CubicState& s = c.cubic;
  if (s.epoch_start.nanoseconds == 0) StartEpoch(c, sample.now, mss);
  GrowEstimate(c, bytes, mss);
  const int64_t t = (sample.now - s.epoch_start).nanoseconds;
  if (CubicWindow(s.maximum_window, s.k_nanoseconds, t, mss) < s.estimate) {
    // RFC 9438 4.3: the Reno-friendly region.
    c.window = std::max(c.window, s.estimate);
    return;
  }
  // RFC 9438 4.2: one round trip ahead, clamped.
  uint64_t target =
      CubicWindow(s.maximum_window, s.k_nanoseconds, t + sample.smoothed_rtt.nanoseconds, mss);
  target = std::clamp(target, c.window, c.window + c.window / 2);
  s.growth_accumulator += bytes * std::min<uint64_t>(target - c.window, uint64_t{1} << 31);
  c.window += s.growth_accumulator / c.window;
  s.growth_accumulator %= c.window;
}

uint64_t CubicReduce(Congestion& c, uint32_t mss) {
  CubicState& s = c.cubic;
  s.epoch_start = {};
  if (c.window < s.maximum_window) {
    s.maximum_window = c.window * (kBetaDenominator + kBetaNumerator) / (2 * kBetaDenominator);
  } else {
    s.maximum_window = c.window;
  }
  return std::max(c.window / kBetaDenominator * kBetaNumerator, 2 * uint64_t{mss});
}

void CubicHyStart(Congestion& c, const AckSample& sample, uint32_t mss) {
  CubicState& s = c.cubic;
  if (sample.round_start) {
    s.previous_round_minimum_rtt = s.round_minimum_rtt;
    s.round_minimum_rtt = Duration::Infinite();
    s.round_samples = 0;
  }
  if (sample.rtt == Duration::Infinite()) return;
  s.round_minimum_rtt = std::min(s.round_minimum_rtt, sample.rtt);
  ++s.round_samples;
  if (c.window < kLowWindowSegments * mss) return;
  if (s.round_samples < kSamplesPerRound) return;
  if (s.previous_round_minimum_rtt == Duration::Infinite()) return;
  const Duration threshold =
      std::clamp(s.previous_round_minimum_rtt / 8, kMinimumThreshold, kMaximumThreshold);
  if (s.round_minimum_rtt >= s.previous_round_minimum_rtt + threshold) c.threshold = c.window;
}

}  // namespace userstack::tcp
