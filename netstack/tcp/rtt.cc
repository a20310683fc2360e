#include "netstack/tcp/rtt.h"

#include <algorithm>

#include "netstack/tcp/constants.h"

namespace userstack::tcp {

void TakeRttSample(Connection& c, Duration sample) {
  sample = std::max(sample, Duration::Nanoseconds(1));
  c.minimum_rtt = std::min(c.minimum_rtt, sample);
  if (c.smoothed_rtt.nanoseconds == 0) {
    // RFC 6298 2.2
    c.smoothed_rtt = sample;
    c.rtt_deviation = sample / 2;
  } else {
    // RFC 6298 2.3: alpha = 1/8, beta = 1/4
    const int64_t error = std::abs(c.smoothed_rtt.nanoseconds - sample.nanoseconds);
    c.rtt_deviation = {c.rtt_deviation.nanoseconds + (error - c.rtt_deviation.nanoseconds) / 4};
    c.smoothed_rtt = {c.smoothed_rtt.nanoseconds +
                      (sample.nanoseconds - c.smoothed_rtt.nanoseconds) / 8};
  }
  c.rto = std::min(c.smoothed_rtt + std::max(kMinimumRto, c.rtt_deviation * 4), kMaximumRto);
  c.backoff = 0;
}

Duration BackedOffRto(const Connection& c) {
  return std::min(c.rto * (int64_t{1} << std::min<int>(c.backoff, 16)), kMaximumRto);
}

uint32_t TimestampClock(Instant now, uint32_t offset) {
  return static_cast<uint32_t>(now.nanoseconds / 1'000'000) + offset;
}

}  // namespace userstack::tcp
