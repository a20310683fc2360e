// What goes to the kernel at the other end of a TAP: frames that are longer than an IP packet can
// say. The network cuts them, as the kernel does for whoever is no party to it.
#include <algorithm>

#include "tests/sim/two_hosts.h"

namespace userstack::testing {
namespace {

constexpr uint32_t kLargest = (128 << 10) + 4096;
constexpr size_t kWrite = 128 << 10;
constexpr uint32_t kMaxIpPacket = 65535;

class HostFrames : public TwoHosts {
 protected:
  void BuildWithHost(const MacAddress& host, bool pass_large = false) {
    TwoHostsOptions options;
    options.device_a.transmit_checksum = options.device_b.transmit_checksum = true;
    options.device_a.tcp_segmentation_max = options.device_b.tcp_segmentation_max = kMaxIpPacket;
    options.device_a.host = host;
    options.device_a.host_segmentation_max = kLargest;
    options.up_a.bits_per_second = 10'000'000'000;
    options.up_a.delay = options.up_b.delay = Duration::Milliseconds(2);
    options.arena_bytes = size_t{256} << 20;
    options.pass_large = pass_large;
    options.check_every = 4096;
    options.coalesce = Duration::Milliseconds(1);
    options.verify_frames = pass_large;
    Build(options);
  }

  // Goes on with the stream by `bytes`, in large writes; the number of frames that it took, or 0
  // when it stalls.
  uint64_t FramesFor(const Connected& c, uint64_t bytes) {
    const uint64_t before = Count(a(), Counter::kDeviceOutFrames);
    const uint64_t end = received_ + bytes;
    const Instant until = net().now() + Duration::Seconds(60);
    while (received_ < end) {
      bool moved = false;
      if (sent_ < end) {
        const long put = SendContent(c.client, 7, sent_, std::min<uint64_t>(end - sent_, kWrite));
        if (put > 0) sent_ += static_cast<uint64_t>(put), moved = true;
      }
      const long got = ReceiveContent(c.server, 7, received_);
      if (got > 0) received_ += static_cast<uint64_t>(got), moved = true;
      if (!moved && (net().now() > until || !net().Step())) return 0;
    }
    return Count(a(), Counter::kDeviceOutFrames) - before;
  }
  // The same for writes with a pause behind each, so that none waits for room.
  uint64_t FramesForWrites(const Connected& c, int writes) {
    uint64_t frames = 0;
    for (int i = 0; i < writes; ++i) {
      frames += FramesFor(c, kWrite);
      net().RunFor(Duration::Milliseconds(20));
    }
    return frames;
  }
  void CloseAll(const Connected& c) {
    Close(c.client);
    Close(c.server);
    Close(c.listener);
    ExpectClean();
  }

  uint64_t sent_ = 0, received_ = 0;
};

constexpr MacAddress kMacOfB = {{2, 0, 0, 0, 0, 2}};
constexpr MacAddress kMacOfNobody = {{2, 0, 0, 0, 0, 99}};
constexpr uint64_t kBulk = 16 << 20;

TEST_F(HostFrames, GrowBeyondAnIpPacketOnceMuchIsInFlight) {
  BuildWithHost(kMacOfB);
  const Connected c = Connect(Family::kIpv4);
  EXPECT_GT(FramesForWrites(c, 1), kWrite / kMaxIpPacket) << "not at the beginning";
  ASSERT_GT(FramesFor(c, kBulk), 0u);
  EXPECT_EQ(FramesForWrites(c, 8), 8u);
  CloseAll(c);
}

TEST_F(HostFrames, AreForTheKernelItselfOnly) {
  BuildWithHost(kMacOfNobody);
  const Connected c = Connect(Family::kIpv4);
  ASSERT_GT(FramesFor(c, kBulk), 0u);
  EXPECT_GE(FramesForWrites(c, 8), 24u);
  CloseAll(c);
}

TEST_F(HostFrames, AreOfIpv4Only) {
  BuildWithHost(kMacOfB);
  const Connected c = Connect(Family::kIpv6);
  ASSERT_GT(FramesFor(c, kBulk), 0u);
  EXPECT_GE(FramesForWrites(c, 8), 24u);
  CloseAll(c);
}

TEST_F(HostFrames, GoAgainInPacketsWhenTheyAreLost) {
  BuildWithHost(kMacOfB);
  const Connected c = Connect(Family::kIpv4);
  ASSERT_GT(FramesFor(c, kBulk), 0u);
  uint64_t count = 0;
  Observe(0, [&](const SeenSegment& s) { return s.payload > 0 && ++count % 400 == 0; });
  ASSERT_GT(FramesFor(c, kBulk), 0u);
  EXPECT_GT(Count(a(), Counter::kTcpRetransmittedSegments), 10u);
  Observe(0);
  EXPECT_GT(FramesFor(c, kBulk), 0u);
  CloseAll(c);
}

TEST_F(HostFrames, StopWhereNoneGetsThrough) {
  BuildWithHost(kMacOfB, true);
  const Connected c = Connect(Family::kIpv4);
  uint64_t lost = 0;
  Observe(0, [&](const SeenSegment& s) {
    if (s.payload > kMaxIpPacket) ++lost;
    return s.payload > kMaxIpPacket;
  });
  ASSERT_GT(FramesFor(c, 4 * kBulk), 0u);
  EXPECT_GT(lost, 0u);
  const uint64_t before = lost;
  ASSERT_GT(FramesFor(c, 2 * kBulk), 0u);
  EXPECT_EQ(lost, before);
  CloseAll(c);
}

}  // namespace
}  // namespace userstack::testing
