// The congestion-control rules as arithmetic: CUBIC's curve against RFC 9438's formulas, Reno's
// growth, HyStart, restart after idle.
#include "netstack/tcp/congestion.h"

#include <gtest/gtest.h>

#include <cmath>

#include "netstack/tcp/cubic.h"

namespace userstack::tcp {
namespace {

constexpr uint32_t kMss = 1000;

TEST(CubeRoots, AreExact) {
  for (uint64_t r : {0ull, 1ull, 2ull, 3ull, 10ull, 999ull, 1000ull, 123456ull, 4000000ull}) {
    const auto cube = static_cast<unsigned __int128>(r) * r * r;
    EXPECT_EQ(CubeRoot(cube), r);
    if (r > 1) {
      EXPECT_EQ(CubeRoot(cube - 1), r - 1);
    }
    EXPECT_EQ(CubeRoot(cube + 1), r == 0 ? 1 : r);
  }
}

TEST(Cubic, KIsTheTimeToReachTheOldMaximum) {
  // RFC 9438 equation 2: K = cbrt((W_max - cwnd_epoch) / C), in seconds, windows in segments.
  for (uint64_t segments : {10, 100, 1000, 10000, 100000}) {
    const uint64_t w_max = segments * kMss;
    const uint64_t w = w_max * 7 / 10;
    const double expected = std::cbrt(static_cast<double>(segments) * 0.3 / 0.4);
    EXPECT_NEAR(static_cast<double>(CubicK(w_max, w, kMss)) / 1e9, expected, 1e-3) << segments;
  }
  EXPECT_EQ(CubicK(5000, 5000, kMss), 0);
}

TEST(Cubic, TheWindowFollowsTheCubicFunction) {
  // RFC 9438 equation 1: W(t) = C * (t - K)^3 + W_max.
  const uint64_t w_max = 1000 * kMss;
  const int64_t k = CubicK(w_max, w_max * 7 / 10, kMss);
  for (double t = 0; t < 30; t += 0.37) {
    const double distance = t - static_cast<double>(k) / 1e9;
    const double expected = (0.4 * distance * distance * distance + 1000.0) * kMss;
    const auto got = CubicWindow(w_max, k, static_cast<int64_t>(t * 1e9), kMss);
    EXPECT_NEAR(static_cast<double>(got), std::max(expected, 0.0), expected * 0.001 + 50) << t;
  }
}

TEST(Cubic, NeverOverflows) {
  EXPECT_GT(CubicWindow(uint64_t{1} << 40, 0, INT64_MAX / 2, 65000), uint64_t{1} << 40);
  EXPECT_EQ(CubicWindow(1000, INT64_MAX / 2, 0, kMss), 0u);
}

struct Flow {
  Congestion c;
  Instant now{Duration::Seconds(1000).nanoseconds};
  Duration rtt = Duration::Milliseconds(100);

  explicit Flow(CongestionControl kind, uint64_t segments) {
    StartCongestion(c, kind, kMss, false);
    c.window = segments * kMss;
  }
  void Ack(uint64_t bytes) {
    AckSample s;
    s.now = now;
    s.newly_acknowledged = s.newly_delivered = bytes;
    s.rtt = s.smoothed_rtt = s.minimum_rtt = rtt;
    s.window_limited = true;
    CongestionOnAck(c, s, kMss);
  }
  // One round trip with a full window, an ACK for every second segment.
  void Round() {
    const uint64_t acks = c.window / (2 * kMss);
    const Duration step = rtt / static_cast<int64_t>(acks);
    for (uint64_t i = 0; i < acks; ++i) {
      now = now + step;
      Ack(2 * kMss);
    }
  }
  void Lose() {
    CongestionOnLoss(c, c.window, kMss, now);
    CongestionOnRecovered(c, kMss, now);
  }
};

TEST(Cubic, ReturnsToTheOldWindowInKAndPlateausThere) {
  Flow flow(CongestionControl::kCubic, 1000);
  flow.Lose();
  EXPECT_EQ(flow.c.window / kMss, 700u);
  const double k = std::cbrt(300.0 / 0.4);  // 9.09 s
  const Instant start = flow.now;
  double previous = 700;
  while ((flow.now - start).nanoseconds < static_cast<int64_t>(k * 1e9)) {
    flow.Round();
    const double t = static_cast<double>((flow.now - start).nanoseconds) / 1e9;
    const double w = static_cast<double>(flow.c.window) / kMss;
    EXPECT_GE(w, previous);
    previous = w;
    const double curve = 0.4 * std::pow(t - k, 3) + 1000;
    EXPECT_NEAR(w, curve, curve * 0.03) << t;
  }
  EXPECT_NEAR(previous, 1000, 15);
}

TEST(Cubic, FastConvergenceGivesWayToNewFlows) {
  Flow flow(CongestionControl::kCubic, 1000);
  flow.Lose();
  // A second loss below the old maximum: W_max = cwnd * (1 + beta) / 2.
  flow.Lose();
  EXPECT_EQ(flow.c.cubic.maximum_window / kMss, 700u * 17 / 20);
  EXPECT_EQ(flow.c.window / kMss, 490u);
}

TEST(Cubic, IsNoSlowerThanRenoOnShortPaths) {
  Flow flow(CongestionControl::kCubic, 20);
  flow.rtt = Duration::Milliseconds(1);
  flow.Lose();
  const uint64_t before = flow.c.window / kMss;
  for (int i = 0; i < 20; ++i) flow.Round();
  // W_est grows by alpha = 9/17 per round trip until it reaches the window before the loss.
  EXPECT_NEAR(static_cast<double>(flow.c.window / kMss), static_cast<double>(before) + 10, 3);
}

TEST(Reno, GrowsByOneSegmentPerRoundTripAndHalves) {
  Flow flow(CongestionControl::kReno, 20);
  flow.Lose();
  EXPECT_EQ(flow.c.window, 10u * kMss);
  for (int i = 0; i < 10; ++i) flow.Round();
  EXPECT_NEAR(static_cast<double>(flow.c.window), 20.0 * kMss, 2.0 * kMss);
}

TEST(SlowStart, DoublesPerRoundTrip) {
  for (CongestionControl kind : {CongestionControl::kCubic, CongestionControl::kReno}) {
    Flow flow(kind, 10);
    flow.Round();
    EXPECT_EQ(flow.c.window, 20u * kMss);
    flow.Round();
    EXPECT_EQ(flow.c.window, 40u * kMss);
  }
}

TEST(SlowStart, DoesNotGrowAWindowThatIsNotUsed) {
  Flow flow(CongestionControl::kCubic, 10);
  AckSample s;
  s.now = flow.now;
  s.newly_delivered = 2 * kMss;
  CongestionOnAck(flow.c, s, kMss);
  EXPECT_EQ(flow.c.window, 10u * kMss);
}

TEST(HyStart, LeavesSlowStartWhenTheDelayRises) {
  Flow flow(CongestionControl::kCubic, 32);
  for (int round = 0; round < 3; ++round) {
    if (round == 2) flow.rtt = Duration::Milliseconds(120);
    for (int i = 0; i < 10; ++i) {
      AckSample s;
      s.now = flow.now;
      s.newly_delivered = kMss;
      s.rtt = flow.rtt;
      s.window_limited = true;
      s.round_start = i == 0;
      CongestionOnAck(flow.c, s, kMss);
    }
  }
  EXPECT_LT(flow.c.threshold, kInfiniteThreshold);
}

TEST(Restart, DecaysTheWindowByHalfPerTimeout) {
  Flow flow(CongestionControl::kReno, 100);
  CongestionOnRestart(flow.c, Duration::Milliseconds(700), Duration::Milliseconds(200), kMss,
                      flow.now);
  EXPECT_EQ(flow.c.window, 100u * kMss / 8);
  CongestionOnRestart(flow.c, Duration::Seconds(100), Duration::Milliseconds(200), kMss, flow.now);
  EXPECT_EQ(flow.c.window, 10u * kMss);
}

}  // namespace
}  // namespace userstack::tcp
