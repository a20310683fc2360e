// Streams under scripted trouble: windows that close, buffers that are tiny, acknowledgments that
// are lost, sequence numbers that wrap, hops that are narrow, urgent data.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "tests/sim/two_hosts.h"

namespace userstack::testing {
namespace {

constexpr uint8_t kSyn = 2, kAck = 16, kUrg = 32;

class Streams : public TwoHosts, public ::testing::WithParamInterface<Family> {
 protected:
  // Sends `bytes` of content from `from` to `to`, reading all the while; false when it stalls.
  bool Transfer(SimSocket* from, SimSocket* to, uint64_t bytes, Duration limit,
                uint64_t start = 0) {
    uint64_t sent = start, received = start;
    const Instant until = net().now() + limit;
    while (received < start + bytes && net().now() < until) {
      bool moved = false;
      if (sent < start + bytes) {
        const long put =
            SendContent(from, 7, sent, std::min<uint64_t>(start + bytes - sent, 50'000));
        if (put > 0) sent += static_cast<uint64_t>(put), moved = true;
        if (put < 0 && put != -EAGAIN) return false;
      }
      const long got = ReceiveContent(to, 7, received);
      if (got > 0) received += static_cast<uint64_t>(got), moved = true;
      if (got == 0 || (got < 0 && got != -EAGAIN)) return false;
      if (!moved && !net().Step()) return false;
    }
    return received == start + bytes;
  }
  void CloseAll(const Connected& c) {
    Close(c.client);
    Close(c.server);
    Close(c.listener);
    ExpectClean();
  }
};
INSTANTIATE_TEST_SUITE_P(Families, Streams, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& info) {
                           return info.param == Family::kIpv4 ? "IPv4" : "IPv6";
                         });

TEST_P(Streams, AWindowThatStaysClosedIsProbedEverMoreSeldom) {
  Build();
  const Connected c = Connect(GetParam());
  uint64_t sent = 0;
  for (int i = 0; i < 1000; ++i) {
    const long put = SendContent(c.client, 7, sent, 50'000);
    if (put > 0) sent += static_cast<uint64_t>(put);
    net().RunFor(Duration::Milliseconds(5));
    if (put < 0) break;
  }
  net().RunFor(Duration::Seconds(2));
  Observe(0);
  net().RunFor(Duration::Seconds(300));
  EXPECT_GE(seen(0).size(), 2u) << "somebody must ask";
  EXPECT_LE(seen(0).size(), 16u) << "but not often";
  EXPECT_EQ(SoError(c.client), 0);
  uint64_t received = 0;
  while (received < sent) {
    const long got = ReceiveContent(c.server, 7, received);
    if (got > 0) received += static_cast<uint64_t>(got);
    if (got <= 0 && !net().Step()) break;
  }
  EXPECT_EQ(received, sent);
  EXPECT_TRUE(Transfer(c.client, c.server, 100'000, Duration::Seconds(200), sent));
  CloseAll(c);
}

TEST_P(Streams, ALostWindowUpdateIsNoDeadlock) {
  Build();
  const Connected c = Connect(GetParam());
  uint64_t sent = 0;
  for (int i = 0; i < 1000; ++i) {
    const long put = SendContent(c.client, 7, sent, 50'000);
    if (put < 0) break;
    sent += static_cast<uint64_t>(put);
    net().RunFor(Duration::Milliseconds(5));
  }
  net().RunFor(Duration::Seconds(1));
  net().up(1).impairment().loss = kMillion;  // what says "I have read" is lost
  uint64_t received = 0;
  long got;
  while ((got = ReceiveContent(c.server, 7, received)) > 0) received += static_cast<uint64_t>(got);
  net().up(1).impairment().loss = 0;
  const Instant until = net().now() + Duration::Seconds(150);
  while (received < sent && net().now() < until) {
    got = ReceiveContent(c.server, 7, received);
    if (got > 0) received += static_cast<uint64_t>(got);
    if (got <= 0 && !net().Step()) break;
  }
  EXPECT_EQ(received, sent);
  CloseAll(c);
}

TEST_P(Streams, AReaderOfSingleBytesCausesNoSillyWindows) {
  Build();
  Connected c = Connect(GetParam());
  ASSERT_TRUE(b().SetOption(*c.server, SOL_SOCKET, SO_RCVBUF, 4096).ok());
  Observe(0);
  Observe(1);
  uint64_t sent = 0, received = 0;
  while (received < 40'000) {
    const long put = SendContent(c.client, 7, sent, 5000);
    if (put > 0) sent += static_cast<uint64_t>(put);
    const long got = ReceiveContent(c.server, 7, received, 1);
    if (got > 0) received += static_cast<uint64_t>(got);
    if (got <= 0 && put <= 0 && !net().Step()) break;
  }
  // RFC 9293 3.8.6.2: the average segment must be a good part of what the window allows.
  EXPECT_LE(seen(0).size(), 400u);
  EXPECT_LE(seen(1).size(), 400u);
  Close(c.client);
  std::string text;
  while (Receive(c.server, &text) > 0) net().RunFor(Duration::Milliseconds(1));
  Close(c.server);
  Close(c.listener);
  ExpectClean(Duration::Seconds(400));
}

TEST_P(Streams, SmallWritesGatherWhileDataIsUnacknowledged) {
  TwoHostsOptions options;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(50);
  Build(options);
  const Connected c = Connect(GetParam());
  net().RunFor(Duration::Seconds(1));
  Observe(0);
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_EQ(SendContent(c.client, 7, i, 1), 1);
  net().RunFor(Duration::Seconds(1));
  const auto data = std::count_if(seen(0).begin(), seen(0).end(),
                                  [](const SeenSegment& s) { return s.payload > 0; });
  EXPECT_LE(data, 4) << "Nagle: one small segment in flight";
  EXPECT_EQ(ReceiveContent(c.server, 7, 0), 1000);
  CloseAll(c);
}

TEST_P(Streams, BulkIsAcknowledgedAboutEverySecondSegment) {
  TwoHostsOptions options;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(5);
  options.up_a.bits_per_second = 100'000'000;
  Build(options);
  const Connected c = Connect(GetParam());
  ASSERT_TRUE(Transfer(c.client, c.server, 1'000'000, Duration::Seconds(10)));
  Observe(0);
  Observe(1);
  ASSERT_TRUE(Transfer(c.client, c.server, 3'000'000, Duration::Seconds(10), 1'000'000));
  EXPECT_LE(seen(1).size(), seen(0).size() * 3 / 4);
  CloseAll(c);
}

TEST_P(Streams, RetransmissionsBackOffWhileNothingAnswers) {
  Build();
  const Connected c = Connect(GetParam());
  Observe(0, [](const SeenSegment&) { return true; });
  ASSERT_EQ(Send(c.client, "x"), 1);
  net().RunFor(Duration::Seconds(60));
  std::vector<Instant> at;
  for (const SeenSegment& s : seen(0)) {
    if (s.payload == 1) at.push_back(s.at);
  }
  ASSERT_GE(at.size(), 6u);
  // From the second timeout on (the first may be a tail loss probe): each wait twice the last.
  for (size_t i = 4; i < at.size(); ++i) {
    const double ratio = static_cast<double>((at[i] - at[i - 1]).nanoseconds) /
                         static_cast<double>((at[i - 1] - at[i - 2]).nanoseconds);
    EXPECT_NEAR(ratio, 2.0, 0.2) << i;
  }
  Observe(0);
  net().RunFor(Duration::Seconds(120));
  std::string text;
  EXPECT_EQ(Receive(c.server, &text), 1);
  CloseAll(c);
}

TEST_P(Streams, HeavyReorderingKeepsOrder) {
  TwoHostsOptions options;
  options.up_a.delay = Duration::Milliseconds(10);
  options.up_a.reorder = 500'000;
  options.up_a.duplicate = 100'000;
  options.up_a.reorder_delay = Duration::Milliseconds(20);
  Build(options);
  const Connected c = Connect(GetParam());
  EXPECT_TRUE(Transfer(c.client, c.server, 2'000'000, Duration::Seconds(300)));
  CloseAll(c);
}

TEST_P(Streams, NarrowHopsThatAnswerCostLittle) {
  TwoHostsOptions options;
  options.up_a.path_mtu = 1300;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(5);
  Build(options);
  const Connected c = Connect(GetParam());
  EXPECT_TRUE(Transfer(c.client, c.server, 500'000, Duration::Seconds(5)));
  CloseAll(c);
}

TEST_P(Streams, ADeviceThatRefusesKeepsOrderAndLosesNothing) {
  TwoHostsOptions options;
  options.up_a.bits_per_second = 20'000'000;
  options.up_a.queue_bytes = 10'000;
  options.up_a.backpressure = true;
  Build(options);
  const Connected c = Connect(GetParam());
  EXPECT_TRUE(Transfer(c.client, c.server, 3'000'000, Duration::Seconds(10)));
  EXPECT_EQ(Count(a(), Counter::kTcpRetransmittedSegments), 0u);
  CloseAll(c);
}

TEST_P(Streams, LargeSegmentsGoThroughWhole) {
  TwoHostsOptions options;
  options.device_a.transmit_checksum = options.device_b.transmit_checksum = true;
  options.device_a.tcp_segmentation_max = options.device_b.tcp_segmentation_max = 65535;
  options.pass_large = true;
  options.up_a.bits_per_second = 10'000'000'000;
  options.up_a.delay = Duration::Microseconds(50);
  Build(options);
  const Connected c = Connect(GetParam());
  Observe(0);
  EXPECT_TRUE(Transfer(c.client, c.server, 20'000'000, Duration::Seconds(5)));
  const auto large = std::count_if(seen(0).begin(), seen(0).end(),
                                   [](const SeenSegment& s) { return s.payload > 30'000; });
  EXPECT_GE(large, 200);
  CloseAll(c);
}

TEST_P(Streams, ASegmentLargerThanTheReceiveBufferGetsThrough) {
  // The window was promised before the program made its buffer small. One segment fills a large
  // buffer, and its retransmission is no smaller.
  TwoHostsOptions options;
  options.device_a.mtu = options.device_b.mtu = 65535;
  Build(options);
  const Connected c = Connect(GetParam());
  ASSERT_TRUE(b().SetOption(*c.server, SOL_SOCKET, SO_RCVBUF, 1).ok());
  EXPECT_TRUE(Transfer(c.client, c.server, 500'000, Duration::Seconds(100)));
  CloseAll(c);
}

TEST_P(Streams, UrgentByteIsReadApartFromTheStream) {
  Build();
  const Connected c = Connect(GetParam());
  b().SetInterest(*c.server, kEventPriority, kWatchEdge);
  ASSERT_EQ(Send(c.client, "ab"), 2);
  ASSERT_EQ(Send(c.client, "cU", MSG_OOB), 2);
  ASSERT_EQ(Send(c.client, "de"), 2);
  net().RunFor(Duration::Seconds(1));
  EXPECT_NE(manual_.seen & kEventPriority, 0u);
  std::string text;
  EXPECT_EQ(Receive(c.server, &text, 1, MSG_OOB), 1);
  EXPECT_EQ(text, "U");
  EXPECT_EQ(Receive(c.server, &text), 3) << "a read stops at the mark";
  EXPECT_EQ(text, "abc");
  const auto mark = b().stack().Ioctl(*c.server->socket, SIOCATMARK, net().now());
  ASSERT_TRUE(mark.ok());
  EXPECT_EQ(*mark, 1);
  EXPECT_EQ(Receive(c.server, &text), 2);
  EXPECT_EQ(text, "de");
  CloseAll(c);
}

TEST_P(Streams, UrgentPointerIsRepeatedUntilItIsAcknowledged) {
  Build();
  const Connected c = Connect(GetParam());
  int drops = 2;
  Observe(0, [&drops](const SeenSegment& s) { return (s.flags & kUrg) != 0 && drops-- > 0; });
  ASSERT_EQ(Send(c.client, "U", MSG_OOB), 1);
  net().RunFor(Duration::Seconds(10));
  std::string text;
  EXPECT_EQ(Receive(c.server, &text, 1, MSG_OOB), 1);
  CloseAll(c);
}

TEST_P(Streams, SequenceNumbersWrap) {
  Build();
  const Family family = GetParam();
  // RFC 6528: the initial sequence number of one four-tuple moves with the clock. Two connections
  // from one port tell how fast; the third is made when it is about to wrap.
  SimSocket* listener = Listen(b(), family, 80);
  std::vector<SeenSegment> syns;
  Observe(0);
  for (int round = 0; round < 3; ++round) {
    SimSocket* client = Open(a(), family);
    ASSERT_TRUE(a().SetOption(*client, SOL_SOCKET, SO_REUSEADDR, 1).ok());
    ASSERT_TRUE(a().Bind(*client, {a().address(family), 5000, 0}).ok());
    seen(0).clear();
    ASSERT_EQ(a().Connect(*client, {b().address(family), 80, 0}).error(), EINPROGRESS);
    net().Flush();
    net().RunFor(Duration::Milliseconds(100));
    SimSocket* server = TryAccept(listener);
    ASSERT_NE(server, nullptr);
    ASSERT_FALSE(seen(0).empty());
    ASSERT_NE(seen(0)[0].flags & kSyn, 0);
    syns.push_back(seen(0)[0]);
    if (round == 2) {
      EXPECT_GE(seen(0)[0].sequence, 0xfff00000u) << "the test missed the wrap";
      EXPECT_TRUE(Transfer(client, server, 5'000'000, Duration::Seconds(100)));
      EXPECT_TRUE(std::any_of(seen(0).begin(), seen(0).end(),
                              [](const SeenSegment& s) { return s.sequence < 0x01000000u; }));
    }
    Close(server);  // TIME_WAIT is B's
    net().RunFor(Duration::Milliseconds(10));
    Close(client);
    if (round == 0) net().RunFor(Duration::Seconds(100));
    if (round == 1) {
      const auto ticks = syns[1].sequence - syns[0].sequence;
      const double per_ns =
          static_cast<double>(ticks) / static_cast<double>((syns[1].at - syns[0].at).nanoseconds);
      const uint32_t left = 0u - syns[1].sequence - 0x10000u;
      // Never sooner than TIME_WAIT ends.
      double wait = static_cast<double>(left) / per_ns;
      while (wait < 100e9) wait += 4294967296.0 / per_ns;
      const Instant target = syns[1].at + Duration::Nanoseconds(static_cast<int64_t>(wait));
      net().RunUntilTime(target);
    }
  }
  Close(listener);
  ExpectClean();
}

TEST_P(Streams, KeepAliveNoticesAVanishedPeer) {
  Build();
  const Connected c = Connect(GetParam());
  ASSERT_TRUE(a().SetOption(*c.client, SOL_SOCKET, SO_KEEPALIVE, 1).ok());
  ASSERT_TRUE(a().SetOption(*c.client, IPPROTO_TCP, TCP_KEEPIDLE, 10).ok());
  ASSERT_TRUE(a().SetOption(*c.client, IPPROTO_TCP, TCP_KEEPINTVL, 2).ok());
  ASSERT_TRUE(a().SetOption(*c.client, IPPROTO_TCP, TCP_KEEPCNT, 3).ok());
  net().RunFor(Duration::Seconds(100));
  EXPECT_EQ(SoError(c.client), 0) << "a live peer answers";
  net().up(0).impairment().loss = kMillion;
  net().RunFor(Duration::Seconds(20));
  EXPECT_EQ(SoError(c.client), ETIMEDOUT);
  net().up(0).impairment().loss = 0;
  CloseAll(c);
}

}  // namespace
}  // namespace userstack::testing
