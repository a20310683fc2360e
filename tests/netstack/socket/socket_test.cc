// Socket options and names: values, lengths and errors as Linux has them.
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

class SocketTest : public StackTest {
 protected:
  // getsockopt with a given room: the value's length, or -errno.
  long GetBytes(const Sock& s, int level, int name, void* value, socklen_t room) {
    socklen_t length = room;
    const Status status = s.node->stack->GetOption(*s.raw, level, name, value, &length, now());
    return status.ok() ? static_cast<long>(length) : -status.error();
  }
};

TEST_F(SocketTest, FlagsAreKeptAsZeroOrOne) {
  const int flags[] = {SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE,       SO_BROADCAST,
                       SO_DONTROUTE, SO_OOBINLINE, SO_TIMESTAMP,       SO_TIMESTAMPNS,
                       SO_NO_CHECK,  SO_RXQ_OVFL,  SO_SELECT_ERR_QUEUE};
  for (const bool tcp : {false, true}) {
    Sock s = tcp ? Tcp4(a()) : Udp4(a());
    for (const int flag : flags) {
      SCOPED_TRACE(flag);
      EXPECT_EQ(Get(s, SOL_SOCKET, flag), 0);
      EXPECT_EQ(Set(s, SOL_SOCKET, flag, 77), 0);
      EXPECT_EQ(Get(s, SOL_SOCKET, flag), 1);
      EXPECT_EQ(Set(s, SOL_SOCKET, flag, 0), 0);
      EXPECT_EQ(Get(s, SOL_SOCKET, flag), 0);
      const char byte = 1;
      EXPECT_EQ(SetBytes(s, SOL_SOCKET, flag, &byte, 1), -EINVAL);
    }
    Close(&s);
  }
}

TEST_F(SocketTest, WhatASocketIsCanBeAskedAndNotChanged) {
  Sock tcp = Tcp4(a()), udp = Udp6(a());
  EXPECT_EQ(Get(tcp, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(Get(tcp, SOL_SOCKET, SO_DOMAIN), AF_INET);
  EXPECT_EQ(Get(tcp, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(Get(udp, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
  EXPECT_EQ(Get(udp, SOL_SOCKET, SO_DOMAIN), AF_INET6);
  EXPECT_EQ(Get(udp, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
  for (const int name : {SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN}) {
    EXPECT_EQ(Set(tcp, SOL_SOCKET, name, 1), -ENOPROTOOPT) << name;
  }
  EXPECT_EQ(Get(tcp, SOL_SOCKET, SO_ACCEPTCONN), 0);
  ASSERT_EQ(Bind(tcp, At("10.0.0.1", 80)), 0);
  ASSERT_EQ(Listen(tcp), 0);
  EXPECT_EQ(Get(tcp, SOL_SOCKET, SO_ACCEPTCONN), 1);
}

TEST_F(SocketTest, BuffersAreDoubledAndBounded) {
  Sock s = Udp4(a());
  EXPECT_EQ(Get(s, SOL_SOCKET, SO_SNDBUF), 212992);
  EXPECT_EQ(Get(s, SOL_SOCKET, SO_RCVBUF), 212992);
  for (const int name : {SO_SNDBUF, SO_RCVBUF}) {
    EXPECT_EQ(Set(s, SOL_SOCKET, name, 10000), 0);
    EXPECT_EQ(Get(s, SOL_SOCKET, name), 20000);
    EXPECT_EQ(Set(s, SOL_SOCKET, name, 0), 0);
    EXPECT_EQ(Get(s, SOL_SOCKET, name), name == SO_SNDBUF ? 4608 : 2304);
    EXPECT_EQ(Set(s, SOL_SOCKET, name, 1 << 30), 0);
    EXPECT_EQ(Get(s, SOL_SOCKET, name), 2 * 212992);
  }
  EXPECT_EQ(Set(s, SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20), 0);
  EXPECT_EQ(Get(s, SOL_SOCKET, SO_RCVBUF), 2 << 20);
}

TEST_F(SocketTest, LingerIsAStructure) {
  Sock s = Tcp4(a());
  linger value{1, 9};
  EXPECT_EQ(SetBytes(s, SOL_SOCKET, SO_LINGER, &value, 4), -EINVAL);
  EXPECT_EQ(SetBytes(s, SOL_SOCKET, SO_LINGER, &value, sizeof value), 0);
  linger got{};
  EXPECT_EQ(GetBytes(s, SOL_SOCKET, SO_LINGER, &got, sizeof got), 8);
  EXPECT_EQ(got.l_onoff, 1);
  EXPECT_EQ(got.l_linger, 9);
}

TEST_F(SocketTest, ValuesAreCutToTheRoomGiven) {
  Sock s = Udp4(a());
  Set(s, SOL_SOCKET, SO_RCVBUF, 0x8000);
  uint8_t bytes[8] = {0, 0, 0xee};
  EXPECT_EQ(GetBytes(s, SOL_SOCKET, SO_RCVBUF, bytes, 2), 2);
  EXPECT_EQ(bytes[2], 0xee);
  EXPECT_EQ(GetBytes(s, SOL_SOCKET, SO_RCVBUF, bytes, 8), 4);
  EXPECT_EQ(GetBytes(s, IPPROTO_IP, IP_TTL, bytes, 1), 1) << "IPPROTO_IP gives one byte";
  EXPECT_EQ(bytes[0], 64);
}

TEST_F(SocketTest, WhatNobodyWouldCarryOutIsRefused) {
  Sock s = Udp4(a());
  for (const int name :
       {SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ZEROCOPY, SO_TXTIME, SO_PEEK_OFF, SO_TIMESTAMPING}) {
    EXPECT_EQ(Set(s, SOL_SOCKET, name, 1), -EOPNOTSUPP) << name;
  }
  EXPECT_EQ(Set(s, SOL_SOCKET, SO_DETACH_FILTER, 1), -ENOENT);
  EXPECT_EQ(Set(s, SOL_SOCKET, 9999, 1), -ENOPROTOOPT);
  EXPECT_EQ(Get(s, SOL_SOCKET, 9999), -ENOPROTOOPT);
  EXPECT_EQ(Set(s, SOL_SOCKET, SO_RCVTIMEO, 1), -ENOPROTOOPT) << "the embedder's";
}

TEST_F(SocketTest, CookiesAreUniqueAndSteady) {
  Sock first = Udp4(a()), second = Udp4(a());
  uint64_t x = 0, y = 0, again = 0;
  EXPECT_EQ(GetBytes(first, SOL_SOCKET, SO_COOKIE, &x, 4), -EINVAL);
  EXPECT_EQ(GetBytes(first, SOL_SOCKET, SO_COOKIE, &x, 8), 8);
  EXPECT_EQ(GetBytes(second, SOL_SOCKET, SO_COOKIE, &y, 8), 8);
  EXPECT_EQ(GetBytes(first, SOL_SOCKET, SO_COOKIE, &again, 8), 8);
  EXPECT_NE(x, y);
  EXPECT_EQ(x, again);
}

TEST_F(SocketTest, IpIntegersHaveLinuxRanges) {
  Sock udp = Udp4(a()), tcp = Tcp4(a());
  struct Case {
    int name;
    int value;
    long expected;
  };
  for (const Case& c : {Case{IP_TTL, 0, -EINVAL}, Case{IP_TTL, 256, -EINVAL}, Case{IP_TTL, 255, 0},
                        Case{IP_TTL, -1, 0}, Case{IP_MULTICAST_TTL, 256, -EINVAL},
                        Case{IP_MULTICAST_TTL, 0, 0}, Case{IP_MULTICAST_TTL, -1, 0},
                        Case{IP_MTU_DISCOVER, 6, -EINVAL}, Case{IP_MTU_DISCOVER, -1, -EINVAL},
                        Case{IP_MTU_DISCOVER, IP_PMTUDISC_OMIT, 0}, Case{IP_MINTTL, 256, -EINVAL},
                        Case{IP_MULTICAST_ALL, 2, -EINVAL}, Case{9999, 1, -ENOPROTOOPT}}) {
    EXPECT_EQ(Set(udp, IPPROTO_IP, c.name, c.value), c.expected) << c.name << " " << c.value;
  }
  EXPECT_EQ(Get(udp, IPPROTO_IP, IP_TTL), 64) << "-1 is the default again";
  const uint8_t byte = 7;
  EXPECT_EQ(SetBytes(udp, IPPROTO_IP, IP_TTL, &byte, 1), 0) << "one byte will do";
  EXPECT_EQ(Get(udp, IPPROTO_IP, IP_TTL), 7);
  EXPECT_EQ(SetBytes(udp, IPPROTO_IP, IP_TTL, &byte, 0), -EINVAL);
  EXPECT_EQ(Set(tcp, IPPROTO_IP, IP_MULTICAST_TTL, 1), -EINVAL) << "not on a stream";
  EXPECT_EQ(Set(tcp, IPPROTO_IP, IP_TOS, 0x13), 0);
  EXPECT_EQ(Get(tcp, IPPROTO_IP, IP_TOS), 0x10) << "the ECN bits are TCP's";
  EXPECT_EQ(Get(udp, IPPROTO_IP, IP_MTU), -ENOTCONN);
}

TEST_F(SocketTest, Ipv6OptionsHaveLinuxRangesAndLevels) {
  Sock six = Udp6(a()), four = Udp4(a()), tcp6 = Tcp6(a());
  EXPECT_EQ(Set(four, IPPROTO_IPV6, IPV6_V6ONLY, 1), -ENOPROTOOPT);
  EXPECT_EQ(Get(four, IPPROTO_IPV6, IPV6_V6ONLY), -EOPNOTSUPP);
  EXPECT_EQ(Get(six, IPPROTO_TCP, TCP_NODELAY), -ENOPROTOOPT);
  EXPECT_EQ(Set(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256), -EINVAL);
  EXPECT_EQ(Set(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1), 0);
  EXPECT_EQ(Get(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
  EXPECT_EQ(Set(six, IPPROTO_IPV6, IPV6_TCLASS, 256), -EINVAL);
  EXPECT_EQ(Set(six, IPPROTO_IPV6, IPV6_MTU, 1279), -EINVAL);
  EXPECT_EQ(Set(six, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 2), -EINVAL);
  EXPECT_EQ(Set(tcp6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1), -ENOPROTOOPT);
  const uint8_t byte = 1;
  EXPECT_EQ(SetBytes(six, IPPROTO_IPV6, IPV6_V6ONLY, &byte, 1), -EINVAL);
  EXPECT_EQ(Get(six, IPPROTO_IPV6, IPV6_V6ONLY), 0) << "a refused call changes nothing";
  EXPECT_EQ(SetBytes(six, IPPROTO_IPV6, 9999, &byte, 1), -ENOPROTOOPT);
  EXPECT_EQ(Set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
  ASSERT_EQ(Bind(six, At("::", 99)), 0);
  EXPECT_EQ(Set(six, IPPROTO_IPV6, IPV6_V6ONLY, 0), -EINVAL) << "too late";
  EXPECT_EQ(Set(tcp6, IPPROTO_IP, IP_TOS, 0x10), 0) << "IPv4 options reach an IPv6 socket";
}

TEST_F(SocketTest, LevelsOfOtherTransportsAreUnknown) {
  Sock udp = Udp4(a()), tcp = Tcp4(a());
  EXPECT_EQ(Set(udp, IPPROTO_TCP, TCP_NODELAY, 1), -ENOPROTOOPT);
  EXPECT_EQ(Get(udp, IPPROTO_TCP, TCP_NODELAY), -EOPNOTSUPP);
  EXPECT_EQ(Set(tcp, IPPROTO_UDP, UDP_CORK, 1), -ENOPROTOOPT);
  EXPECT_EQ(Set(tcp, IPPROTO_TCP, TCP_NODELAY, 1), 0);
  EXPECT_EQ(Get(tcp, IPPROTO_TCP, TCP_NODELAY), 1);
}

TEST_F(SocketTest, CallsThatAKindOfSocketDoesNotKnowAreRefused) {
  Sock udp = Udp4(a()), tcp = Tcp4(a());
  Sock out;
  EXPECT_EQ(Listen(udp), -EOPNOTSUPP);
  EXPECT_EQ(Accept(udp, &out), -EOPNOTSUPP);
  EXPECT_EQ(Accept(tcp, &out), -EINVAL);
  EXPECT_EQ(Shutdown(tcp, 7), -EINVAL);
  EXPECT_EQ(PeerName(tcp), "ENOTCONN");
}

TEST_F(SocketTest, AShortAddressIsRefusedAndAShortBufferIsCut) {
  Sock tcp = Tcp4(a()), tcp6 = Tcp6(a());
  Name name = At("10.0.0.2", 80);
  name.length = 1;
  EXPECT_EQ(Connect(tcp, name), -EINVAL);
  name.length = 15;
  EXPECT_EQ(Connect(tcp, name), -EINVAL);
  EXPECT_EQ(Connect(tcp, At("fd00::2", 80)), -EAFNOSUPPORT);
  Name six = At("fd00::2", 80);
  six.length = 23;
  EXPECT_EQ(Connect(tcp6, six), -EINVAL);
  uint8_t bytes[16];
  std::fill(std::begin(bytes), std::end(bytes), uint8_t{0xee});
  socklen_t length = 4;
  ASSERT_TRUE(a().stack->LocalName(*tcp.raw, reinterpret_cast<sockaddr*>(bytes), &length).ok());
  EXPECT_EQ(length, sizeof(sockaddr_in)) << "the whole size is told";
  EXPECT_EQ(bytes[4], 0xee);
}

TEST_F(SocketTest, DisconnectingAStreamMakesItNew) {
  Sock listener = Tcp4(b());
  ASSERT_EQ(Bind(listener, At("10.0.0.2", 80)), 0);
  ASSERT_EQ(Listen(listener), 0);
  Sock client = Tcp4(a());
  Set(client, SOL_SOCKET, SO_KEEPALIVE, 1);
  ASSERT_EQ(Connect(client, At("10.0.0.2", 80)), -EINPROGRESS);
  Sock server;
  ASSERT_EQ(Accept(listener, &server), 0);
  EXPECT_EQ(Connect(client, At("", 0)), 0);
  EXPECT_EQ(PeerName(client), "ENOTCONN");
  EXPECT_EQ(Receive(server).result, -ECONNRESET);
  EXPECT_EQ(Get(client, SOL_SOCKET, SO_KEEPALIVE), 1);
  linger value{};
  EXPECT_EQ(GetBytes(client, SOL_SOCKET, SO_LINGER, &value, sizeof value), 8);
  EXPECT_EQ(value.l_onoff, 0) << "how the old one was reset stays with the old one";
  EXPECT_EQ(Connect(client, At("10.0.0.2", 80)), -EINPROGRESS);
}

}  // namespace
}  // namespace userstack
