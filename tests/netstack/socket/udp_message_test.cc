// UDP: ancillary data, asynchronous errors, broadcast and multicast.
#include <gtest/gtest.h>
#include <linux/errqueue.h>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

class UdpMessageTest : public StackTest {
 protected:
  Sock Server(int domain = AF_INET) {
    Sock s = Open(b(), domain, SOCK_DGRAM);
    EXPECT_EQ(Bind(s, At(domain == AF_INET ? "0.0.0.0" : "::", 7)), 0);
    return s;
  }
  long Join(const Sock& s, const char* group, const char* address, int index = 0) {
    ip_mreqn request{};
    std::memcpy(&request.imr_multiaddr, Parse(group).v4_bytes(), 4);
    std::memcpy(&request.imr_address, Parse(address).v4_bytes(), 4);
    request.imr_ifindex = index;
    return SetBytes(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request);
  }
  long Leave(const Sock& s, const char* group) {
    ip_mreq request{};
    std::memcpy(&request.imr_multiaddr, Parse(group).v4_bytes(), 4);
    return SetBytes(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &request, sizeof request);
  }
  long Source(const Sock& s, int name, const char* group, const char* source) {
    ip_mreq_source request{};
    std::memcpy(&request.imr_multiaddr, Parse(group).v4_bytes(), 4);
    std::memcpy(&request.imr_interface, Parse("10.0.0.2").v4_bytes(), 4);
    std::memcpy(&request.imr_sourceaddr, Parse(source).v4_bytes(), 4);
    return SetBytes(s, IPPROTO_IP, name, &request, sizeof request);
  }
  long Join6(const Sock& s, const char* group, unsigned index, int name = IPV6_JOIN_GROUP) {
    ipv6_mreq request{};
    std::memcpy(&request.ipv6mr_multiaddr, Parse(group).v6_bytes(), 16);
    request.ipv6mr_interface = index;
    return SetBytes(s, IPPROTO_IPV6, name, &request, sizeof request);
  }
};

TEST_F(UdpMessageTest, PacketInfoTellsWhereADatagramCame) {
  Sock server = Server();
  ASSERT_EQ(Set(server, IPPROTO_IP, IP_PKTINFO, 1), 0);
  Sock client = Udp4(a());
  SendTo(client, "x", At("10.0.0.2", 7));
  Datagram got = Receive(server);
  EXPECT_EQ(got.ancillary.present, Ancillary::kPacketInfo);
  EXPECT_EQ(got.ancillary.packet_destination, Parse("10.0.0.2"));
  EXPECT_EQ(got.ancillary.packet_local, Parse("10.0.0.2"));
  EXPECT_EQ(got.ancillary.packet_interface, kWireInterface);
  Set(client, SOL_SOCKET, SO_BROADCAST, 1);
  SendTo(client, "x", At("10.0.0.255", 7));
  got = Receive(server);
  EXPECT_EQ(got.ancillary.packet_destination, Parse("10.0.0.255"));
  EXPECT_EQ(got.ancillary.packet_local, Parse("10.0.0.2")) << "the address to answer from";
}

TEST_F(UdpMessageTest, PacketInfoOfBothFamiliesOnADualStackSocket) {
  Sock server = Server(AF_INET6);
  ASSERT_EQ(Set(server, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), 0);
  Sock client = Udp6(a());
  SendTo(client, "x", At("fd00::2", 7));
  Datagram got = Receive(server);
  EXPECT_EQ(got.ancillary.present, Ancillary::kPacketInfo);
  EXPECT_EQ(got.ancillary.packet_destination, Parse("fd00::2"));
  SendTo(client, "x", At("::ffff:10.0.0.2", 7));
  got = Receive(server);
  EXPECT_EQ(got.ancillary.present, Ancillary::kPacketInfo);
  EXPECT_EQ(got.ancillary.packet_destination, Parse("10.0.0.2"));
  ASSERT_EQ(Set(server, IPPROTO_IP, IP_PKTINFO, 1), 0);
  SendTo(client, "x", At("::ffff:10.0.0.2", 7));
  EXPECT_EQ(Receive(server).ancillary.present, Ancillary::kPacketInfo | Ancillary::kPacketInfoV4);
}

TEST_F(UdpMessageTest, PacketInfoChoosesTheSourceOfASend) {
  ASSERT_TRUE(a().stack->ip().AddAddress(kWireInterface, {Parse("10.0.0.77"), 24}, now()).ok());
  Sock server = Server();
  Sock client = Udp4(a());
  Ancillary ancillary;
  ancillary.present = Ancillary::kPacketInfo;
  ancillary.packet_destination = Parse("10.0.0.77");
  EXPECT_EQ(SendTo(client, "x", At("10.0.0.2", 7), 0, &ancillary), 1);
  EXPECT_EQ(Receive(server).from.substr(0, 10), "10.0.0.77:");
  EXPECT_EQ(SendTo(client, "x", At("10.0.0.2", 7)), 1);
  EXPECT_EQ(Receive(server).from.substr(0, 9), "10.0.0.1:");
  ancillary.packet_destination = Parse("10.0.0.99");
  EXPECT_LT(SendTo(client, "x", At("10.0.0.2", 7), 0, &ancillary), 0) << "not an address of ours";
}

TEST_F(UdpMessageTest, TtlAndTosTravelBothWays) {
  Sock server = Server();
  Set(server, IPPROTO_IP, IP_RECVTTL, 1);
  Set(server, IPPROTO_IP, IP_RECVTOS, 1);
  Sock client = Udp4(a());
  SendTo(client, "x", At("10.0.0.2", 7));
  Datagram got = Receive(server);
  EXPECT_EQ(got.ancillary.present, Ancillary::kTtl | Ancillary::kTrafficClass);
  EXPECT_EQ(got.ancillary.ttl, 64);
  EXPECT_EQ(got.ancillary.traffic_class, 0);
  Set(client, IPPROTO_IP, IP_TTL, 9);
  Set(client, IPPROTO_IP, IP_TOS, 0x2d);
  SendTo(client, "x", At("10.0.0.2", 7));
  got = Receive(server);
  EXPECT_EQ(got.ancillary.ttl, 9);
  EXPECT_EQ(got.ancillary.traffic_class, 0x2d);
  Ancillary ancillary;
  ancillary.present = Ancillary::kTtl | Ancillary::kTrafficClass;
  ancillary.ttl = 33;
  ancillary.traffic_class = 0x10;
  SendTo(client, "x", At("10.0.0.2", 7), 0, &ancillary);
  got = Receive(server);
  EXPECT_EQ(got.ancillary.ttl, 33);
  EXPECT_EQ(got.ancillary.traffic_class, 0x10);
}

TEST_F(UdpMessageTest, HopLimitAndTrafficClassTravelBothWays) {
  Sock server = Server(AF_INET6);
  Set(server, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
  Set(server, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  Sock client = Udp6(a());
  Set(client, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5);
  Set(client, IPPROTO_IPV6, IPV6_TCLASS, 0x88);
  SendTo(client, "x", At("fd00::2", 7));
  const Datagram got = Receive(server);
  EXPECT_EQ(got.ancillary.present, Ancillary::kTtl | Ancillary::kTrafficClass);
  EXPECT_EQ(got.ancillary.ttl, 5);
  EXPECT_EQ(got.ancillary.traffic_class, 0x88);
}

TEST_F(UdpMessageTest, TimestampsAreTimesOfArrival) {
  Sock server = Server();
  Set(server, SOL_SOCKET, SO_TIMESTAMP, 1);
  Sock client = Udp4(a());
  SendTo(client, "x", At("10.0.0.2", 7));
  const Instant sent = now();
  Run(Duration::Seconds(5));
  const Datagram got = Receive(server);
  EXPECT_EQ(got.ancillary.present, Ancillary::kTimestamp);
  EXPECT_EQ(got.ancillary.timestamp, sent);
}

TEST_F(UdpMessageTest, AConnectedSocketHearsThatThePortIsClosed) {
  for (const bool v6 : {false, true}) {
    Sock client = v6 ? Udp6(a()) : Udp4(a());
    ASSERT_EQ(Connect(client, At(v6 ? "fd00::2" : "10.0.0.2", 9)), 0);
    EXPECT_EQ(Send(client, "x"), 1);
    EXPECT_NE(Events(client) & kEventError, 0u);
    EXPECT_EQ(Send(client, "x"), -ECONNREFUSED);
    EXPECT_EQ(Events(client) & kEventError, 0u);
    EXPECT_EQ(Send(client, "x"), 1) << "it is told once";
    EXPECT_EQ(Receive(client).result, -ECONNREFUSED);
    EXPECT_EQ(Receive(client).result, -EAGAIN);
    EXPECT_EQ(Send(client, "x"), 1);
    EXPECT_EQ(Get(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    EXPECT_EQ(Get(client, SOL_SOCKET, SO_ERROR), 0);
    Run(Duration::Seconds(2));
  }
}

TEST_F(UdpMessageTest, AnUnconnectedSocketHearsNothingWithoutRecvErr) {
  Sock client = Udp4(a());
  EXPECT_EQ(SendTo(client, "x", At("10.0.0.2", 9)), 1);
  EXPECT_EQ(Events(client) & kEventError, 0u);
  EXPECT_EQ(SendTo(client, "x", At("10.0.0.2", 9)), 1);
}

TEST_F(UdpMessageTest, RecvErrKeepsTheErrorWithWhatWasSent) {
  for (const bool v6 : {false, true}) {
    Sock client = v6 ? Udp6(a()) : Udp4(a());
    const int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    ASSERT_EQ(Set(client, level, v6 ? IPV6_RECVERR : IP_RECVERR, 1), 0);
    EXPECT_EQ(SendTo(client, "question", At(v6 ? "fd00::2" : "10.0.0.2", 9)), 8);
    EXPECT_NE(Events(client) & kEventError, 0u);
    const Datagram error = Receive(client, MSG_ERRQUEUE | MSG_DONTWAIT);
    EXPECT_EQ(error.text, "question");
    EXPECT_EQ(error.from, v6 ? "[fd00::2]:9" : "10.0.0.2:9");
    EXPECT_EQ(error.flags, MSG_ERRQUEUE);
    const Ancillary& e = error.ancillary;
    EXPECT_EQ(e.present & Ancillary::kError, Ancillary::kError);
    EXPECT_EQ(e.error, ECONNREFUSED);
    EXPECT_EQ(e.error_origin, v6 ? SO_EE_ORIGIN_ICMP6 : SO_EE_ORIGIN_ICMP);
    EXPECT_EQ(e.error_type, v6 ? 1 : 3);
    EXPECT_EQ(e.error_code, v6 ? 4 : 3);
    EXPECT_EQ(e.error_offender.address, Parse(v6 ? "fd00::2" : "10.0.0.2"));
    EXPECT_EQ(Events(client) & kEventError, 0u) << "reading the queue clears SO_ERROR too";
    EXPECT_EQ(Receive(client, MSG_ERRQUEUE).result, -EAGAIN);
    EXPECT_EQ(SendTo(client, "again", At(v6 ? "fd00::2" : "10.0.0.2", 9)), 5);
    EXPECT_EQ(Set(client, level, v6 ? IPV6_RECVERR : IP_RECVERR, 0), 0);
    EXPECT_EQ(Receive(client, MSG_ERRQUEUE).result, -EAGAIN) << "turning it off empties the queue";
    Run(Duration::Seconds(2));
  }
}

TEST_F(UdpMessageTest, TheErrorQueueIsBounded) {
  Sock client = Udp4(a());
  Set(client, IPPROTO_IP, IP_RECVERR, 1);
  ASSERT_EQ(Set(client, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO), 0);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(SendTo(client, std::string(2000, 'x'), At("10.0.0.2", 9)), -EMSGSIZE);
  }
  int kept = 0;
  while (Receive(client, MSG_ERRQUEUE).result >= 0) ++kept;
  EXPECT_TRUE(kept > 10 && kept <= 256) << kept;
}

TEST_F(UdpMessageTest, AnUnreachableNeighbourIsAnError) {
  Sock client = Udp4(a());
  ASSERT_EQ(Connect(client, At("10.0.0.200", 9)), 0);
  Set(client, IPPROTO_IP, IP_RECVERR, 1);
  EXPECT_EQ(Send(client, "x"), 1);
  Run(Duration::Seconds(10));
  EXPECT_EQ(Get(client, SOL_SOCKET, SO_ERROR), EHOSTUNREACH);
}

TEST_F(UdpMessageTest, BroadcastNeedsLeaveAndReachesEveryListener) {
  Sock first = Server(), client = Udp4(a()), second = Udp4(b()), particular = Udp4(b());
  Set(first, SOL_SOCKET, SO_REUSEADDR, 1);
  for (const Sock& s : {second, particular}) Set(s, SOL_SOCKET, SO_REUSEADDR, 1);
  ASSERT_EQ(Bind(second, At("10.0.0.255", 7)), 0) << "a broadcast address may be bound";
  ASSERT_EQ(Bind(particular, At("10.0.0.2", 7)), 0);
  EXPECT_EQ(SendTo(client, "x", At("10.0.0.255", 7)), -EACCES);
  EXPECT_EQ(SendTo(client, "x", At("255.255.255.255", 7)), -ENETUNREACH) << "no default route";
  EXPECT_EQ(Connect(client, At("10.0.0.255", 7)), -EACCES);
  ASSERT_EQ(Set(client, SOL_SOCKET, SO_BROADCAST, 1), 0);
  EXPECT_EQ(SendTo(client, "all", At("10.0.0.255", 7)), 3);
  EXPECT_EQ(Receive(first).text, "all");
  EXPECT_EQ(Receive(second).text, "all");
  EXPECT_EQ(Receive(particular).result, -EAGAIN) << "it listens for its own address";
  TakeFrames(b());
  SendTo(client, "nobody", At("10.0.0.255", 9));
  Run(Duration::Milliseconds(100));
  EXPECT_TRUE(TakeFrames(b()).empty()) << "no error about a broadcast";
}

TEST_F(UdpMessageTest, GroupsAreHeardByMembersOnly) {
  Sock member = Server();
  Sock sender = Udp4(a());
  ASSERT_EQ(Set(sender, IPPROTO_IP, IP_MULTICAST_IF, 0), 0);
  in_addr own;
  std::memcpy(&own, Parse("10.0.0.1").v4_bytes(), 4);
  ASSERT_EQ(SetBytes(sender, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own), 0);
  Set(member, IPPROTO_IP, IP_MULTICAST_ALL, 0);
  EXPECT_EQ(SendTo(sender, "before", At("239.1.2.3", 7)), 6);
  EXPECT_EQ(Receive(member).result, -EAGAIN);
  ASSERT_EQ(Join(member, "239.1.2.3", "10.0.0.2"), 0);
  EXPECT_EQ(Join(member, "239.1.2.3", "10.0.0.2"), -EADDRINUSE);
  EXPECT_EQ(Join(member, "10.1.2.3", "10.0.0.2"), -EINVAL);
  EXPECT_EQ(Join(member, "239.1.2.4", "10.0.0.99"), -ENODEV);
  EXPECT_EQ(SendTo(sender, "member", At("239.1.2.3", 7)), 6);
  EXPECT_EQ(Receive(member).text, "member");
  Sock neutral = Udp4(b());
  Set(neutral, SOL_SOCKET, SO_REUSEADDR, 1);
  Set(member, SOL_SOCKET, SO_REUSEADDR, 1);
  ASSERT_EQ(Bind(neutral, At("0.0.0.0", 7)), 0);
  SendTo(sender, "both", At("239.1.2.3", 7));
  EXPECT_EQ(Receive(member).text, "both");
  EXPECT_EQ(Receive(neutral).text, "both") << "IP_MULTICAST_ALL: what anybody joined";
  EXPECT_EQ(Leave(member, "239.1.2.3"), 0);
  EXPECT_EQ(Leave(member, "239.1.2.3"), -EADDRNOTAVAIL);
  SendTo(sender, "gone", At("239.1.2.3", 7));
  EXPECT_EQ(Receive(member).result, -EAGAIN);
  EXPECT_EQ(Receive(neutral).result, -EAGAIN);
}

TEST_F(UdpMessageTest, ClosingASocketLeavesItsGroups) {
  Sock first = Udp4(b()), second = Udp4(b());
  ASSERT_EQ(Join(first, "239.1.2.3", "10.0.0.2"), 0);
  ASSERT_EQ(Join(second, "239.1.2.3", "0.0.0.0", 2), 0);
  Sock listener = Server();
  Sock sender = Udp4(a());
  in_addr own;
  std::memcpy(&own, Parse("10.0.0.1").v4_bytes(), 4);
  SetBytes(sender, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own);
  Close(&first);
  SendTo(sender, "1", At("239.1.2.3", 7));
  EXPECT_EQ(Receive(listener).text, "1");
  Close(&second);
  SendTo(sender, "2", At("239.1.2.3", 7));
  EXPECT_EQ(Receive(listener).result, -EAGAIN);
}

TEST_F(UdpMessageTest, MulticastOptionsShapeWhatIsSent) {
  Sock member = Udp4(a());
  ASSERT_EQ(Bind(member, At("239.1.2.3", 7)), 0) << "a group may be bound";
  ASSERT_EQ(Join(member, "239.1.2.3", "10.0.0.1"), 0);
  Sock remote = Server();
  Set(remote, IPPROTO_IP, IP_RECVTTL, 1);
  ASSERT_EQ(Join(remote, "239.1.2.3", "10.0.0.2"), 0);
  ip_mreqn way{};
  way.imr_ifindex = 2;
  ASSERT_EQ(SetBytes(member, IPPROTO_IP, IP_MULTICAST_IF, &way, sizeof way), 0);
  SendTo(member, "looped", At("239.1.2.3", 7));
  EXPECT_EQ(Receive(member).text, "looped");
  Datagram got = Receive(remote);
  EXPECT_EQ(got.ancillary.ttl, 1);
  EXPECT_EQ(got.from, "10.0.0.1:7") << "a group is no source";
  Set(member, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
  Set(member, IPPROTO_IP, IP_MULTICAST_TTL, 17);
  SendTo(member, "once", At("239.1.2.3", 7));
  EXPECT_EQ(Receive(member).result, -EAGAIN);
  EXPECT_EQ(Receive(remote).ancillary.ttl, 17);
}

TEST_F(UdpMessageTest, SourceFiltersIncludeAndBlock) {
  Sock member = Server();
  Set(member, IPPROTO_IP, IP_MULTICAST_ALL, 0);
  Sock sender = Udp4(a());
  in_addr own;
  std::memcpy(&own, Parse("10.0.0.1").v4_bytes(), 4);
  SetBytes(sender, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own);
  const auto heard = [&] {
    SendTo(sender, "x", At("239.1.2.3", 7));
    return Receive(member).result == 1;
  };
  EXPECT_EQ(Source(member, IP_DROP_SOURCE_MEMBERSHIP, "239.1.2.3", "10.0.0.1"), -EADDRNOTAVAIL);
  EXPECT_EQ(Source(member, IP_ADD_SOURCE_MEMBERSHIP, "239.1.2.3", "10.0.0.50"), 0);
  EXPECT_FALSE(heard());
  EXPECT_EQ(Source(member, IP_ADD_SOURCE_MEMBERSHIP, "239.1.2.3", "10.0.0.1"), 0);
  EXPECT_TRUE(heard());
  EXPECT_EQ(Source(member, IP_DROP_SOURCE_MEMBERSHIP, "239.1.2.3", "10.0.0.50"), 0);
  EXPECT_TRUE(heard());
  EXPECT_EQ(Source(member, IP_DROP_SOURCE_MEMBERSHIP, "239.1.2.3", "10.0.0.1"), 0);
  EXPECT_FALSE(heard());
  EXPECT_EQ(Leave(member, "239.1.2.3"), -EADDRNOTAVAIL) << "the last source took the group along";
  ASSERT_EQ(Join(member, "239.1.2.3", "10.0.0.2"), 0);
  EXPECT_TRUE(heard());
  EXPECT_EQ(Source(member, IP_BLOCK_SOURCE, "239.1.2.3", "10.0.0.1"), 0);
  EXPECT_FALSE(heard());
  EXPECT_EQ(Source(member, IP_BLOCK_SOURCE, "239.1.2.3", "10.0.0.1"), -EADDRNOTAVAIL);
  EXPECT_EQ(Source(member, IP_UNBLOCK_SOURCE, "239.1.2.3", "10.0.0.1"), 0);
  EXPECT_TRUE(heard());
}

TEST_F(UdpMessageTest, Ipv6GroupsAreHeardByMembersOnly) {
  Sock member = Server(AF_INET6);
  Sock sender = Udp6(a());
  Set(member, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
  ASSERT_EQ(Set(sender, IPPROTO_IPV6, IPV6_MULTICAST_IF, 2), 0);
  EXPECT_EQ(Set(sender, IPPROTO_IPV6, IPV6_MULTICAST_IF, 9), -ENODEV);
  EXPECT_EQ(SendTo(sender, "before", At("ff05::123", 7)), 6);
  EXPECT_EQ(Receive(member).result, -EAGAIN);
  ASSERT_EQ(Join6(member, "ff05::123", 2), 0);
  EXPECT_EQ(Join6(member, "ff05::123", 2), -EADDRINUSE);
  EXPECT_EQ(Join6(member, "fd00::123", 2), -EINVAL);
  EXPECT_EQ(Join6(member, "ff05::124", 9), -ENODEV);
  EXPECT_EQ(SendTo(sender, "member", At("ff05::123", 7)), 6);
  EXPECT_EQ(Receive(member).text, "member");
  EXPECT_EQ(Join6(member, "ff05::123", 2, IPV6_LEAVE_GROUP), 0);
  SendTo(sender, "gone", At("ff05::123", 7));
  EXPECT_EQ(Receive(member).result, -EAGAIN);
  group_req request{};
  request.gr_interface = 2;
  const Name group = At("ff05::123", 0);
  std::memcpy(&request.gr_group, &group.storage, sizeof request.gr_group);
  EXPECT_EQ(SetBytes(member, IPPROTO_IPV6, MCAST_JOIN_GROUP, &request, sizeof request), 0);
  SendTo(sender, "again", At("ff05::123", 7));
  EXPECT_EQ(Receive(member).text, "again");
}

TEST_F(UdpMessageTest, ASmallerPathMtuIsBelievedAndTold) {
  Server();
  Sock client = Udp4(a());
  ASSERT_EQ(Connect(client, At("10.0.0.2", 7)), 0);
  Set(client, IPPROTO_IP, IP_RECVERR, 1);
  ASSERT_EQ(Set(client, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO), 0);
  ASSERT_EQ(Send(client, "resolve"), 7);
  TakeFrames(a());
  ASSERT_EQ(Send(client, std::string(1400, 'x')), 1400);
  const auto frames = TakeFrames(a());
  ASSERT_EQ(frames.size(), 1u);
  // Fragmentation needed, MTU 1000, quoting that packet.
  std::vector<uint8_t> bytes(frames[0].begin(), frames[0].begin() + 14);
  std::swap_ranges(bytes.begin(), bytes.begin() + 6, bytes.begin() + 6);
  bytes.resize(14 + 28);
  bytes[14] = 0x45;
  Store16(&bytes[16], 28 + 28);
  bytes[22] = 64;
  bytes[23] = 1;
  Store32(&bytes[26], 0x0a000002);
  Store32(&bytes[30], 0x0a000001);
  bytes[34] = 3;
  bytes[35] = 4;
  Store16(&bytes[40], 1000);
  bytes.insert(bytes.end(), frames[0].begin() + 14, frames[0].begin() + 14 + 28);
  testing::FixChecksums(&bytes);
  Packet* packet = testing::Deliver(a().stack->core(), {bytes, {}}, kWireInterface, now(), {});
  a().stack->Input(&packet, 1, now());
  Pump();
  EXPECT_EQ(Get(client, IPPROTO_IP, IP_MTU), 1000);
  const Datagram error = Receive(client, MSG_ERRQUEUE);
  EXPECT_EQ(error.ancillary.error, EMSGSIZE);
  EXPECT_EQ(error.ancillary.error_info, 1000u);
  EXPECT_EQ(error.ancillary.error_origin, SO_EE_ORIGIN_ICMP);
  EXPECT_EQ(Send(client, std::string(1400, 'x')), -EMSGSIZE);
  EXPECT_EQ(Send(client, std::string(972, 'x')), 972);
}

}  // namespace
}  // namespace userstack
