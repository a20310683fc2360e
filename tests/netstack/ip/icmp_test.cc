// ICMP both ways: echo, errors that we send and how seldom, errors that we get and what they mean;
// IGMP and MLD.
#include "tests/netstack/ip/fixture.h"

namespace userstack::testing {
namespace {

using IcmpTest = IpFixture;

TEST_F(IcmpTest, AnswersAPing) {
  Configure();
  // ping -c1 -s8, as captured: identifier 0x1234, sequence 1.
  const Bytes request = Icmp(8, 0, 0x12340001, Hex("0011223344556677"));
  EXPECT_EQ(Receive4(Ipv4("10.0.0.1", "10.0.0.2", 1, request, {.tos = 0x10, .ttl = 9})),
            IpVerdict::kDeliver);
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  const wire::Ipv4Header header = Ipv4Of(out[0]);
  EXPECT_EQ(header.source, V4("10.0.0.2"));
  EXPECT_EQ(header.destination, V4("10.0.0.1"));
  EXPECT_EQ(header.ttl, 64);
  EXPECT_EQ(header.tos, 0x10);
  EXPECT_EQ(PayloadOf(out[0]), Icmp(0, 0, 0x12340001, Hex("0011223344556677")));
}

TEST_F(IcmpTest, AnswersAPingOverIpv6AndToAGroup) {
  Configure();
  Receive6(
      Ipv6("fd00::1", "fd00::2", 58, IcmpV6("fd00::1", "fd00::2", 128, 0, 0x00070009, Pattern(5))));
  auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(PayloadOf(out[0]), IcmpV6("fd00::2", "fd00::1", 129, 0, 0x00070009, Pattern(5)));
  Receive(Ethernet(
      Mac("33:33:00:00:00:01"), kPeerMac, wire::kEtherTypeIpv6,
      Ipv6("fd00::1", "ff02::1", 58, IcmpV6("fd00::1", "ff02::1", 128, 0, 1, Pattern(5)))));
  out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(Ipv6Of(out[0]).source, V6("fd00::2")) << "a unicast source";
}

TEST_F(IcmpTest, AnswersALargePingThatCameInFragments) {
  Configure();
  const Bytes request = Icmp(8, 0, 1, Pattern(20000));
  for (size_t at = 0; at < request.size(); at += 1480) {
    const size_t n = std::min<size_t>(1480, request.size() - at);
    wire::Ipv4Header like;
    like.identification = 77;
    like.fragment_offset = static_cast<uint16_t>(at);
    like.more_fragments = at + n < request.size();
    Receive4(
        Ipv4("10.0.0.1", "10.0.0.2", 1,
             {request.begin() + static_cast<long>(at), request.begin() + static_cast<long>(at + n)},
             like));
  }
  Bytes reply;
  for (const Bytes& frame : Output()) reply = reply + PayloadOf(frame);
  EXPECT_EQ(reply, Icmp(0, 0, 1, Pattern(20000)));
}

TEST_F(IcmpTest, IgnoresBroadcastPingsAndWrongChecksums) {
  Configure();
  Receive(Ethernet(MacAddress::Broadcast(), kPeerMac, wire::kEtherTypeIpv4,
                   Ipv4("10.0.0.1", "10.0.0.255", 1, Icmp(8, 0, 1, Pattern(8)))));
  Bytes bad = Icmp(8, 0, 1, Pattern(8));
  bad[9] ^= 1;
  Receive4(Ipv4("10.0.0.1", "10.0.0.2", 1, bad));
  EXPECT_EQ(Count(Counter::kIcmpInChecksumErrors), 1u);
  EXPECT_TRUE(Output().empty());
}

TEST_F(IcmpTest, SaysPortUnreachableAboutTheBytesThatCame) {
  Configure();
  const Bytes packet = Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(7, 9, 20), {.tos = 0x08});
  ASSERT_EQ(Receive4(packet), IpVerdict::kDeliver);
  ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(PayloadOf(out[0]), Icmp(3, 3, 0, packet));
  EXPECT_EQ(Ipv4Of(out[0]).tos, 0xc8) << "RFC 1812 4.3.2.5";
  const Bytes six = Ipv6("fd00::1", "fd00::2", 17, Udp(7, 9, 20));
  ASSERT_EQ(Receive6(six), IpVerdict::kDeliver);
  ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
  EXPECT_EQ(PayloadOf(Output().at(0)), IcmpV6("fd00::2", "fd00::1", 1, 4, 0, six));
}

TEST_F(IcmpTest, QuotesNoMoreThanItMay) {
  Configure();
  ASSERT_EQ(Receive4(Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(7, 9, 1400))), IpVerdict::kDeliver);
  ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
  EXPECT_EQ(Output().at(0).size(), 14u + 576);
  ASSERT_EQ(Receive6(Ipv6("fd00::1", "fd00::2", 17, Udp(7, 9, 1400))), IpVerdict::kDeliver);
  ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
  EXPECT_EQ(Output().at(0).size(), 14u + 1280);
}

TEST_F(IcmpTest, PointsAtTheUnknownNextHeader) {
  Configure();
  ASSERT_EQ(Receive6(Ipv6("fd00::1", "fd00::2", 60, Hex("fd 00 01 04 00 00 00 00") + Pattern(8))),
            IpVerdict::kDeliver);
  EXPECT_EQ(delivered_->ip.protocol, 0xfd);
  ip_->SendUnreachable(*delivered_, Unreachable::kProtocol, now_);
  const Bytes reply = PayloadOf(Output().at(0));
  EXPECT_EQ(reply[0], wire::kIcmpV6ParameterProblem);
  EXPECT_EQ(reply[1], wire::kIcmpV6UnknownNextHeader);
  EXPECT_EQ(Load32(reply.data() + 4), 40u);
}

struct SilenceCase {
  const char* what;
  const char* link_destination;
  const char* source;
  const char* destination;
  uint8_t protocol;
  const char* payload;
};

class SilenceTest : public IpFixture, public ::testing::WithParamInterface<SilenceCase> {};

// RFC 1122 3.2.2.
TEST_P(SilenceTest, IsNotAnsweredWithAnError) {
  const SilenceCase& c = GetParam();
  Configure();
  const IpVerdict verdict =
      Receive(Ethernet(Mac(c.link_destination), kPeerMac, wire::kEtherTypeIpv4,
                       Ipv4(c.source, c.destination, c.protocol, Hex(c.payload))));
  if (verdict != IpVerdict::kConsumed) {
    ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
  }
  EXPECT_TRUE(Output().empty()) << c.what;
}

INSTANTIATE_TEST_SUITE_P(
    All, SilenceTest,
    ::testing::Values(SilenceCase{"broadcast", "ff:ff:ff:ff:ff:ff", "10.0.0.1", "10.0.0.255", 17,
                                  "0007 0009 0008 0000"},
                      SilenceCase{"group", "01:00:5e:00:00:01", "10.0.0.1", "224.0.0.1", 17,
                                  "0007 0009 0008 0000"},
                      SilenceCase{"link broadcast", "ff:ff:ff:ff:ff:ff", "10.0.0.1", "10.0.0.2", 17,
                                  "0007 0009 0008 0000"},
                      SilenceCase{"an error", "02:00:00:00:00:02", "10.0.0.1", "10.0.0.2", 1,
                                  "0303 fcfc 0000 0000"},
                      SilenceCase{"from nobody", "ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255",
                                  17, "0007 0009 0008 0000"}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST_F(IcmpTest, LimitsErrorsToOneDestinationAsLinuxDoes) {
  Configure();
  size_t sent = 0;
  for (int i = 0; i < 100; ++i) {
    Receive4(Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(7, 9, 20)));
    ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
    sent += Output().size();
  }
  EXPECT_EQ(sent, 6u) << "a burst of six";
  EXPECT_EQ(Count(Counter::kIcmpOutRateLimited), 94u);
  Advance(Duration::Milliseconds(1100));
  for (int i = 0; i < 10; ++i) {
    Receive4(Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(7, 9, 20)));
    ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
    sent += Output().size();
  }
  EXPECT_EQ(sent, 7u) << "then one a second";
}

TEST_F(IcmpTest, LimitsErrorsInAll) {
  Configure();
  size_t sent = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string from = "10.0.7." + std::to_string(i);
    Receive4(Ipv4(from.c_str(), "10.0.0.2", 17, Udp(7, 9, 20)));
    ip_->SendUnreachable(*delivered_, Unreachable::kPort, now_);
    sent += Output().size();
  }
  EXPECT_LE(sent, 50u) << "a burst of fifty";
  EXPECT_GT(sent, 40u);
}

// --- errors that we get ---

struct ErrorCase {
  bool v6;
  uint8_t type;
  uint8_t code;
  uint32_t rest;
  int error;
  bool hard;
  uint32_t mtu;
};

class ErrorTest : public IpFixture, public ::testing::WithParamInterface<ErrorCase> {};

// Linux: icmp_err_convert and icmpv6_err_convert.
TEST_P(ErrorTest, MeansWhatLinuxSays) {
  const ErrorCase& c = GetParam();
  Configure();
  if (c.v6) {
    const Bytes sent = Ipv6("fd00::2", "2001:db8::1", 6, Pattern(20));
    ASSERT_EQ(Receive6(Ipv6("fd00::9", "fd00::2", 58,
                            IcmpV6("fd00::9", "fd00::2", c.type, c.code, c.rest, sent))),
              IpVerdict::kIcmpError);
  } else {
    const Bytes sent = Ipv4("10.0.0.2", "192.0.2.1", 6, Pattern(20));
    ASSERT_EQ(Receive4(Ipv4("10.0.0.9", "10.0.0.2", 1, Icmp(c.type, c.code, c.rest, sent))),
              IpVerdict::kIcmpError);
  }
  const IcmpError& error = ip_->icmp_error();
  EXPECT_EQ(error.error, c.error);
  EXPECT_EQ(error.hard, c.hard);
  EXPECT_EQ(error.mtu, c.mtu);
  EXPECT_EQ(error.type, c.type);
  EXPECT_EQ(error.code, c.code);
  EXPECT_EQ(error.origin, c.v6 ? 3 : 2);
  EXPECT_EQ(error.protocol, 6);
  EXPECT_EQ(error.local, c.v6 ? V6("fd00::2") : V4("10.0.0.2"));
  EXPECT_EQ(error.remote, c.v6 ? V6("2001:db8::1") : V4("192.0.2.1"));
  EXPECT_EQ(error.offender, c.v6 ? V6("fd00::9") : V4("10.0.0.9"));
  EXPECT_EQ(Bytes(error.embedded, error.embedded + error.embedded_length), Pattern(20));
}

INSTANTIATE_TEST_SUITE_P(All, ErrorTest,
                         ::testing::Values(ErrorCase{false, 3, 0, 0, ENETUNREACH, false, 0},
                                           ErrorCase{false, 3, 1, 0, EHOSTUNREACH, false, 0},
                                           ErrorCase{false, 3, 2, 0, ENOPROTOOPT, true, 0},
                                           ErrorCase{false, 3, 3, 0, ECONNREFUSED, true, 0},
                                           ErrorCase{false, 3, 4, 1400, EMSGSIZE, false, 1400},
                                           ErrorCase{false, 3, 5, 0, EOPNOTSUPP, false, 0},
                                           ErrorCase{false, 3, 7, 0, EHOSTDOWN, true, 0},
                                           ErrorCase{false, 3, 8, 0, ENONET, true, 0},
                                           ErrorCase{false, 3, 10, 0, EHOSTUNREACH, true, 0},
                                           ErrorCase{false, 3, 13, 0, EHOSTUNREACH, true, 0},
                                           ErrorCase{false, 11, 0, 0, EHOSTUNREACH, false, 0},
                                           ErrorCase{false, 12, 0, 9u << 24, EPROTO, true, 0},
                                           ErrorCase{true, 1, 0, 0, ENETUNREACH, false, 0},
                                           ErrorCase{true, 1, 1, 0, EACCES, true, 0},
                                           ErrorCase{true, 1, 3, 0, EHOSTUNREACH, false, 0},
                                           ErrorCase{true, 1, 4, 0, ECONNREFUSED, true, 0},
                                           ErrorCase{true, 2, 0, 1300, EMSGSIZE, false, 1300},
                                           ErrorCase{true, 3, 0, 0, EHOSTUNREACH, false, 0},
                                           ErrorCase{true, 4, 0, 40, EPROTO, true, 0}),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST_F(IcmpTest, TakesThePlateauFromARouterThatGivesNoMtu) {
  Configure();
  Bytes sent = Ipv4("10.0.0.2", "192.0.2.1", 6, Pattern(20));
  Store16(sent.data() + 2, 1500);
  ASSERT_EQ(Receive4(Ipv4("10.0.0.9", "10.0.0.2", 1, Icmp(3, 4, 0, sent))), IpVerdict::kIcmpError);
  EXPECT_EQ(ip_->icmp_error().mtu, 1492u) << "RFC 1191 7";
}

TEST_F(IcmpTest, DropsErrorsAboutPacketsThatItCannotHaveSent) {
  Configure();
  const auto error4 = [&](const Bytes& quote) {
    return Receive4(Ipv4("10.0.0.9", "10.0.0.2", 1, Icmp(3, 3, 0, quote)));
  };
  EXPECT_EQ(error4(Ipv4("10.0.0.3", "192.0.2.1", 6, Pattern(20))), IpVerdict::kConsumed);
  EXPECT_EQ(error4(Ipv4("10.0.0.2", "192.0.2.1", 6, Pattern(7))), IpVerdict::kConsumed);
  EXPECT_EQ(error4({}), IpVerdict::kConsumed);
  EXPECT_EQ(error4(Pattern(40)), IpVerdict::kConsumed);
  EXPECT_EQ(error4(Ipv4("10.0.0.2", "192.0.2.1", 6, Pattern(20), {.fragment_offset = 8})),
            IpVerdict::kConsumed);
  const auto error6 = [&](const Bytes& quote) {
    return Receive6(Ipv6("fd00::9", "fd00::2", 58, IcmpV6("fd00::9", "fd00::2", 1, 4, 0, quote)));
  };
  EXPECT_EQ(error6(Ipv6("fd00::3", "2001:db8::1", 6, Pattern(20))), IpVerdict::kConsumed);
  EXPECT_EQ(error6(Ipv6("fd00::2", "2001:db8::1", 6, Pattern(7))), IpVerdict::kConsumed);
  EXPECT_EQ(error6(Ipv6("fd00::2", "2001:db8::1", 44, Hex("06 00 00 08 00000001") + Pattern(20))),
            IpVerdict::kConsumed);
  EXPECT_EQ(error6(Ipv6("fd00::2", "2001:db8::1", 44, Hex("06 00 00 01 00000001") + Pattern(20))),
            IpVerdict::kIcmpError);
}

TEST_F(IcmpTest, BelievesNoRedirect) {
  Configure();
  Receive4(Ipv4("10.0.0.1", "10.0.0.2", 1,
                Icmp(5, 1, V4("10.0.0.66").v4(), Ipv4("10.0.0.2", "192.0.2.1", 6, Pattern(8)))));
  EXPECT_EQ(ip_->FindRoute(V4("0.0.0.0"), V4("192.0.2.1"), 0).value().next_hop, V4("10.0.0.1"));
}

// --- groups ---

class GroupTest : public IpFixture {
 protected:
  // IGMP messages among the output, behind their headers.
  std::vector<Bytes> Igmp() {
    std::vector<Bytes> some;
    for (const Bytes& frame : Output()) {
      if (EtherType(frame) != wire::kEtherTypeIpv4 || Ipv4Of(frame).protocol != 2) continue;
      EXPECT_EQ(Ipv4Of(frame).ttl, 1);
      EXPECT_EQ(Ipv4Of(frame).header_length, 24) << "router alert";
      some.push_back(PayloadOf(frame));
      last_destination_ = Ipv4Of(frame).destination;
    }
    return some;
  }
  void Query(const char* to, const Bytes& query) {
    Receive(Ethernet(Mac("01:00:5e:00:00:01"), kPeerMac, wire::kEtherTypeIpv4,
                     Ipv4("10.0.0.1", to, 2, query, {.ttl = 1})));
  }
  IpAddress last_destination_;
};

TEST_F(GroupTest, ReportsAJoinTwiceAndALeaveTwice) {
  Configure();
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  Advance(Duration::Seconds(5));
  auto reports = Igmp();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0], Hex("2200 e8f9 0000 0001 0400 0000 ef01 0203")) << ToHex(reports[0]);
  EXPECT_EQ(last_destination_, V4("224.0.0.22"));
  ASSERT_TRUE(ip_->LeaveGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  Advance(Duration::Seconds(5));
  EXPECT_TRUE(Igmp().empty()) << "one member is left";
  ASSERT_TRUE(ip_->LeaveGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  Advance(Duration::Seconds(5));
  reports = Igmp();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0][8], wire::kChangeToInclude);
  EXPECT_EQ(ip_->LeaveGroup(kWireInterface, V4("239.1.2.3"), now_).error(), EADDRNOTAVAIL);
}

TEST_F(GroupTest, DeliversGroupsOnlyToMembers) {
  Configure();
  const Bytes frame = Ethernet(Mac("01:00:5e:01:02:03"), kPeerMac, wire::kEtherTypeIpv4,
                               Ipv4("10.0.0.1", "239.1.2.3", 17, Udp(1, 2, 3)));
  EXPECT_EQ(Receive(frame), IpVerdict::kConsumed);
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  EXPECT_EQ(Receive(frame), IpVerdict::kDeliver);
  EXPECT_TRUE(delivered_->ip.is_multicast && delivered_->link_broadcast);
  ASSERT_TRUE(ip_->LeaveGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  EXPECT_EQ(Receive(frame), IpVerdict::kConsumed);
}

TEST_F(GroupTest, AnswersAQueryWithinItsTime) {
  Configure();
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  Advance(Duration::Seconds(5));
  Igmp();
  Bytes query = Hex("1164 0000 0000 0000 0200 0000");
  ChecksumAccumulator sum;
  sum.Add(query.data(), query.size());
  Store16(query.data() + 2, sum.Checksum());
  Query("224.0.0.1", query);
  Advance(Duration::Seconds(10));
  const auto reports = Igmp();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0][8], wire::kModeIsExclude);
}

TEST_F(GroupTest, SpeaksIgmpV2ToAnOldQuerierForAWhile) {
  Configure();
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  Advance(Duration::Seconds(5));
  Igmp();
  Query("224.0.0.1", Hex("1114 eeeb 0000 0000"));
  Advance(Duration::Seconds(3));
  auto reports = Igmp();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0][0], wire::kIgmpV2Report);
  EXPECT_EQ(last_destination_, V4("239.1.2.3"));
  ASSERT_TRUE(ip_->LeaveGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  Advance(Duration::Milliseconds(10));
  reports = Igmp();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0][0], wire::kIgmpV2Leave);
  EXPECT_EQ(last_destination_, V4("224.0.0.2"));
  Advance(Duration::Seconds(300));
  Igmp();
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  Advance(Duration::Seconds(5));
  reports = Igmp();
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports[0][0], wire::kIgmpV3Report);
}

TEST_F(GroupTest, ReportsIpv6GroupsWithRouterAlert) {
  Configure();
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V6("ff05::1234"), now_).ok());
  Advance(Duration::Milliseconds(10));
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  const wire::Ipv6Header header = Ipv6Of(out[0]);
  EXPECT_EQ(header.destination, V6("ff02::16"));
  EXPECT_EQ(header.hop_limit, 1);
  EXPECT_EQ(header.source, V6("fe80::ff:fe00:2"));
  EXPECT_EQ(header.next_header, wire::kProtocolHopByHop);
  const Bytes payload = PayloadOf(out[0]);
  EXPECT_EQ(Bytes(payload.begin(), payload.begin() + 8), Hex("3a 00 05 02 0000 01 00"));
  EXPECT_EQ(payload[8], wire::kIcmpV6Mld2Report);
  EXPECT_EQ(payload[16], wire::kChangeToExclude);
  EXPECT_EQ(IpAddress::V6FromBytes(payload.data() + 20), V6("ff05::1234"));
}

TEST_F(GroupTest, ReportsTheSolicitedNodeGroupsOfItsAddresses) {
  ConfigureBare();
  Advance(Duration::Milliseconds(10));
  size_t reports = 0;
  for (const Bytes& frame : Output()) {
    if (EtherType(frame) != wire::kEtherTypeIpv6) continue;
    if (Ipv6Of(frame).next_header == wire::kProtocolHopByHop) {
      ++reports;
      EXPECT_TRUE(Ipv6Of(frame).source.is_unspecified()) << "RFC 3590: tentative";
    }
  }
  EXPECT_EQ(reports, 1u) << "fe80::ff:fe00:2 and fd00::2 share ff02::1:ff00:2";
}

TEST_F(GroupTest, LoopsItsOwnGroupDatagramsToItself) {
  Configure();
  ASSERT_TRUE(ip_->JoinGroup(kWireInterface, V4("239.1.2.3"), now_).ok());
  ASSERT_TRUE(SendUdp("239.1.2.3", 9).ok());
  EXPECT_EQ(RunLooped(), std::vector{IpVerdict::kDeliver});
  EXPECT_EQ(delivered_->ip.interface, kWireInterface);
  auto out = DataOutput();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(DestinationOf(out[0]), Mac("01:00:5e:01:02:03"));
  SendOptions silent;
  silent.multicast_loop = false;
  ASSERT_TRUE(SendUdp("239.1.2.3", 9, silent).ok());
  EXPECT_FALSE(ip_->HasLooped());
}

TEST_F(GroupTest, RefusesWhatIsNoGroup) {
  Configure();
  EXPECT_EQ(ip_->JoinGroup(kWireInterface, V4("10.0.0.1"), now_).error(), EINVAL);
  EXPECT_EQ(ip_->JoinGroup(4, V4("239.1.2.3"), now_).error(), ENODEV);
  uint32_t joined = 0;
  for (uint32_t i = 0; i < 2000; ++i) {
    joined += ip_->JoinGroup(kWireInterface, IpAddress::V4(0xef000000 + i), now_).ok();
  }
  EXPECT_LT(joined, Membership::kMaxGroups);
  EXPECT_EQ(ip_->JoinGroup(kWireInterface, V4("239.200.0.1"), now_).error(), ENOBUFS);
}

}  // namespace
}  // namespace userstack::testing
