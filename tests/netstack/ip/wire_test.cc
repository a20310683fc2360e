// Wire formats: real byte strings against values, and bytes that lie about themselves.
#include "netstack/wire/tcp.h"
#include "netstack/wire/udp.h"
#include "tests/netstack/ip/fixture.h"

namespace userstack::testing {
namespace {

// SYN-ACK of a Linux server, as captured.
const char kSynAck[] =
    "01bb c6f2 8d0c 5b1a 1a2b 3c4e a012 fe88 0000 0000"
    "0204 05b4 0402 080a 1122 3344 5566 7788 0103 0307";

TEST(TcpWireTest, ReadsALinuxSynAck) {
  const Bytes bytes = Hex(kSynAck);
  wire::TcpHeader header;
  ASSERT_TRUE(wire::ParseTcpHeader(bytes.data(), static_cast<uint32_t>(bytes.size()), &header));
  EXPECT_EQ(header.source_port, 443);
  EXPECT_EQ(header.destination_port, 50930);
  EXPECT_EQ(header.sequence.value, 0x8d0c5b1au);
  EXPECT_EQ(header.acknowledgment.value, 0x1a2b3c4eu);
  EXPECT_EQ(header.header_length, 40);
  EXPECT_EQ(header.flags, wire::kTcpSyn | wire::kTcpAck);
  EXPECT_EQ(header.window, 0xfe88);
  wire::TcpOptions options;
  ASSERT_TRUE(wire::ParseTcpOptions(bytes.data() + 20, 20, &options));
  EXPECT_TRUE(options.has_maximum_segment_size && options.has_timestamps &&
              options.has_window_scale && options.sack_permitted);
  EXPECT_EQ(options.maximum_segment_size, 1460);
  EXPECT_EQ(options.timestamp_value, 0x11223344u);
  EXPECT_EQ(options.timestamp_echo_reply, 0x55667788u);
  EXPECT_EQ(options.window_scale, 7);
}

TEST(TcpWireTest, WritesWhatItRead) {
  const Bytes bytes = Hex(kSynAck);
  wire::TcpHeader header;
  ASSERT_TRUE(wire::ParseTcpHeader(bytes.data(), 40, &header));
  wire::TcpOptions options;
  ASSERT_TRUE(wire::ParseTcpOptions(bytes.data() + 20, 20, &options));
  Bytes again(40);
  wire::WriteTcpHeader(again.data(), header);
  EXPECT_EQ(wire::WriteTcpOptions(options, again.data() + 20, 40), 20u);
  EXPECT_EQ(again, bytes);
}

TEST(TcpWireTest, RefusesAHeaderThatIsNotThere) {
  Bytes bytes = Hex(kSynAck);
  wire::TcpHeader header;
  for (uint32_t length = 0; length < 40; ++length) {
    EXPECT_FALSE(wire::ParseTcpHeader(bytes.data(), length, &header)) << length;
  }
  bytes[12] = 0x40;  // 16 bytes
  EXPECT_FALSE(wire::ParseTcpHeader(bytes.data(), 40, &header));
}

struct TcpOptionCase {
  const char* what;
  const char* bytes;
  bool well_formed;
  bool has_mss;
  bool has_timestamps;
  unsigned sacks;
};

class TcpOptionTest : public ::testing::TestWithParam<TcpOptionCase> {};

TEST_P(TcpOptionTest, IsReadAsTheTableSays) {
  const TcpOptionCase& c = GetParam();
  const Bytes bytes = Hex(c.bytes);
  // In memory of its own, so that a byte too far is seen.
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), exact.get());
  wire::TcpOptions options;
  EXPECT_EQ(wire::ParseTcpOptions(exact.get(), static_cast<uint32_t>(bytes.size()), &options),
            c.well_formed);
  EXPECT_EQ(options.has_maximum_segment_size, c.has_mss);
  EXPECT_EQ(options.has_timestamps, c.has_timestamps);
  EXPECT_EQ(options.sack_count, c.sacks);
}

INSTANTIATE_TEST_SUITE_P(
    All, TcpOptionTest,
    ::testing::Values(
        TcpOptionCase{"none", "", true, false, false, 0},
        TcpOptionCase{"usual segment", "01 01 08 0a 0000 0001 0000 0002", true, false, true, 0},
        TcpOptionCase{"end stops", "00 02 04 05b4", true, false, false, 0},
        TcpOptionCase{"length zero", "02 00 05b4", false, false, false, 0},
        TcpOptionCase{"length one", "02 01 05b4", false, false, false, 0},
        TcpOptionCase{"past the end", "02 05 05b4", false, false, false, 0},
        TcpOptionCase{"kind only", "02 04 05b4 03", false, true, false, 0},
        TcpOptionCase{"wrong MSS length", "02 03 05 01", true, false, false, 0},
        TcpOptionCase{"unknown kind", "fd 04 0000 02 04 05b4", true, true, false, 0},
        TcpOptionCase{"one SACK", "01 01 05 0a 0000 0001 0000 0002", true, false, false, 1},
        TcpOptionCase{"uneven SACK", "05 0b 0000 0001 0000 0002 00 00", true, false, false, 0},
        TcpOptionCase{
            "four SACKs",
            "05 22 00000001 00000002 00000003 00000004 00000005 00000006 00000007 00000008", true,
            false, false, 4}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST(TcpWireTest, LeavesOutSackBlocksThatDoNotFit) {
  wire::TcpOptions options;
  options.has_timestamps = true;
  options.sack_count = 4;
  for (uint32_t i = 0; i < 4; ++i) options.sack_blocks[i] = {{i * 10}, {i * 10 + 5}};
  uint8_t bytes[40];
  const uint32_t length = wire::WriteTcpOptions(options, bytes, 40);
  EXPECT_EQ(length, 12u + 4 + 3 * 8);
  wire::TcpOptions read;
  ASSERT_TRUE(wire::ParseTcpOptions(bytes, length, &read));
  EXPECT_EQ(read.sack_count, 3);
  EXPECT_EQ(read.sack_blocks[2], options.sack_blocks[2]);
}

TEST(UdpWireTest, RefusesLengthsThatLie) {
  wire::UdpHeader header;
  Bytes bytes = Hex("0035 d431 000c 0000 dead beef");
  ASSERT_TRUE(wire::ParseUdpHeader(bytes.data(), 12, 12, &header));
  EXPECT_EQ(header.source_port, 53);
  EXPECT_EQ(header.length, 12);
  EXPECT_FALSE(wire::ParseUdpHeader(bytes.data(), 12, 11, &header));
  EXPECT_FALSE(wire::ParseUdpHeader(bytes.data(), 7, 12, &header));
  bytes[5] = 7;
  EXPECT_FALSE(wire::ParseUdpHeader(bytes.data(), 12, 12, &header));
}

TEST(ArpWireTest, ReadsACapturedRequest) {
  const Bytes bytes = Hex("0001 0800 06 04 0001 525400123502 0a000202 000000000000 0a00020f");
  wire::ArpPacket arp;
  ASSERT_TRUE(wire::ParseArp(bytes.data(), 28, &arp));
  EXPECT_EQ(arp.operation, wire::ArpOperation::kRequest);
  EXPECT_EQ(arp.sender, V4("10.0.2.2"));
  EXPECT_EQ(arp.sender_mac, Mac("52:54:00:12:35:02"));
  EXPECT_EQ(arp.target, V4("10.0.2.15"));
  Bytes again(28);
  wire::WriteArp(again.data(), arp);
  EXPECT_EQ(again, bytes);
  EXPECT_FALSE(wire::ParseArp(bytes.data(), 27, &arp));
}

TEST(Ipv4WireTest, ReadsACapturedHeader) {
  // The example of RFC 1071 users: checksum b861.
  const Bytes bytes = Hex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7");
  wire::Ipv4Header header;
  ASSERT_TRUE(wire::ParseIpv4Header(bytes.data(), 20, &header));
  EXPECT_EQ(header.total_length, 0x73);
  EXPECT_TRUE(header.dont_fragment);
  EXPECT_FALSE(header.is_fragment());
  EXPECT_EQ(header.protocol, 17);
  EXPECT_EQ(header.source, V4("192.168.0.1"));
  ChecksumAccumulator sum;
  sum.Add(bytes.data(), 20);
  EXPECT_EQ(sum.Checksum(), 0);
  Bytes again(20);
  wire::WriteIpv4Header(again.data(), header);
  EXPECT_EQ(again, bytes);
}

TEST(Ipv4WireTest, RefusesHeadersThatContradictThemselves) {
  const Bytes good = Hex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7");
  wire::Ipv4Header header;
  EXPECT_FALSE(wire::ParseIpv4Header(good.data(), 19, &header));
  Bytes bad = good;
  bad[0] = 0x65;
  EXPECT_FALSE(wire::ParseIpv4Header(bad.data(), 20, &header)) << "version 6";
  bad[0] = 0x44;
  EXPECT_FALSE(wire::ParseIpv4Header(bad.data(), 20, &header)) << "16 bytes";
  bad[0] = 0x46;
  EXPECT_FALSE(wire::ParseIpv4Header(bad.data(), 20, &header)) << "options that are not there";
  bad = good;
  bad[2] = 0;
  bad[3] = 19;
  EXPECT_FALSE(wire::ParseIpv4Header(bad.data(), 20, &header)) << "total length 19";
}

TEST(Ipv4WireTest, TellsSourceRoutesFromHarmlessOptions) {
  using wire::InspectIpv4Options;
  using wire::Ipv4OptionsVerdict;
  const Bytes alert = Hex("94 04 00 00");
  const Bytes route = Hex("01 83 07 04 0a000001");
  const Bytes cut = Hex("07 08 04 00");
  const Bytes zero = Hex("07 00 00 00");
  EXPECT_EQ(InspectIpv4Options(alert.data(), 4), Ipv4OptionsVerdict::kTolerated);
  EXPECT_EQ(InspectIpv4Options(route.data(), 8), Ipv4OptionsVerdict::kSourceRoute);
  EXPECT_EQ(InspectIpv4Options(cut.data(), 4), Ipv4OptionsVerdict::kMalformed);
  EXPECT_EQ(InspectIpv4Options(zero.data(), 4), Ipv4OptionsVerdict::kMalformed);
}

wire::Ipv6Chain Walk(uint8_t first, const Bytes& headers) {
  const Bytes packet = Ipv6("fd00::1", "fd00::2", first, headers);
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[packet.size()]);
  std::copy(packet.begin(), packet.end(), exact.get());
  return wire::WalkIpv6Extensions(exact.get(), static_cast<uint32_t>(packet.size()), first, 40);
}

TEST(Ipv6WireTest, WalksExtensionHeadersToTheTransport) {
  using End = wire::Ipv6Chain::End;
  wire::Ipv6Chain chain = Walk(6, {});
  EXPECT_EQ(chain.end, End::kUpperLayer);
  EXPECT_EQ(chain.offset, 40u);
  // Hop-by-hop with router alert, destination options with PadN, then TCP.
  chain = Walk(0, Hex("3c 00 05 02 00 00 01 00  06 00 01 04 00 00 00 00"));
  EXPECT_EQ(chain.end, End::kUpperLayer);
  EXPECT_EQ(chain.protocol, 6);
  EXPECT_EQ(chain.offset, 56u);
  EXPECT_EQ(chain.next_header_offset, 48u);
  EXPECT_TRUE(chain.router_alert);
}

TEST(Ipv6WireTest, RefusesRoutingHeadersWithSegmentsLeft) {
  const wire::Ipv6Chain chain = Walk(43, Hex("06 00 00 01 00 00 00 00"));
  EXPECT_EQ(chain.end, wire::Ipv6Chain::End::kParameterProblem);
  EXPECT_EQ(chain.code, wire::kIcmpV6ErroneousField);
  EXPECT_EQ(chain.pointer, 42u);
  EXPECT_EQ(Walk(43, Hex("06 00 04 00 00 00 00 00")).end, wire::Ipv6Chain::End::kUpperLayer);
}

TEST(Ipv6WireTest, TreatsUnknownOptionsAsTheirHighBitsSay) {
  using End = wire::Ipv6Chain::End;
  EXPECT_EQ(Walk(60, Hex("06 00 1e 04 00 00 00 00")).end, End::kUpperLayer);
  EXPECT_EQ(Walk(60, Hex("06 00 5e 04 00 00 00 00")).end, End::kDiscard);
  const wire::Ipv6Chain report = Walk(60, Hex("06 00 9e 04 00 00 00 00"));
  EXPECT_EQ(report.end, End::kParameterProblem);
  EXPECT_EQ(report.code, wire::kIcmpV6UnknownOption);
  EXPECT_EQ(report.pointer, 42u);
  EXPECT_TRUE(report.report_to_multicast);
  EXPECT_FALSE(Walk(60, Hex("06 00 de 04 00 00 00 00")).report_to_multicast);
}

TEST(Ipv6WireTest, StopsAtTruncatedAndEndlessChains) {
  using End = wire::Ipv6Chain::End;
  EXPECT_EQ(Walk(0, Hex("06 00 01 04 00 00 00")).end, End::kTruncated);
  EXPECT_EQ(Walk(60, Hex("06 01 01 04 00 00 00 00")).end, End::kTruncated);
  EXPECT_EQ(Walk(60, Hex("06 00 01 05 00 00 00 00")).end, End::kDiscard) << "option past the end";
  Bytes many;
  for (int i = 0; i < 20; ++i) many = many + Hex("3c 00 01 04 00 00 00 00");
  EXPECT_EQ(Walk(60, many).end, End::kDiscard);
  // Hop-by-hop anywhere but first (RFC 8200 4.1).
  const wire::Ipv6Chain late = Walk(60, Hex("00 00 01 04 00 00 00 00  06 00 01 04 00 00 00 00"));
  EXPECT_EQ(late.end, End::kParameterProblem);
  EXPECT_EQ(late.code, wire::kIcmpV6UnknownNextHeader);
  EXPECT_EQ(late.pointer, 40u);
}

TEST(NdpWireTest, ReadsACapturedRouterAdvertisement) {
  // hop limit 64, lifetime 1800 s, MTU 1500, prefix 2001:db8:1::/64 on-link and autonomous.
  const Bytes bytes =
      Hex("86 00 0000 40 00 0708 00000000 00000000"
          "01 01 020000000001"
          "05 01 0000 000005dc"
          "03 04 40 c0 00278d00 00093a80 00000000 20010db8000100000000000000000000");
  wire::RouterAdvertisement message;
  ASSERT_TRUE(
      wire::ParseRouterAdvertisement(bytes.data(), static_cast<uint32_t>(bytes.size()), &message));
  EXPECT_EQ(message.hop_limit, 64);
  EXPECT_EQ(message.router_lifetime, 1800);
  EXPECT_EQ(message.options.mtu, 1500u);
  EXPECT_TRUE(message.options.has_source_mac);
  ASSERT_EQ(message.options.prefix_count, 1);
  EXPECT_EQ(message.options.prefixes[0].prefix, (Prefix{V6("2001:db8:1::"), 64}));
  EXPECT_TRUE(message.options.prefixes[0].autonomous);
  EXPECT_EQ(message.options.prefixes[0].valid_lifetime, 2592000u);
}

TEST(NdpWireTest, RefusesOptionsOfLengthZeroOrPastTheEnd) {
  Bytes bytes = Hex("87 00 0000 00000000 fd000000000000000000000000000002 01 00 020000000001");
  wire::NeighborMessage message;
  EXPECT_FALSE(wire::ParseNeighborMessage(bytes.data(), 32, &message)) << "RFC 4861 4.6";
  bytes[25] = 2;
  EXPECT_FALSE(wire::ParseNeighborMessage(bytes.data(), 32, &message));
  bytes[25] = 1;
  EXPECT_TRUE(wire::ParseNeighborMessage(bytes.data(), 32, &message));
  EXPECT_EQ(message.target, V6("fd00::2"));
  EXPECT_EQ(message.options.source_mac, kPeerMac);
  EXPECT_FALSE(wire::ParseNeighborMessage(bytes.data(), 23, &message));
}

TEST(NdpWireTest, MakesTheAddressesOfTheRfcs) {
  EXPECT_EQ(wire::SolicitedNodeGroup(V6("4037::01:800:200e:8c6c")), V6("ff02::1:ff0e:8c6c"));
  EXPECT_EQ(wire::LinkLocalAddress(Mac("34:56:78:9a:bc:de")), V6("fe80::3656:78ff:fe9a:bcde"));
  EXPECT_EQ(wire::MulticastMac(V4("224.128.64.32")), Mac("01:00:5e:00:40:20"));
  EXPECT_EQ(wire::MulticastMac(V6("ff02::1:ff0e:8c6c")), Mac("33:33:ff:0e:8c:6c"));
}

}  // namespace
}  // namespace userstack::testing
