// Raw and ping sockets.
#include <gtest/gtest.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

constexpr int kSolRaw = 255;
constexpr int kIcmpFilter = 1;  // linux/icmp.h: ICMP_FILTER

std::string Echo(uint8_t type, uint16_t identifier, const std::string& payload) {
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(type);
  Store16(reinterpret_cast<uint8_t*>(&bytes[4]), identifier);
  Store16(reinterpret_cast<uint8_t*>(&bytes[6]), 1);
  return bytes + payload;
}
uint8_t Byte(const std::string& text, size_t at) { return static_cast<uint8_t>(text.at(at)); }

class RawTest : public StackTest {};

TEST_F(RawTest, APingSocketHearsItsOwnReplies) {
  for (const bool v6 : {false, true}) {
    SCOPED_TRACE(v6);
    const int domain = v6 ? AF_INET6 : AF_INET;
    Sock ping = Open(a(), domain, SOCK_DGRAM, v6 ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP});
    Sock other = Open(a(), domain, SOCK_DGRAM, v6 ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP});
    EXPECT_EQ(Get(ping, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    const uint8_t request = v6 ? 128 : 8, reply = v6 ? 129 : 0;
    const Name b = At(v6 ? "fd00::2" : "10.0.0.2", 0);
    EXPECT_EQ(SendTo(ping, Echo(request, 0, "payload"), b), 15);
    Datagram got = Receive(ping);
    ASSERT_EQ(got.text.size(), 15u);
    EXPECT_EQ(Byte(got.text, 0), reply);
    EXPECT_EQ(got.text.substr(8), "payload");
    EXPECT_EQ(got.from, v6 ? "[fd00::2]:0" : "10.0.0.2:0");
    const uint16_t identifier = Load16(reinterpret_cast<const uint8_t*>(&got.text[4]));
    const std::string name = LocalName(ping);
    EXPECT_EQ(name.substr(name.rfind(':') + 1), std::to_string(identifier));
    EXPECT_EQ(Receive(other).result, -EAGAIN);
    // Long ones, which are cut into fragments on the way.
    EXPECT_EQ(SendTo(ping, Echo(request, 0, std::string(20000, 'p')), b), 20008);
    EXPECT_EQ(Receive(ping).text.substr(8), std::string(20000, 'p'));
    // To itself.
    EXPECT_EQ(SendTo(ping, Echo(request, 0, "self"), At(v6 ? "::1" : "127.0.0.1", 0)), 12);
    EXPECT_EQ(Receive(ping).text.substr(8), "self");
    EXPECT_EQ(SendTo(ping, Echo(reply, 0, "x"), b), -EINVAL) << "requests only";
    EXPECT_EQ(SendTo(ping, "short", b), -EINVAL);
    Close(&ping);
    Close(&other);
  }
}

TEST_F(RawTest, PingIdentifiersAreBoundLikePorts) {
  Sock first = Open(a(), AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  Sock second = Open(a(), AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  EXPECT_EQ(Bind(first, At("0.0.0.0", 77)), 0);
  EXPECT_EQ(LocalName(first), "0.0.0.0:77");
  EXPECT_EQ(Bind(second, At("0.0.0.0", 77)), -EADDRINUSE);
  EXPECT_EQ(Bind(second, At("10.0.0.1", 0)), 0);
}

TEST_F(RawTest, APingSocketHearsErrorsAboutItsRequests) {
  Sock ping = Open(a(), AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  Set(ping, IPPROTO_IP, IP_RECVERR, 1);
  EXPECT_EQ(SendTo(ping, Echo(8, 0, "x"), At("10.0.0.200", 0)), 9);
  Run(Duration::Seconds(10));
  const Datagram error = Receive(ping, MSG_ERRQUEUE);
  EXPECT_EQ(error.ancillary.error, EHOSTUNREACH);
}

TEST_F(RawTest, ARawIpv4SocketSeesTheWholePacketOfItsProtocol) {
  Sock raw = Open(b(), AF_INET, SOCK_RAW, IPPROTO_UDP);
  EXPECT_EQ(Get(raw, SOL_SOCKET, SO_TYPE), SOCK_RAW);
  EXPECT_EQ(LocalName(raw), "0.0.0.0:17");
  Sock server = Udp4(b());
  ASSERT_EQ(Bind(server, At("10.0.0.2", 7)), 0);
  Sock client = Udp4(a());
  SendTo(client, "both", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(server).text, "both");
  const Datagram got = Receive(raw);
  ASSERT_EQ(got.text.size(), 20u + 8 + 4);
  EXPECT_EQ(Byte(got.text, 0), 0x45);
  EXPECT_EQ(Byte(got.text, 9), 17);
  EXPECT_EQ(got.text.substr(28), "both");
  EXPECT_EQ(got.from, "10.0.0.1:0");
  ASSERT_EQ(Connect(raw, At("10.0.0.77", 0)), 0);
  SendTo(client, "not from there", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(raw).result, -EAGAIN);
}

TEST_F(RawTest, RawSocketsSpeakAnyProtocol) {
  for (const bool v6 : {false, true}) {
    Sock sender = Open(a(), v6 ? AF_INET6 : AF_INET, SOCK_RAW, 200);
    Sock receiver = Open(b(), v6 ? AF_INET6 : AF_INET, SOCK_RAW, 200);
    for (const size_t size : {0, 1, 63, 64, 65, 1000, 30000}) {
      EXPECT_EQ(SendTo(sender, std::string(size, 'r'), At(v6 ? "fd00::2" : "10.0.0.2", 0)),
                static_cast<long>(size));
      const Datagram got = Receive(receiver);
      EXPECT_EQ(got.result, static_cast<long>(size) + (v6 ? 0 : 20)) << size;
    }
    EXPECT_EQ(Send(sender, "x"), -EDESTADDRREQ);
    Close(&sender);
    Close(&receiver);
  }
  EXPECT_EQ(OpenError(a(), AF_INET, SOCK_RAW, 0), EPROTONOSUPPORT);
}

TEST_F(RawTest, AnIncludedHeaderSaysHowThePacketTravels) {
  Sock sender = Open(a(), AF_INET, SOCK_RAW, IPPROTO_RAW);
  EXPECT_EQ(Get(sender, IPPROTO_IP, IP_HDRINCL), 1);
  Sock receiver = Open(b(), AF_INET, SOCK_RAW, 201);
  std::string packet(20, '\0');
  packet[0] = 0x45;
  packet[1] = 0x20;
  packet[8] = 33;
  packet[9] = static_cast<char>(201);
  Store32(reinterpret_cast<uint8_t*>(&packet[12]), 0x0a00004d);  // a source of its own
  Store32(reinterpret_cast<uint8_t*>(&packet[16]), 0x0a000002);
  packet += "inside";
  EXPECT_EQ(SendTo(sender, packet, At("10.0.0.2", 0)), 26);
  const Datagram got = Receive(receiver);
  ASSERT_EQ(got.text.size(), 26u);
  EXPECT_EQ(Byte(got.text, 1), 0x20);
  EXPECT_EQ(Byte(got.text, 8), 33);
  EXPECT_EQ(got.from, "10.0.0.77:0");
  EXPECT_EQ(SendTo(sender, packet.substr(0, 10), At("10.0.0.2", 0)), -EINVAL);
  EXPECT_EQ(SendTo(sender, packet + std::string(1500, 'x'), At("10.0.0.2", 0)), -EMSGSIZE);
}

TEST_F(RawTest, FiltersHideIcmpTypes) {
  Sock raw = Open(b(), AF_INET, SOCK_RAW, IPPROTO_ICMP);
  Sock ping = Open(a(), AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  SendTo(ping, Echo(8, 0, "1"), At("10.0.0.2", 0));
  EXPECT_EQ(Receive(raw).result, 20 + 9);
  const uint32_t hide_requests = 1u << 8;
  ASSERT_EQ(SetBytes(raw, kSolRaw, kIcmpFilter, &hide_requests, 4), 0);
  SendTo(ping, Echo(8, 0, "2"), At("10.0.0.2", 0));
  EXPECT_EQ(Receive(raw).result, -EAGAIN);
  Sock udp_raw = Open(b(), AF_INET, SOCK_RAW, IPPROTO_UDP);
  EXPECT_EQ(SetBytes(udp_raw, kSolRaw, kIcmpFilter, &hide_requests, 4), -EOPNOTSUPP);

  Sock raw6 = Open(b(), AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
  Sock ping6 = Open(a(), AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
  icmp6_filter filter;
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ASSERT_EQ(SetBytes(raw6, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter), 0);
  SendTo(ping6, Echo(128, 0, "1"), At("fd00::2", 0));
  EXPECT_EQ(Receive(raw6).result, -EAGAIN);
  ICMP6_FILTER_SETPASS(128, &filter);
  ASSERT_EQ(SetBytes(raw6, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter), 0);
  SendTo(ping6, Echo(128, 0, "2"), At("fd00::2", 0));
  EXPECT_EQ(Receive(raw6).result, 9);
}

TEST_F(RawTest, ARawIcmpSocketPingsAndSeesErrorMessages) {
  Sock raw = Open(a(), AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
  EXPECT_EQ(SendTo(raw, Echo(128, 77, "raw"), At("fd00::2", 0)), 11) << "summed for the program";
  Datagram got = Receive(raw);
  EXPECT_EQ(Byte(got.text, 0), 129);
  Sock raw4 = Open(a(), AF_INET, SOCK_RAW, IPPROTO_ICMP);
  Sock udp = Udp4(a());
  SendTo(udp, "x", At("10.0.0.2", 9));
  got = Receive(raw4);
  ASSERT_GT(got.text.size(), 28u);
  EXPECT_EQ(Byte(got.text, 20), 3) << "traceroute lives on this";
  EXPECT_EQ(Byte(got.text, 21), 3);
}

TEST_F(RawTest, AChecksumOffsetSumsAndVerifies) {
  Sock sender = Open(a(), AF_INET6, SOCK_RAW, 200);
  Sock receiver = Open(b(), AF_INET6, SOCK_RAW, 200);
  EXPECT_EQ(Set(sender, IPPROTO_IPV6, IPV6_CHECKSUM, 3), -EINVAL);
  ASSERT_EQ(Set(sender, IPPROTO_IPV6, IPV6_CHECKSUM, 4), 0);
  ASSERT_EQ(Set(receiver, IPPROTO_IPV6, IPV6_CHECKSUM, 4), 0);
  EXPECT_EQ(SendTo(sender, std::string(100, 'c'), At("fd00::2", 0)), 100);
  EXPECT_EQ(Receive(receiver).result, 100);
  ASSERT_EQ(Set(sender, IPPROTO_IPV6, IPV6_CHECKSUM, -1), 0);
  EXPECT_EQ(SendTo(sender, std::string(100, 'c'), At("fd00::2", 0)), 100);
  EXPECT_EQ(Receive(receiver).result, -EAGAIN) << "a wrong sum is dropped";
}

}  // namespace
}  // namespace userstack
