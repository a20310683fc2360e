// Opening and closing, options, simultaneous open and close.
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

TEST(TcpPairTest, ConnectsTransfersAndCloses) {
  TcpPair pair;
  auto ends = pair.Connect();
  EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 3'000'000,
                            Duration::Seconds(20)));
  EXPECT_TRUE(pair.Transfer(pair.b(), ends.server, pair.a(), ends.client, 3'000'000,
                            Duration::Seconds(20)));
  pair.a().Close(ends.client, pair.now());
  pair.RunFor(Duration::Milliseconds(500));
  std::string data;
  EXPECT_EQ(pair.b().Receive(ends.server, &data, 10, pair.now()), 0);
  pair.b().Close(ends.server, pair.now());
  pair.RunFor(Duration::Milliseconds(500));
  EXPECT_EQ(pair.a().tcp().UnfinishedCount(true), 1u);  // TIME-WAIT at the active closer
  EXPECT_EQ(pair.b().tcp().UnfinishedCount(true), 0u);
  pair.RunFor(Duration::Seconds(61));
  EXPECT_EQ(pair.a().tcp().UnfinishedCount(true), 0u);
}

TEST(TcpPairTest, WorksOverIpv6) {
  TcpPair pair(OffloadDevice(), 3, "fd00::1", "fd00::2");
  auto ends = pair.Connect();
  EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 1'000'000,
                            Duration::Seconds(20)));
}

TEST(TcpPairTest, SurvivesLossInBothDirections) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    TcpPair pair(OffloadDevice(), seed);
    auto ends = pair.Connect();
    Random random(seed);
    pair.drop = [&](int, const WireFrame&) { return random.Below(100) < 3; };
    EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 500'000,
                              Duration::Seconds(600)))
        << "seed " << seed;
  }
}

TEST_F(TcpScript, OffersItsOptionsInASyn) {
  TcpHost::Socket* s = host().Open();
  EXPECT_EQ(tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now()).error(),
            EINPROGRESS);
  const Seg syn = Out();
  EXPECT_EQ(syn.flags, kTcpSyn);
  EXPECT_EQ(syn.window, 64240);
  EXPECT_EQ(syn.options.maximum_segment_size, 1460);
  EXPECT_TRUE(syn.options.sack_permitted);
  EXPECT_TRUE(syn.options.has_timestamps);
  EXPECT_EQ(syn.options.window_scale, 7);
}

TEST_F(TcpScript, CarriesDataAndAcknowledges) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("hello");
  EXPECT_EQ(Read(s), "hello");
  const Seg ack = Out();
  EXPECT_EQ(ack.acknowledgment, kPeerInitial + 6);
  EXPECT_EQ(Write(s, "world"), 5);
  const Seg data = Out();
  EXPECT_EQ(data.payload, "world");
  EXPECT_TRUE(data.Has(kTcpPush));
}

}  // namespace
}  // namespace userstack::testing
