// Ip: sending, receiving, routing, fragments, path MTU, loopback; by bytes, in virtual time.
#include "tests/netstack/ip/fixture.h"

namespace userstack::testing {
namespace {

using IpTest = IpFixture;

TEST_F(IpTest, SendsAnIpv4PacketWithEveryHeaderRight) {
  Configure();
  SendOptions options;
  options.dont_fragment = true;
  options.traffic_class = 0xb8 | 2;
  ASSERT_TRUE(SendUdp("10.0.0.1", 5, options).ok());
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(DestinationOf(out[0]), kPeerMac);
  EXPECT_EQ(wire::LoadMac(out[0].data() + 6), kOurMac);
  const wire::Ipv4Header header = Ipv4Of(out[0]);
  EXPECT_EQ(header.source, V4("10.0.0.2"));
  EXPECT_EQ(header.destination, V4("10.0.0.1"));
  EXPECT_EQ(header.tos, 0xb8 | 2);
  EXPECT_EQ(header.ttl, 64);
  EXPECT_TRUE(header.dont_fragment);
  EXPECT_EQ(header.identification, 0) << "RFC 6864: atomic";
  EXPECT_EQ(PayloadOf(out[0]), Udp(1000, 2000, 5));
}

TEST_F(IpTest, SendsAnIpv6PacketThroughTheRouter) {
  Configure();
  ASSERT_TRUE(SendUdp("2001:db8::9", 5).ok());
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(DestinationOf(out[0]), kPeerMac);
  const wire::Ipv6Header header = Ipv6Of(out[0]);
  EXPECT_EQ(header.source, V6("fd00::2"));
  EXPECT_EQ(header.destination, V6("2001:db8::9"));
  EXPECT_EQ(header.next_header, wire::kProtocolUdp);
}

TEST_F(IpTest, DeliversWhatIsForUs) {
  Configure();
  ASSERT_EQ(Receive4(Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(1, 2, 30))), IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), Udp(1, 2, 30));
  EXPECT_EQ(delivered_->ip.source, V4("10.0.0.1"));
  EXPECT_EQ(delivered_->ip.protocol, 17);
  ASSERT_EQ(Receive6(Ipv6("fd00::1", "fd00::2", 17, Udp(1, 2, 30))), IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), Udp(1, 2, 30));
  EXPECT_EQ(delivered_->ip.ttl, 64);
}

TEST_F(IpTest, CutsLinkPadding) {
  Configure();
  Bytes padded = Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(1, 2, 1));
  padded.resize(46);
  ASSERT_EQ(Receive4(padded), IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), Udp(1, 2, 1));
}

TEST_F(IpTest, CutsADatagramInFragmentsThatAnEqualStackPutsTogether) {
  Configure();
  for (const bool v6 : {false, true}) {
    ASSERT_TRUE(SendUdp(v6 ? "fd00::1" : "10.0.0.1", 4000).ok());
    auto out = Output();
    ASSERT_EQ(out.size(), 3u);
    IpVerdict verdict = IpVerdict::kConsumed;
    for (Bytes& frame : out) {
      EXPECT_LE(frame.size(), 1514u);
      // Send it back: swap the addresses.
      wire::StoreMac(frame.data(), kOurMac);
      wire::StoreMac(frame.data() + 6, kPeerMac);
      const size_t at = v6 ? 22 : 26;
      const size_t n = v6 ? 16 : 4;
      std::swap_ranges(frame.begin() + at, frame.begin() + at + n, frame.begin() + at + n);
      verdict = Receive(frame);
    }
    ASSERT_EQ(verdict, IpVerdict::kDeliver);
    EXPECT_EQ(Delivered(), Udp(1000, 2000, 4000));
  }
}

TEST_F(IpTest, LoopsToOwnAddressesWithoutTheWire) {
  Configure();
  for (const char* own : {"127.0.0.1", "10.0.0.2", "::1", "fd00::2"}) {
    ASSERT_TRUE(SendUdp(own, 4000).ok()) << own;
    EXPECT_EQ(RunLooped(), std::vector{IpVerdict::kDeliver}) << own;
    EXPECT_EQ(Delivered(), Udp(1000, 2000, 4000));
    EXPECT_TRUE(delivered_->looped);
    EXPECT_EQ(delivered_->ip.interface, kLoopbackInterface);
  }
  EXPECT_TRUE(Output().empty());
}

}  // namespace
}  // namespace userstack::testing
