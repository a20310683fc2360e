// Opening and closing under every loss: SYN, SYN-ACK, last ACK, FIN; both ends at once; nobody
// there.
#include <algorithm>

#include "tests/sim/two_hosts.h"

namespace userstack::testing {
namespace {

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

class Handshake : public TwoHosts, public ::testing::WithParamInterface<Family> {};
INSTANTIATE_TEST_SUITE_P(Families, Handshake, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& info) {
                           return info.param == Family::kIpv4 ? "IPv4" : "IPv6";
                         });

// Drops the first `count` segments that carry all of `flags` and none of `without`.
auto DropFirst(int count, uint8_t flags, uint8_t without = 0) {
  return [count, flags, without](const SeenSegment& s) mutable {
    return (s.flags & flags) == flags && (s.flags & without) == 0 && count-- > 0;
  };
}

TEST_P(Handshake, ALostSynIsSentAgainAfterASecond) {
  Build();
  Observe(0, DropFirst(1, kSyn));
  const Instant begin = net().now();
  const Connected c = Connect(GetParam());
  ASSERT_NE(c.server, nullptr);
  EXPECT_GE(net().now() - begin, Duration::Milliseconds(900));
  EXPECT_LE(net().now() - begin, Duration::Milliseconds(1500));
  ASSERT_GE(seen(0).size(), 2u);
  EXPECT_EQ(seen(0)[0].sequence, seen(0)[1].sequence);
}

TEST_P(Handshake, ALostSynAckIsSentAgain) {
  Build();
  Observe(1, DropFirst(2, kSyn | kAck));
  const Connected c = Connect(GetParam());
  ASSERT_NE(c.server, nullptr);
  EXPECT_EQ(Send(c.client, "x"), 1);
  net().RunFor(Duration::Milliseconds(10));
  std::string text;
  EXPECT_EQ(Receive(c.server, &text), 1);
}

TEST_P(Handshake, DataReplacesALostLastAck) {
  Build();
  Observe(0, DropFirst(1, kAck, kSyn));
  const Connected c = Connect(GetParam());
  ASSERT_NE(c.server, nullptr);
  EXPECT_EQ(Send(c.client, "hello"), 5);
  net().RunFor(Duration::Milliseconds(10));
  std::string text;
  EXPECT_EQ(Receive(c.server, &text), 5);
  EXPECT_EQ(text, "hello");
}

TEST_P(Handshake, ConnectToAClosedPortIsRefused) {
  Build();
  SimSocket* client = Open(a(), GetParam());
  EXPECT_EQ(a().Connect(*client, {b().address(GetParam()), 81, 0}).error(), EINPROGRESS);
  net().Flush();
  net().RunFor(Duration::Milliseconds(100));
  EXPECT_EQ(SoError(client), ECONNREFUSED);
  Close(client);
  ExpectClean();
}

TEST_P(Handshake, ConnectToNobodyFailsForWantOfANeighbour) {
  Build();
  SimSocket* client = Open(a(), GetParam());
  IpAddress nobody = IpAddress::V4(0x0a0000c8);
  if (GetParam() == Family::kIpv6) {
    const uint8_t bytes[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200};
    nobody = IpAddress::V6FromBytes(bytes);
  }
  EXPECT_EQ(a().Connect(*client, {nobody, 80, 0}).error(), EINPROGRESS);
  net().Flush();
  net().RunFor(Duration::Seconds(10));
  EXPECT_EQ(SoError(client), EHOSTUNREACH);
  Close(client);
  ExpectClean();
}

TEST_P(Handshake, ConnectTimesOutWhenNothingAnswers) {
  Build();
  Observe(0, [](const SeenSegment&) { return true; });
  SimSocket* client = Open(a(), GetParam());
  EXPECT_EQ(a().Connect(*client, {b().address(GetParam()), 80, 0}).error(), EINPROGRESS);
  net().Flush();
  net().RunFor(Duration::Seconds(120));
  EXPECT_TRUE(a().stack().IsConnecting(*client->socket));
  net().RunFor(Duration::Seconds(20));
  EXPECT_EQ(SoError(client), ETIMEDOUT);
  // tcp_syn_retries: six more, each after twice the time.
  EXPECT_EQ(seen(0).size(), 7u);
  for (size_t i = 2; i < seen(0).size(); ++i) {
    const Duration gap = seen(0)[i].at - seen(0)[i - 1].at;
    const Duration last = seen(0)[i - 1].at - seen(0)[i - 2].at;
    EXPECT_NEAR(static_cast<double>(gap.milliseconds()),
                static_cast<double>(2 * last.milliseconds()), 10);
  }
  Close(client);
  ExpectClean();
}

TEST_P(Handshake, SimultaneousOpenMakesOneConnection) {
  TwoHostsOptions options;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(10);
  Build(options);
  Observe(0);
  Observe(1);
  const Family family = GetParam();
  SimSocket* left = Open(a(), family);
  SimSocket* right = Open(b(), family);
  ASSERT_TRUE(a().Bind(*left, {a().address(family), 1000, 0}).ok());
  ASSERT_TRUE(b().Bind(*right, {b().address(family), 2000, 0}).ok());
  // Neighbours are known beforehand, so that the SYNs cross.
  for (int attempt = 0; attempt < 2; ++attempt) {
    net().RunFor(Duration::Milliseconds(100));
    if (attempt == 0) {
      SimSocket* probe = Open(a(), family, SOCK_DGRAM);
      ASSERT_TRUE(a().SendTo(*probe, "x", 1, {b().address(family), 9, 0}).ok());
      net().Flush();
      net().RunFor(Duration::Milliseconds(100));
      Close(probe);
      continue;
    }
    EXPECT_EQ(a().Connect(*left, {b().address(family), 2000, 0}).error(), EINPROGRESS);
    EXPECT_EQ(b().Connect(*right, {a().address(family), 1000, 0}).error(), EINPROGRESS);
    net().Flush();
  }
  net().RunFor(Duration::Seconds(3));
  ASSERT_FALSE(seen(1).empty());
  EXPECT_EQ(seen(1)[0].flags & (kSyn | kAck), kSyn) << "the SYNs crossed";
  EXPECT_EQ(SoError(left), 0);
  EXPECT_EQ(SoError(right), 0);
  EXPECT_EQ(Send(left, "from a"), 6);
  EXPECT_EQ(Send(right, "from b"), 6);
  net().RunFor(Duration::Seconds(1));
  std::string text;
  EXPECT_EQ(Receive(left, &text), 6);
  EXPECT_EQ(text, "from b");
  EXPECT_EQ(Receive(right, &text), 6);
  EXPECT_EQ(text, "from a");
  Close(left);
  Close(right);
  ExpectClean();
}

TEST_P(Handshake, SimultaneousCloseEndsInTimeWaitAtBothEnds) {
  TwoHostsOptions options;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(10);
  Build(options);
  const Connected c = Connect(GetParam());
  net().RunFor(Duration::Seconds(1));
  EXPECT_EQ(Shutdown(c.client, SHUT_WR), 0);
  EXPECT_EQ(Shutdown(c.server, SHUT_WR), 0);
  net().RunFor(Duration::Seconds(1));
  std::string text;
  EXPECT_EQ(Receive(c.client, &text), 0);
  EXPECT_EQ(Receive(c.server, &text), 0);
  Close(c.client);
  Close(c.server);
  Close(c.listener);
  net().RunFor(Duration::Seconds(30));
  EXPECT_TRUE(a().stack().HasUnfinishedWork(true));
  EXPECT_TRUE(b().stack().HasUnfinishedWork(true));
  EXPECT_FALSE(a().stack().HasUnfinishedWork(false));
  ExpectClean();
}

TEST_P(Handshake, ALostFinIsSentAgain) {
  Build();
  const Connected c = Connect(GetParam());
  Observe(0, DropFirst(2, kFin));
  EXPECT_EQ(Send(c.client, "bye"), 3);
  Close(c.client);
  net().RunFor(Duration::Seconds(5));
  std::string text;
  EXPECT_EQ(Receive(c.server, &text), 3);
  EXPECT_EQ(Receive(c.server, &text), 0);
  Close(c.server);
  Close(c.listener);
  ExpectClean();
}

TEST_P(Handshake, ALostLastAckIsAnsweredFromTimeWait) {
  Build();
  const Connected c = Connect(GetParam());
  Close(c.client);  // A will be in TIME_WAIT
  net().RunFor(Duration::Milliseconds(100));
  Observe(0, DropFirst(1, kAck, kFin));
  Close(c.server);
  Close(c.listener);
  net().RunFor(Duration::Seconds(5));
  EXPECT_FALSE(b().stack().HasUnfinishedWork(true)) << "LAST_ACK got its acknowledgment";
  ExpectClean();
}

TEST_P(Handshake, AFinThatOvertakesDataWaitsForIt) {
  Build();
  const Connected c = Connect(GetParam());
  ASSERT_EQ(Send(c.client, "one"), 3);
  net().RunFor(Duration::Seconds(1));
  Observe(0, DropFirst(1, kAck, kFin));  // the next data segment is lost
  ASSERT_EQ(Send(c.client, "two"), 3);
  Close(c.client);
  net().RunFor(Duration::Milliseconds(50));
  std::string text;
  EXPECT_EQ(Receive(c.server, &text), 3);
  EXPECT_EQ(text, "one");
  EXPECT_EQ(Receive(c.server, &text), -EAGAIN) << "the end of stream must not overtake";
  net().RunFor(Duration::Seconds(5));
  EXPECT_EQ(Receive(c.server, &text), 3);
  EXPECT_EQ(text, "two");
  EXPECT_EQ(Receive(c.server, &text), 0);
  Close(c.server);
  Close(c.listener);
  ExpectClean();
}

TEST_P(Handshake, CloseWithUnreadDataResets) {
  Build();
  const Connected c = Connect(GetParam());
  ASSERT_EQ(Send(c.client, "unread"), 6);
  net().RunFor(Duration::Seconds(1));
  Observe(1);
  Close(c.server);
  net().RunFor(Duration::Seconds(1));
  EXPECT_TRUE(std::any_of(seen(1).begin(), seen(1).end(),
                          [](const SeenSegment& s) { return (s.flags & kRst) != 0; }));
  std::string text;
  EXPECT_EQ(Receive(c.client, &text), -ECONNRESET);
  Close(c.client);
  Close(c.listener);
  ExpectClean();
}

TEST_P(Handshake, APeerThatVanishedIsNoticedByRetransmission) {
  Build();
  const Connected c = Connect(GetParam());
  net().up(0).impairment().loss = kMillion;
  EXPECT_EQ(Send(c.client, "anybody?"), 8);
  net().RunFor(Duration::Seconds(2000));
  // Linux: tcp_write_err tells what was heard last; here that no neighbour answers.
  EXPECT_EQ(SoError(c.client), EHOSTUNREACH);
  Close(c.client);
  net().up(0).impairment().loss = 0;
  Close(c.server);
  Close(c.listener);
  ExpectClean(Duration::Seconds(400));
}

TEST_P(Handshake, AFullBacklogLosesNobody) {
  Build();
  SimSocket* listener = Listen(b(), GetParam(), 80, 2);
  std::vector<SimSocket*> clients, servers;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(Open(a(), GetParam()));
    EXPECT_EQ(a().Connect(*clients.back(), {b().address(GetParam()), 80, 0}).error(), EINPROGRESS);
  }
  net().Flush();
  net().RunFor(Duration::Milliseconds(10));
  // Who says nothing may be forgotten: a SYN cookie's ACK that finds the queue full leaves no
  // trace.
  for (SimSocket* client : clients) (void)Send(client, "x");
  net().RunFor(Duration::Seconds(1));
  for (SimSocket* client : clients) (void)Send(client, "x");
  size_t accepted = 0;
  for (int second = 0; second < 200 && accepted < clients.size(); ++second) {
    while (SimSocket* server = TryAccept(listener)) {
      ++accepted;
      servers.push_back(server);
    }
    net().RunFor(Duration::Seconds(1));
  }
  EXPECT_EQ(accepted, clients.size());
  for (SimSocket* server : servers) {
    std::string text;
    EXPECT_EQ(Receive(server, &text), 2);
    Close(server);
  }
  for (SimSocket* client : clients) {
    EXPECT_EQ(SoError(client), 0);
    Close(client);
  }
  Close(listener);
  ExpectClean();
}

}  // namespace
}  // namespace userstack::testing
