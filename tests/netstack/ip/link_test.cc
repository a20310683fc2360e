// Link: ARP, neighbour discovery and unreachability, conflicts, the output queue; by frames.
#include "tests/netstack/ip/fixture.h"

namespace userstack::testing {
namespace {

using LinkTest = IpFixture;
using wire::ArpOperation;

std::vector<Bytes> OfType(const std::vector<Bytes>& frames, uint16_t type) {
  std::vector<Bytes> some;
  for (const Bytes& frame : frames) {
    if (EtherType(frame) == type) some.push_back(frame);
  }
  return some;
}

// ICMPv6 messages of one type, behind a bare IPv6 header.
std::vector<Bytes> Icmp6(const std::vector<Bytes>& frames, uint8_t type) {
  std::vector<Bytes> some;
  for (const Bytes& frame : OfType(frames, wire::kEtherTypeIpv6)) {
    if (Ipv6Of(frame).next_header == wire::kProtocolIcmpV6 && frame[54] == type) {
      some.push_back(frame);
    }
  }
  return some;
}

TEST_F(LinkTest, AsksByBroadcastAndSendsWhatWaited) {
  Configure();
  ASSERT_TRUE(SendUdp("10.0.0.7", 3).ok());
  ASSERT_TRUE(SendUdp("10.0.0.7", 4).ok());
  auto out = Output();
  ASSERT_EQ(out.size(), 1u) << "one request, two frames wait";
  EXPECT_EQ(out[0], Hex("ffffffffffff 020000000002 0806 0001 0800 06 04 0001"
                        "020000000002 0a000002 000000000000 0a000007"));
  Receive(
      Hex("020000000002 020000000007 0806 0001 0800 06 04 0002"
          "020000000007 0a000007 020000000002 0a000002"));
  out = Output();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(PayloadOf(out[0]), Udp(1000, 2000, 3)) << "in order";
  EXPECT_EQ(PayloadOf(out[1]), Udp(1000, 2000, 4));
  EXPECT_EQ(DestinationOf(out[0]), Mac("02:00:00:00:00:07"));
}

TEST_F(LinkTest, AnswersRequestsForItsAddressAndLearnsWhoAsked) {
  Configure();
  Receive(
      Ethernet(MacAddress::Broadcast(), Mac("02:00:00:00:00:09"), wire::kEtherTypeArp,
               Arp(ArpOperation::kRequest, Mac("02:00:00:00:00:09"), "10.0.0.9", {}, "10.0.0.2")));
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0], Hex("020000000009 020000000002 0806 0001 0800 06 04 0002"
                        "020000000002 0a000002 020000000009 0a000009"));
  ASSERT_TRUE(SendUdp("10.0.0.9", 1).ok());
  EXPECT_EQ(DestinationOf(Output().at(0)), Mac("02:00:00:00:00:09")) << "no request of our own";
}

TEST_F(LinkTest, StaysSilentForOtherAddresses) {
  Configure();
  Receive(Ethernet(MacAddress::Broadcast(), kPeerMac, wire::kEtherTypeArp,
                   Arp(ArpOperation::kRequest, kPeerMac, "10.0.0.1", {}, "10.0.0.3")));
  Receive(Ethernet(MacAddress::Broadcast(), kPeerMac, wire::kEtherTypeArp,
                   Arp(ArpOperation::kRequest, kPeerMac, "10.0.0.1", {}, "127.0.0.1")));
  EXPECT_TRUE(Output().empty());
}

TEST_F(LinkTest, ReportsAnUnansweredHostAfterThreeRequests) {
  Configure();
  ASSERT_TRUE(SendUdp("10.0.0.7", 3).ok());
  EXPECT_EQ(Output().size(), 1u);
  Advance(Duration::Milliseconds(2900));
  EXPECT_EQ(Output().size(), 2u);
  EXPECT_FALSE(ip_->HasLooped());
  Advance(Duration::Milliseconds(200));
  EXPECT_EQ(RunLooped(), std::vector{IpVerdict::kIcmpError});
  const IcmpError& error = ip_->icmp_error();
  EXPECT_EQ(error.error, EHOSTUNREACH);
  EXPECT_FALSE(error.hard);
  EXPECT_EQ(error.local, V4("10.0.0.2"));
  EXPECT_EQ(error.remote, V4("10.0.0.7"));
  EXPECT_EQ(error.offender, V4("10.0.0.2")) << "as Linux: we say so ourselves";
  EXPECT_EQ(error.protocol, 17);
  EXPECT_EQ(Bytes(error.embedded, error.embedded + 8), Hex("03e8 07d0 000b 0000"));
  EXPECT_EQ(Count(Counter::kNeighborFailed), 1u);
  // The next frame begins anew.
  ASSERT_TRUE(SendUdp("10.0.0.7", 3).ok());
  EXPECT_EQ(Output().size(), 1u);
}

TEST_F(LinkTest, ReportsAnUnansweredIpv6Host) {
  Configure();
  ASSERT_TRUE(SendUdp("fd00::7", 3).ok());
  Advance(Duration::Seconds(4));
  EXPECT_EQ(Icmp6(Output(), wire::kIcmpV6NeighborSolicitation).size(), 3u);
  EXPECT_EQ(RunLooped(), std::vector{IpVerdict::kIcmpError});
  EXPECT_EQ(ip_->icmp_error().error, EHOSTUNREACH);
  EXPECT_EQ(ip_->icmp_error().remote, V6("fd00::7"));
}

TEST_F(LinkTest, KeepsOnlySoManyFramesForOneNeighbour) {
  Configure();
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(SendUdp("10.0.0.7", 3).ok());
  EXPECT_EQ(core_->frames.live(), NeighborTable::kMaxPendingFrames + 1) << "and the request";
  EXPECT_EQ(Count(Counter::kNeighborQueueDrop), 200u - NeighborTable::kMaxPendingFrames);
}

TEST_F(LinkTest, BoundsItsTableAgainstAFloodOfUnknownSenders) {
  Configure();
  for (int i = 0; i < 3000; ++i) {
    const std::string from = "10.0." + std::to_string(1 + i / 250) + "." + std::to_string(i % 250);
    Receive(Ethernet(
        kOurMac, Mac("02:00:00:00:00:33"), wire::kEtherTypeArp,
        Arp(ArpOperation::kRequest, Mac("02:00:00:00:00:33"), from.c_str(), {}, "10.0.0.2")));
    if (i % 100 == 0) Output();
  }
  EXPECT_GT(Count(Counter::kNeighborTableOverflow), 1900u);
  Output();
  ASSERT_TRUE(SendUdp("10.0.0.1", 1).ok());
  EXPECT_EQ(DestinationOf(Output().at(0)), kPeerMac) << "the router in use survived";
}

TEST_F(LinkTest, ProbesAStaleNeighbourByUnicastAndForgetsItWhenSilent) {
  Configure();
  Advance(Duration::Seconds(60));  // reachable time is over
  ASSERT_TRUE(SendUdp("10.0.0.1", 1).ok());
  EXPECT_EQ(DataOutput().size(), 1u) << "still used while stale";
  Advance(Duration::Milliseconds(4900));
  EXPECT_TRUE(Output().empty()) << "delay: a hint from above may come";
  Advance(Duration::Milliseconds(200));
  auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(DestinationOf(out[0]), kPeerMac) << "unicast";
  EXPECT_EQ(ArpOf(out[0]).target, V4("10.0.0.1"));
  Advance(Duration::Seconds(5));
  EXPECT_EQ(Output().size(), 2u) << "three probes in all";
  ASSERT_TRUE(SendUdp("10.0.0.1", 1).ok());
  out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(DestinationOf(out[0]), MacAddress::Broadcast()) << "resolved anew";
}

TEST_F(LinkTest, NeedsNoProbeWhileTransportsSeeProgress) {
  Configure();
  const Result<Route> route = ip_->FindRoute(V4("0.0.0.0"), V4("10.0.0.1"), 0);
  ASSERT_TRUE(route.ok());
  for (int i = 0; i < 100; ++i) {
    Advance(Duration::Seconds(3));
    ip_->ConfirmNeighbor(*route, now_);
    ASSERT_TRUE(SendUdp("10.0.0.1", 1).ok());
  }
  EXPECT_TRUE(OfType(Output(), wire::kEtherTypeArp).empty());
}

TEST_F(LinkTest, FollowsANeighbourToItsNewCard) {
  Configure();
  // Gratuitous ARP.
  Receive(
      Ethernet(MacAddress::Broadcast(), Mac("02:00:00:00:00:44"), wire::kEtherTypeArp,
               Arp(ArpOperation::kRequest, Mac("02:00:00:00:00:44"), "10.0.0.1", {}, "10.0.0.1")));
  ASSERT_TRUE(SendUdp("10.0.0.1", 1).ok());
  EXPECT_EQ(DestinationOf(Output().at(0)), Mac("02:00:00:00:00:44"));
}

TEST_F(LinkTest, ProbesAndThenAnnouncesAnIpv4Address) {
  ConfigureBare();
  Advance(Duration::Seconds(20));
  const auto arps = OfType(Output(), wire::kEtherTypeArp);
  ASSERT_EQ(arps.size(), 5u) << "RFC 5227: three probes, two announcements";
  for (size_t i = 0; i < 5; ++i) {
    const wire::ArpPacket arp = ArpOf(arps[i]);
    EXPECT_EQ(arp.target, V4("10.0.0.2"));
    EXPECT_EQ(arp.sender, i < 3 ? V4("0.0.0.0") : V4("10.0.0.2"));
  }
}

TEST_F(LinkTest, GivesUpAnIpv4AddressThatSomebodyHas) {
  ConfigureBare();
  Advance(Duration::Milliseconds(10));
  EXPECT_TRUE(ip_->IsLocal(V4("10.0.0.2"))) << "optimistic: usable at once";
  Receive(Ethernet(kOurMac, kPeerMac, wire::kEtherTypeArp,
                   Arp(ArpOperation::kReply, kPeerMac, "10.0.0.2", kOurMac, "0.0.0.0")));
  EXPECT_FALSE(ip_->IsLocal(V4("10.0.0.2")));
  EXPECT_EQ(Count(Counter::kArpConflict), 1u);
}

TEST_F(LinkTest, DefendsItsAddressOnceInTenSeconds) {
  Configure();
  const Bytes claim = Ethernet(MacAddress::Broadcast(), kPeerMac, wire::kEtherTypeArp,
                               Arp(ArpOperation::kRequest, kPeerMac, "10.0.0.2", {}, "10.0.0.2"));
  Receive(claim);
  Receive(claim);
  auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(ArpOf(out[0]).sender, V4("10.0.0.2"));
  EXPECT_EQ(ArpOf(out[0]).sender_mac, kOurMac);
  Advance(Duration::Seconds(11));
  Receive(claim);
  EXPECT_EQ(Output().size(), 1u);
  EXPECT_TRUE(ip_->IsLocal(V4("10.0.0.2")));
}

TEST_F(LinkTest, AnswersAProbeForItsAddress) {
  Configure();
  Receive(Ethernet(MacAddress::Broadcast(), kPeerMac, wire::kEtherTypeArp,
                   Arp(ArpOperation::kRequest, kPeerMac, "0.0.0.0", {}, "10.0.0.2")));
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(ArpOf(out[0]).operation, ArpOperation::kReply);
}

TEST_F(LinkTest, IgnoresFramesThatAreNotForItOrComeFromItself) {
  Configure();
  EXPECT_EQ(Receive(Ethernet(Mac("02:00:00:00:00:99"), kPeerMac, wire::kEtherTypeIpv4,
                             Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(1, 2, 3)))),
            IpVerdict::kConsumed);
  EXPECT_EQ(Receive(Ethernet(MacAddress::Broadcast(), kOurMac, wire::kEtherTypeArp,
                             Arp(ArpOperation::kRequest, kOurMac, "10.0.0.2", {}, "10.0.0.2"))),
            IpVerdict::kConsumed);
  EXPECT_EQ(Count(Counter::kArpConflict), 0u);
  EXPECT_EQ(Receive(Hex("020000000002 0200000000")), IpVerdict::kConsumed) << "13 bytes";
}

// --- IPv6 ---

Bytes Solicitation(const char* from, const char* to, const char* target, bool with_mac) {
  Bytes body(16);
  std::memcpy(body.data(), V6(target).v6_bytes(), 16);
  if (with_mac) body = body + Hex("01 01 020000000001");
  return Ipv6(from, to, 58, IcmpV6(from, to, wire::kIcmpV6NeighborSolicitation, 0, 0, body), 255);
}

Bytes Advertisement(const char* from, const char* to, const char* target, uint32_t flags,
                    const char* mac) {
  Bytes body(16);
  std::memcpy(body.data(), V6(target).v6_bytes(), 16);
  if (mac != nullptr) body = body + Hex("02 01") + Hex(mac);
  return Ipv6(from, to, 58, IcmpV6(from, to, wire::kIcmpV6NeighborAdvertisement, 0, flags, body),
              255);
}

TEST_F(LinkTest, AnswersANeighbourSolicitation) {
  Configure();
  Receive(Ethernet(Mac("33:33:ff:00:00:02"), kPeerMac, wire::kEtherTypeIpv6,
                   Solicitation("fd00::1", "ff02::1:ff00:2", "fd00::2", true)));
  const auto out = Icmp6(Output(), wire::kIcmpV6NeighborAdvertisement);
  ASSERT_EQ(out.size(), 1u);
  const wire::Ipv6Header header = Ipv6Of(out[0]);
  EXPECT_EQ(header.hop_limit, 255);
  EXPECT_EQ(header.destination, V6("fd00::1"));
  wire::NeighborMessage message;
  const Bytes payload = PayloadOf(out[0]);
  ASSERT_TRUE(
      wire::ParseNeighborMessage(payload.data(), static_cast<uint32_t>(payload.size()), &message));
  EXPECT_TRUE(message.solicited && message.override_flag && !message.router);
  EXPECT_EQ(message.options.target_mac, kOurMac);
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(header.source, header.destination, 58, static_cast<uint32_t>(payload.size()));
  sum.Add(payload.data(), payload.size());
  EXPECT_EQ(sum.Checksum(), 0);
}

TEST_F(LinkTest, BelievesNoNeighbourMessageFromAfar) {
  Configure();
  Bytes far = Solicitation("fd00::1", "ff02::1:ff00:2", "fd00::2", true);
  far[7] = 254;  // hop limit
  Receive(Ethernet(Mac("33:33:ff:00:00:02"), kPeerMac, wire::kEtherTypeIpv6, far));
  EXPECT_TRUE(Output().empty());
}

TEST_F(LinkTest, ResolvesAnIpv6NeighbourWithItsLinkAddressInTheQuestion) {
  Configure();
  ASSERT_TRUE(SendUdp("fd00::7", 3).ok());
  auto out = Icmp6(Output(), wire::kIcmpV6NeighborSolicitation);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(DestinationOf(out[0]), Mac("33:33:ff:00:00:07"));
  EXPECT_EQ(Ipv6Of(out[0]).destination, V6("ff02::1:ff00:7"));
  EXPECT_EQ(Bytes(out[0].end() - 8, out[0].end()), Hex("01 01 020000000002"));
  Receive6(Advertisement("fd00::7", "fd00::2", "fd00::7", 0x60000000, "020000000007"));
  out = DataOutput();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(DestinationOf(out[0]), Mac("02:00:00:00:00:07"));
}

// Deviation from RFC 4429 3.2: Linux answers no multicast solicitation without a link address.
TEST_F(LinkTest, SolicitsWithItsLinkAddressWhileOptimistic) {
  ConfigureBare();
  Advance(Duration::Milliseconds(10));
  Output();
  ASSERT_TRUE(SendUdp("fd00::7", 3).ok());
  const auto out = Icmp6(Output(), wire::kIcmpV6NeighborSolicitation);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(Ipv6Of(out[0]).source, V6("fd00::2"));
  EXPECT_EQ(Bytes(out[0].end() - 8, out[0].end()), Hex("01 01 020000000002"));
}

struct AdvertisementCase {
  const char* what;
  uint32_t flags;  // 0x40000000 solicited, 0x20000000 override
  const char* mac;
  const char* used_then;  // link address of the next frame
};

class AdvertisementTest : public IpFixture,
                          public ::testing::WithParamInterface<AdvertisementCase> {};

// RFC 4861 7.2.5, for an entry that is reachable at 02:..:01.
TEST_P(AdvertisementTest, ChangesAReachableEntryAsTheTableSays) {
  const AdvertisementCase& c = GetParam();
  Configure();
  Receive6(Advertisement("fd00::1", "fd00::2", "fd00::1", c.flags, c.mac));
  ASSERT_TRUE(SendUdp("fd00::1", 1).ok());
  EXPECT_EQ(DestinationOf(DataOutput().at(0)), Mac(c.used_then)) << c.what;
}

INSTANTIATE_TEST_SUITE_P(
    All, AdvertisementTest,
    ::testing::Values(
        AdvertisementCase{"other address without override", 0x40000000, "020000000055",
                          "02:00:00:00:00:01"},
        AdvertisementCase{"other address with override", 0x60000000, "020000000055",
                          "02:00:00:00:00:55"},
        AdvertisementCase{"unsolicited override", 0x20000000, "020000000055", "02:00:00:00:00:55"},
        AdvertisementCase{"no address", 0x60000000, nullptr, "02:00:00:00:00:01"},
        AdvertisementCase{"group address", 0x60000000, "330000000055", "02:00:00:00:00:01"}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST_F(LinkTest, AdvertisementsNobodyAskedForMakeNoEntry) {
  Configure();
  Receive6(Advertisement("fd00::66", "ff02::1", "fd00::66", 0x20000000, "020000000066"));
  ASSERT_TRUE(SendUdp("fd00::66", 1).ok());
  EXPECT_EQ(Icmp6(Output(), wire::kIcmpV6NeighborSolicitation).size(), 1u);
}

TEST_F(LinkTest, DetectsADuplicateByItsAdvertisementAndByItsProbe) {
  for (const bool probe : {false, true}) {
    SCOPED_TRACE(probe);
    IpAddress own = V6(probe ? "fd00::22" : "fd00::21");
    if (!probe) ConfigureBare();
    ASSERT_TRUE(ip_->AddAddress(kWireInterface, {own, 64}, now_).ok());
    Advance(Duration::Milliseconds(10));
    const auto probes = Icmp6(Output(), wire::kIcmpV6NeighborSolicitation);
    ASSERT_FALSE(probes.empty());
    EXPECT_TRUE(Ipv6Of(probes.back()).source.is_unspecified());
    EXPECT_TRUE(ip_->IsLocal(own));
    if (probe) {
      Receive(Ethernet(Mac("33:33:ff:00:00:22"), kPeerMac, wire::kEtherTypeIpv6,
                       Solicitation("::", "ff02::1:ff00:22", "fd00::22", false)));
    } else {
      Receive(
          Ethernet(Mac("33:33:00:00:00:01"), kPeerMac, wire::kEtherTypeIpv6,
                   Advertisement("fd00::21", "ff02::1", "fd00::21", 0x20000000, "020000000001")));
    }
    EXPECT_FALSE(ip_->IsLocal(own));
  }
}

TEST_F(LinkTest, AnswersAnIpv6ProbeToAllNodes) {
  Configure();
  Receive(Ethernet(Mac("33:33:ff:00:00:02"), kPeerMac, wire::kEtherTypeIpv6,
                   Solicitation("::", "ff02::1:ff00:2", "fd00::2", false)));
  const auto out = Icmp6(Output(), wire::kIcmpV6NeighborAdvertisement);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(Ipv6Of(out[0]).destination, V6("ff02::1"));
}

TEST_F(LinkTest, AsksForRoutersThreeTimes) {
  ConfigureBare();
  Advance(Duration::Seconds(60));
  const auto out = Icmp6(Output(), wire::kIcmpV6RouterSolicitation);
  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(Ipv6Of(out[0]).destination, V6("ff02::2"));
  EXPECT_EQ(Ipv6Of(out[0]).source, V6("fe80::ff:fe00:2"));
}

class RouterTest : public IpFixture {
 protected:
  void Advertise(const Bytes& body, uint32_t flags = 0x40000708) {
    Receive(Ethernet(Mac("33:33:00:00:00:01"), kPeerMac, wire::kEtherTypeIpv6,
                     Ipv6("fe80::1", "ff02::1", 58,
                          IcmpV6("fe80::1", "ff02::1", wire::kIcmpV6RouterAdvertisement, 0, flags,
                                 Hex("00000000 00000000") + body),
                          255)));
  }
  void ConfigureV6Only() {
    EXPECT_TRUE(ip_->AddInterface(kWireInterface, "eth0", DefaultDevice()).ok());
    EXPECT_TRUE(ip_->AddAddress(kWireInterface, {V6("fd00::2"), 64}, now_).ok());
    Advance(Duration::Seconds(30));
    Output();
  }
  bool Reaches(const char* to) { return ip_->FindRoute(V6("::"), V6(to), 0).ok(); }
};

TEST_F(RouterTest, LearnsADefaultRouterAndForgetsItInTime) {
  ConfigureV6Only();
  EXPECT_FALSE(Reaches("2001:db8::1"));
  Advertise(Hex("01 01 020000000001"));
  EXPECT_TRUE(Reaches("2001:db8::1"));
  ASSERT_TRUE(SendUdp("2001:db8::1", 1).ok());
  EXPECT_EQ(DestinationOf(DataOutput().at(0)), kPeerMac);
  Advance(Duration::Seconds(1801));
  EXPECT_FALSE(Reaches("2001:db8::1"));
  Advertise({});
  EXPECT_TRUE(Reaches("2001:db8::1"));
  Advertise({}, 0x40000000);
  EXPECT_FALSE(Reaches("2001:db8::1")) << "lifetime 0";
}

TEST_F(RouterTest, TakesTheHopLimitOfTheLink) {
  ConfigureV6Only();
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("fd00::1"), 0).value().hop_limit, 64);
  Advertise({}, 0x20000708);
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("fd00::1"), 0).value().hop_limit, 32);
}

TEST_F(RouterTest, TakesTheMtuOfTheLink) {
  ConfigureV6Only();
  Advertise(Hex("05 01 0000 00000578"));
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("fd00::1"), 0).value().mtu, 1400u);
  Advertise(Hex("05 01 0000 00000100"));
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("fd00::1"), 0).value().mtu, 1400u) << "below 1280";
  Advertise(Hex("05 01 0000 00002328"));
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("fd00::1"), 0).value().mtu, 1400u) << "beyond the device";
}

TEST_F(RouterTest, MakesAnAddressFromAPrefixAndDropsItInTime) {
  ConfigureV6Only();
  // valid 7300 s, preferred 600 s
  Advertise(Hex("03 04 40 c0 00001c84 00000258 00000000 20010db8000100000000000000000000"));
  const IpAddress made = V6("2001:db8:1::ff:fe00:2");
  EXPECT_TRUE(ip_->IsLocal(made)) << "at once";
  Advance(Duration::Seconds(2));
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("2001:db8:1::5"), 0).value().source, made);
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("2001:db8:1::5"), 0).value().next_hop, V6("2001:db8:1::5"));
  Advance(Duration::Seconds(700));
  EXPECT_TRUE(ip_->IsLocal(made));
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("2001:db8:1::5"), 0).value().source, V6("fd00::2"))
      << "deprecated";
  Advance(Duration::Seconds(6700));
  EXPECT_FALSE(ip_->IsLocal(made));
  EXPECT_FALSE(Reaches("2001:db8:1::5"));
}

TEST_F(RouterTest, BoundsWhatRoutersMayAdd) {
  ConfigureV6Only();
  for (int i = 0; i < 200; ++i) {
    Bytes prefix = Hex("03 04 40 c0 00001c84 00001c84 00000000 20010db8000100000000000000000000");
    prefix[21] = static_cast<uint8_t>(i);
    Advertise(prefix);
  }
  unsigned made = 0;
  for (unsigned i = 0; i < kMaxAddresses; ++i) {
    const Address* a = ip_->AddressAt(i);
    if (a != nullptr && a->autoconfigured) ++made;
  }
  EXPECT_EQ(made, 8u);
}

TEST_F(LinkTest, HoldsTransportsBackWhenTheQueueIsLongAndTellsWhenItDrained) {
  Configure();
  EXPECT_FALSE(ip_->IsCongested(kWireInterface));
  while (!ip_->IsCongested(kWireInterface)) ASSERT_TRUE(SendUdp("10.0.0.1", 100).ok());
  EXPECT_EQ(ip_->TakeDrained(), 0u);
  for (int i = 0; i < 200; ++i) core_->frames.Release(ip_->NextFrame(kWireInterface));
  EXPECT_EQ(ip_->TakeDrained(), 0u) << "not yet half";
  Frame* refused = nullptr;
  for (int i = 0; i < 100; ++i) {
    refused = ip_->NextFrame(kWireInterface);
    if (i < 99) core_->frames.Release(refused);
  }
  ip_->ReturnFrame(refused);
  EXPECT_EQ(ip_->TakeDrained(), 1u << kWireInterface);
  EXPECT_EQ(ip_->TakeDrained(), 0u) << "told once";
  EXPECT_EQ(ip_->NextFrame(kWireInterface), refused) << "first in line again";
  core_->frames.Release(refused);
}

TEST_F(LinkTest, RefusesFramesWhenTheQueueIsFull) {
  Configure();
  Status status;
  int sent = 0;
  while ((status = SendUdp("10.0.0.1", 100)).ok()) ++sent;
  EXPECT_EQ(status.error(), ENOBUFS);
  EXPECT_EQ(sent, static_cast<int>(OutputQueue::kLimitFrames));
}

}  // namespace
}  // namespace userstack::testing
