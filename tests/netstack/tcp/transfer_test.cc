// Two hosts on a wire: whole conversations, with and without loss and offload.
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

TEST(Transfer, ConnectsTransfersAndCloses) {
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

TEST(Transfer, WorksOverIpv6) {
  TcpPair pair(OffloadDevice(), 3, "fd00::1", "fd00::2");
  auto ends = pair.Connect();
  EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 1'000'000,
                            Duration::Seconds(20)));
}

TEST(Transfer, WorksWithoutOffload) {
  TcpPair pair(PlainDevice());
  auto ends = pair.Connect();
  EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 1'000'000,
                            Duration::Seconds(20)));
}

TEST(Transfer, WholeLargeSegmentsTravelUncutBetweenDevicesThatPassThem) {
  TcpPair pair;
  pair.cut = false;
  auto ends = pair.Connect();
  size_t largest = 0;
  pair.drop = [&](int, const WireFrame& frame) {
    largest = std::max(largest, frame.bytes.size());
    return false;
  };
  EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 8'000'000,
                            Duration::Seconds(20)));
  EXPECT_GT(largest, 60'000u);
  EXPECT_LE(largest, 65'549u);
}

TEST(Transfer, SurvivesLossInBothDirections) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    TcpPair pair(OffloadDevice(), seed);
    auto ends = pair.Connect();
    Random random(seed);
    pair.drop = [&](int, const WireFrame&) { return random.Below(100) < 3; };
    EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 500'000,
                              Duration::Seconds(600)))
        << "seed " << seed;
  }
}

TEST(Transfer, SurvivesHeavyLossOfLargeSegmentsPassedWhole) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    TcpPair pair(OffloadDevice(), seed);
    pair.cut = false;
    auto ends = pair.Connect();
    Random random(seed);
    pair.drop = [&](int, const WireFrame&) { return random.Below(100) < 10; };
    EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 1'000'000,
                              Duration::Seconds(2000)))
        << "seed " << seed;
  }
}

TEST(Transfer, UsesALongFatPath) {
  TcpPair pair;
  pair.set_delay(Duration::Milliseconds(25));
  auto ends = pair.Connect();
  const Instant begin = pair.now();
  EXPECT_TRUE(pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 20'000'000,
                            Duration::Seconds(60)));
  // Without loss the buffers grow until the window is several megabytes: 20 MB in well under the
  // 15 s that 64 KiB per 50 ms round trip would take.
  EXPECT_LT((pair.now() - begin).seconds(), 3);
}

TEST(Transfer, TheSameSeedGivesTheSameTrace) {
  std::vector<std::string> traces[2];
  for (auto& trace : traces) {
    TcpPair pair(OffloadDevice(), 42);
    auto ends = pair.Connect();
    Random random(42);
    pair.drop = [&](int, const WireFrame&) { return random.Below(100) < 5; };
    pair.Transfer(pair.a(), ends.client, pair.b(), ends.server, 200'000, Duration::Seconds(100));
    trace = pair.trace;
  }
  EXPECT_EQ(traces[0], traces[1]);
}

TEST(Transfer, AFullInterfaceQueueHoldsConnectionsBackAndLosesNothing) {
  TcpPair pair(PlainDevice());
  auto first = pair.Connect();
  std::vector<TcpHost::Socket*> clients;
  for (int i = 0; i < 80; ++i) {
    clients.push_back(pair.a().Open());
    EXPECT_EQ(pair.a()
                  .tcp()
                  .Connect(*clients.back()->connection, {pair.b().address(), 80, 0}, pair.now())
                  .error(),
              EINPROGRESS);
    pair.RunFor(Duration::Milliseconds(1));
    EXPECT_NE(pair.b().Accept(first.listener, pair.now()), nullptr);
  }
  // Ten segments each, far more than the queue takes, and nobody empties it meanwhile.
  const std::string data(10 * 1448, 'x');
  for (auto* c : clients) EXPECT_EQ(pair.a().Send(c, data, pair.now()), 14480);
  EXPECT_TRUE(pair.a().ip().IsCongested(kWireInterface));
  const auto unsent = [&] {
    uint32_t sum = 0;
    for (auto* c : clients) sum += pair.a().tcp().BytesInSendQueue(*c->connection);
    return sum;
  };
  EXPECT_TRUE(pair.RunUntil([&] { return unsent() == 0; }, Duration::Seconds(2)));
  EXPECT_EQ(pair.a().Count(Counter::kTcpRetransmittedSegments), 0u);
}

TEST(Transfer, NothingIsLeftAfterManyConnections) {
  TcpPair pair;
  auto ends = pair.Connect();
  const uint64_t buffers = pair.a().core().buffers.bytes_in_use();
  for (int i = 0; i < 300; ++i) {
    TcpHost::Socket* client = pair.a().Open();
    ASSERT_NE(client, nullptr);
    ASSERT_EQ(pair.a()
                  .tcp()
                  .Connect(*client->connection, {pair.b().address(), 80, 0}, pair.now())
                  .error(),
              EINPROGRESS);
    TcpHost::Socket* server = nullptr;
    ASSERT_TRUE(pair.RunUntil(
        [&] { return (server = pair.b().Accept(ends.listener, pair.now())) != nullptr; },
        Duration::Seconds(1)));
    ASSERT_TRUE(pair.Transfer(pair.a(), client, pair.b(), server, 1000, Duration::Seconds(1)));
    pair.b().Close(server, pair.now());
    pair.RunFor(Duration::Milliseconds(1));
    pair.a().Close(client, pair.now());
    pair.RunFor(Duration::Milliseconds(1));
  }
  EXPECT_EQ(pair.b().tcp().UnfinishedCount(true), 300u);
  EXPECT_EQ(pair.a().tcp().UnfinishedCount(true), 0u);
  pair.RunFor(Duration::Seconds(70));
  EXPECT_EQ(pair.b().tcp().UnfinishedCount(true), 0u);
  EXPECT_EQ(pair.a().core().buffers.bytes_in_use(), buffers);
}

}  // namespace
}  // namespace userstack::testing
