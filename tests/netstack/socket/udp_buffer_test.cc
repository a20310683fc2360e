// UDP sockets: receive and send buffers, corks, segments.
#include <gtest/gtest.h>
#include <netinet/udp.h>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

constexpr EventMask kWritable = kEventOut | kEventWriteNormal | kEventWriteBand;

class UdpBufferTest : public StackTest {
 protected:
  // A server on b, port 7, on every address.
  Sock Server() {
    Sock s = Udp4(b());
    EXPECT_EQ(Bind(s, At("0.0.0.0", 7)), 0);
    return s;
  }
  uint64_t Count(Node& node, Counter counter) { return node.stack->core().counters.Get(counter); }
};

TEST_F(UdpBufferTest, TheReceiveBufferIsBoundedAndCountsWhatItDrops) {
  Sock server = Server();
  Set(server, SOL_SOCKET, SO_RCVBUF, 4000);
  EXPECT_EQ(Get(server, SOL_SOCKET, SO_RCVBUF), 8000);
  Set(server, SOL_SOCKET, SO_RXQ_OVFL, 1);
  Sock client = Udp4(a());
  for (int i = 0; i < 20; ++i) SendTo(client, std::string(1000, 'x'), At("10.0.0.2", 7));
  int received = 0;
  uint32_t dropped = 0;
  for (Datagram got = Receive(server); got.result == 1000; got = Receive(server)) {
    ++received;
    dropped = got.ancillary.drop_count;
  }
  EXPECT_TRUE(received >= 4 && received <= 6) << received;
  EXPECT_EQ(dropped, 20u - static_cast<unsigned>(received));
  EXPECT_EQ(Count(b(), Counter::kUdpReceiveBufferErrors), dropped);
  SendTo(client, "again", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(server).text, "again");
}

TEST_F(UdpBufferTest, TheSendBufferFillsWhileTheDeviceIsBusyAndEmptiesWithIt) {
  Sock server = Server();
  Sock client = Udp4(a());
  ASSERT_EQ(Connect(client, At("10.0.0.2", 7)), 0);
  ASSERT_EQ(Send(client, "resolve"), 7);
  Set(client, SOL_SOCKET, SO_SNDBUF, 5000);
  wire_runs_ = false;
  int sent = 0;
  while (Send(client, std::string(1000, 'x')) == 1000 && sent < 100) ++sent;
  EXPECT_TRUE(sent >= 6 && sent <= 10) << sent;
  EXPECT_EQ(Send(client, "x"), -EAGAIN);
  EXPECT_EQ(Events(client) & kWritable, 0u);
  wire_runs_ = true;
  Pump();
  EXPECT_EQ(Events(client) & kWritable, kWritable);
  EXPECT_EQ(Send(client, "x"), 1);
  int received = 0;
  while (Receive(server).result >= 0) ++received;
  EXPECT_EQ(received, sent + 2);
}

TEST_F(UdpBufferTest, ACongestedInterfaceIsBackpressure) {
  Server();
  std::vector<Sock> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(Udp4(a()));
    ASSERT_EQ(Connect(clients.back(), At("10.0.0.2", 7)), 0);
    ASSERT_EQ(Send(clients.back(), "x"), 1);
  }
  wire_runs_ = false;
  int refused = 0;
  for (int round = 0; round < 200 && refused < 8; ++round) {
    refused = 0;
    for (Sock& c : clients) refused += Send(c, "x") == -EAGAIN ? 1 : 0;
  }
  EXPECT_EQ(refused, 8);
  EXPECT_LT(a().stack->core().frames.live(), 600u) << "nobody's buffer was full, the queue was";
  for (Sock& c : clients) EXPECT_EQ(Events(c) & kWritable, 0u);
  wire_runs_ = true;
  Pump();
  for (Sock& c : clients) EXPECT_EQ(Events(c) & kWritable, kWritable);
  for (Sock& c : clients) EXPECT_EQ(Send(c, "x"), 1);
}

TEST_F(UdpBufferTest, ASocketMayCloseBeforeItsFramesLeave) {
  Sock server = Server();
  Sock client = Udp4(a());
  ASSERT_EQ(Connect(client, At("10.0.0.2", 7)), 0);
  Send(client, "1");
  wire_runs_ = false;
  Send(client, "2");
  Close(&client);
  EXPECT_TRUE(a().stack->HasUnfinishedWork(false));
  wire_runs_ = true;
  Pump();
  EXPECT_FALSE(a().stack->HasUnfinishedWork(true));
  EXPECT_EQ(Receive(server).text, "1");
  EXPECT_EQ(Receive(server).text, "2");
  EXPECT_EQ(a().stack->core().frames.live(), 0u);
}

TEST_F(UdpBufferTest, CorkGathersOneDatagram) {
  Sock server = Server();
  Sock client = Udp4(a());
  EXPECT_EQ(SendTo(client, "one ", At("10.0.0.2", 7), MSG_MORE), 4);
  EXPECT_EQ(SendTo(client, std::string(3000, '-'), At("10.0.0.2", 8), MSG_MORE), 3000)
      << "the first destination holds";
  EXPECT_EQ(Receive(server).result, -EAGAIN);
  EXPECT_EQ(Send(client, " two"), 4) << "no destination is needed any more";
  EXPECT_EQ(Receive(server).text, "one " + std::string(3000, '-') + " two");

  ASSERT_EQ(Set(client, IPPROTO_UDP, UDP_CORK, 1), 0);
  EXPECT_EQ(Get(client, IPPROTO_UDP, UDP_CORK), 1);
  EXPECT_EQ(SendTo(client, "a", At("10.0.0.2", 7)), 1);
  EXPECT_EQ(Send(client, "b"), 1);
  EXPECT_EQ(Receive(server).result, -EAGAIN);
  ASSERT_EQ(Set(client, IPPROTO_UDP, UDP_CORK, 0), 0);
  EXPECT_EQ(Receive(server).text, "ab");

  EXPECT_EQ(SendTo(client, "lost", At("10.0.0.2", 7), MSG_MORE), 4);
  EXPECT_EQ(Send(client, std::string(65507, 'x')), -EMSGSIZE) << "and the whole is dropped";
  EXPECT_EQ(SendTo(client, "next", At("10.0.0.2", 7)), 4);
  EXPECT_EQ(Receive(server).text, "next");
  EXPECT_EQ(SendTo(client, "pending", At("10.0.0.2", 7), MSG_MORE), 7);
  Close(&client);
  EXPECT_EQ(a().stack->core().frames.live(), 0u);
}

TEST_F(UdpBufferTest, SegmentsAreCutBySizeWithOrWithoutTheDevice) {
  for (const bool offload : {false, true}) {
    SCOPED_TRACE(offload);
    Options options;
    options.device.udp_segmentation = offload;
    options.device.transmit_checksum = offload;
    Build(options);
    Sock server = Server();
    Sock client = Udp4(a());
    ASSERT_EQ(Set(client, IPPROTO_UDP, UDP_SEGMENT, 1000), 0);
    std::string text;
    for (int i = 0; i < 10500; ++i) text += static_cast<char>(i % 251);
    EXPECT_EQ(SendTo(client, text, At("10.0.0.2", 7)), 10500);
    for (size_t i = 0; i < 11; ++i) EXPECT_EQ(Receive(server).text, text.substr(i * 1000, 1000));
    EXPECT_EQ(Receive(server).result, -EAGAIN);
    // By ancillary data, for one call; and with pieces that do not line up with buffers.
    Ancillary ancillary;
    ancillary.present = Ancillary::kGroSegment;
    ancillary.segment_size = 7;
    EXPECT_EQ(SendTo(client, text.substr(0, 50), At("10.0.0.2", 7), 0, &ancillary), 50);
    for (size_t i = 0; i < 8; ++i)
      EXPECT_EQ(Receive(server).text, text.substr(i * 7, i < 7 ? 7 : 1));
    EXPECT_EQ(SendTo(client, std::string(500, 'x'), At("10.0.0.2", 7)), 500) << "less than one";
    EXPECT_EQ(Receive(server).result, 500);
    EXPECT_EQ(Set(client, IPPROTO_UDP, UDP_SEGMENT, 70000), -EINVAL);
    EXPECT_EQ(Set(client, IPPROTO_UDP, UDP_SEGMENT, 1473), 0);
    EXPECT_EQ(SendTo(client, text, At("10.0.0.2", 7)), -EINVAL) << "a segment beyond the MTU";
    EXPECT_EQ(Set(client, IPPROTO_UDP, UDP_SEGMENT, 10), 0);
    EXPECT_EQ(SendTo(client, std::string(641, 'x'), At("10.0.0.2", 7)), -EINVAL) << "more than 64";
  }
}

TEST_F(UdpBufferTest, MergedDatagramsAreReadOneByOneUnlessAskedForWhole) {
  Sock client = Udp4(a());
  Set(client, IPPROTO_UDP, UDP_SEGMENT, 100);
  // On the internal loopback of one stack, a segmented send stays merged.
  for (const bool merged : {false, true}) {
    Sock local = Udp4(a());
    ASSERT_EQ(Bind(local, At("127.0.0.1", 7)), 0);
    Set(local, IPPROTO_UDP, UDP_GRO, merged);
    EXPECT_EQ(SendTo(client, std::string(250, 'm'), At("127.0.0.1", 7)), 250);
    std::vector<long> sizes;
    for (Datagram got = Receive(local); got.result >= 0; got = Receive(local)) {
      sizes.push_back(got.result);
      if (got.result > 100) {
        EXPECT_EQ(got.ancillary.segment_size, 100);
      }
    }
    if (sizes.size() == 1) {
      EXPECT_EQ(sizes[0], 250);
    } else {
      EXPECT_EQ(sizes, (std::vector<long>{100, 100, 50}));
    }
    if (!merged) {
      EXPECT_EQ(sizes.size(), 3u);
    }
    Close(&local);
  }
}

}  // namespace
}  // namespace userstack
