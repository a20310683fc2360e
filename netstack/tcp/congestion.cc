// The congestion-control interface: what is common to all algorithms, and the switches.
#include "netstack/tcp/congestion.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "netstack/tcp/cubic.h"
#include "netstack/tcp/reno.h"

namespace userstack::tcp {

const char* CongestionName(CongestionControl kind) {
  switch (kind) {
    case CongestionControl::kCubic:
      return "cubic";
    case CongestionControl::kReno:
      return "reno";
  }
  return "";
}

bool ParseCongestionName(const char* name, uint32_t length, CongestionControl* kind) {
  const std::string_view wanted(name, strnlen(name, length));
  for (CongestionControl k : {CongestionControl::kCubic, CongestionControl::kReno}) {
    if (wanted != CongestionName(k)) continue;
    *kind = k;
    return true;
  }
  return false;
}

void StartCongestion(Congestion& c, CongestionControl kind, uint32_t mss, bool keep_window) {
  c.kind = kind;
  switch (kind) {
    case CongestionControl::kCubic:
      c.cubic = CubicState{};
      break;
    case CongestionControl::kReno:
      c.reno = RenoState{};
      break;
  }
  if (keep_window) return;
  // RFC 6928
  c.window = kInitialWindowSegments * mss;
  c.threshold = kInfiniteThreshold;
}

namespace {

void Avoid(Congestion& c, const AckSample& sample, uint64_t bytes, uint32_t mss) {
  switch (c.kind) {
    case CongestionControl::kCubic:
      CubicAvoid(c, sample, bytes, mss);
      return;
    case CongestionControl::kReno:
      RenoAvoid(c, bytes, mss);
      return;
  }
}

uint64_t Reduce(Congestion& c, uint32_t mss) {
  switch (c.kind) {
    case CongestionControl::kCubic:
      return CubicReduce(c, mss);
    case CongestionControl::kReno:
      return RenoThreshold(c, mss);
  }
  return 2 * uint64_t{mss};
}

void WatchDelay(Congestion& c, const AckSample& sample, uint32_t mss) {
  switch (c.kind) {
    case CongestionControl::kCubic:
      CubicHyStart(c, sample, mss);
      return;
    case CongestionControl::kReno:
      return;
  }
}

}  // namespace

void CongestionOnAck(Congestion& c, const AckSample& sample, uint32_t mss) {
  uint64_t bytes = sample.newly_delivered;
  if (c.InSlowStart()) WatchDelay(c, sample, mss);
  // RFC 7661's concern: a window that is not used must not grow.
  if (!sample.window_limited || bytes == 0) return;
  if (c.InSlowStart()) {
    const uint64_t grow = std::min(bytes, c.threshold - c.window);
    c.window += grow;
    bytes -= grow;
    if (bytes == 0) return;
  }
  Avoid(c, sample, bytes, mss);
}

void CongestionOnLoss(Congestion& c, uint64_t in_flight, uint32_t mss, Instant now) {
  c.prior_window = c.window;
  c.prior_threshold = c.threshold;
  c.threshold = Reduce(c, mss);
  c.recovery_flight = std::max<uint64_t>(in_flight, mss);
  c.recovery_delivered = 0;
  c.recovery_sent = 0;
  (void)now;
}

void CongestionOnTimeout(Congestion& c, uint64_t in_flight, uint32_t mss, Instant now) {
  CongestionOnLoss(c, in_flight, mss, now);
}

void CongestionOnRecovered(Congestion& c, uint32_t mss, Instant now) {
  c.window = std::max<uint64_t>(c.threshold, mss);
  (void)now;
}

void CongestionOnRestart(Congestion& c, Duration idle, Duration rto, uint32_t mss, Instant now) {
  // Linux: tcp_cwnd_restart.
  c.threshold = c.threshold == kInfiniteThreshold ? c.threshold
                                                  : std::max(c.threshold, c.window - c.window / 4);
  const uint64_t floor = std::min(kInitialWindowSegments * mss, c.window);
  for (Duration left = idle - rto; left.nanoseconds > 0 && c.window > floor; left = left - rto) {
    c.window /= 2;
  }
  c.window = std::max(c.window, floor);
  switch (c.kind) {
    case CongestionControl::kCubic:
      // RFC 9438 4.8: the idle time is no part of the epoch.
      if (c.cubic.epoch_start.nanoseconds != 0) {
        c.cubic.epoch_start = std::min(c.cubic.epoch_start + idle, now);
      }
      return;
    case CongestionControl::kReno:
      return;
  }
}

void CongestionOnMssChange(Congestion& c, uint32_t old_mss, uint32_t new_mss) {
  // The window keeps its count of segments, never less than one of the new size.
  const uint64_t segments = std::max<uint64_t>(c.window / std::max(old_mss, 1u), 1);
  c.window = std::max<uint64_t>(std::min(c.window, segments * new_mss), new_mss);
  c.threshold = std::max<uint64_t>(c.threshold, 2 * uint64_t{new_mss});
}

}  // namespace userstack::tcp
