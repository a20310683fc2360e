// Reassembly: fragments in every order, overlaps, lies about lengths, time and memory.
#include <numeric>
#include <random>

#include "tests/netstack/ip/fixture.h"

namespace userstack::testing {
namespace {

class ReassemblyTest : public IpFixture {
 protected:
  IpVerdict Give(bool v6, const Bytes& datagram, size_t offset, size_t length, bool more,
                 uint32_t identification = 7, uint8_t ecn = 0) {
    const Bytes part(datagram.begin() + static_cast<long>(offset),
                     datagram.begin() + static_cast<long>(offset + length));
    if (v6) {
      Bytes header(8);
      wire::WriteIpv6FragmentHeader(header.data(),
                                    {17, static_cast<uint16_t>(offset), more, identification});
      Bytes packet = Ipv6("fd00::1", "fd00::2", 44, header + part);
      packet[1] = static_cast<uint8_t>(ecn << 4);
      return Receive6(packet);
    }
    wire::Ipv4Header like;
    like.identification = static_cast<uint16_t>(identification);
    like.fragment_offset = static_cast<uint16_t>(offset);
    like.more_fragments = more;
    like.tos = ecn;
    return Receive4(Ipv4("10.0.0.1", "10.0.0.2", 17, part, like));
  }
};

class BothFamilies : public ReassemblyTest, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(All, BothFamilies, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Ipv6" : "Ipv4"; });

TEST_P(BothFamilies, PutsFragmentsTogetherInAnyOrderAndWithCopies) {
  Configure();
  std::mt19937 random(5);
  const Bytes datagram = Udp(1, 2, 10000);
  for (uint32_t round = 0; round < 50; ++round) {
    std::vector<size_t> order;
    for (size_t at = 0; at < datagram.size(); at += 400) order.push_back(at);
    for (int i = 0; i < 5; ++i) order.push_back(order[random() % order.size()]);
    std::shuffle(order.begin(), order.end(), random);
    int delivered = 0;
    for (size_t at : order) {
      const size_t n = std::min<size_t>(400, datagram.size() - at);
      if (Give(GetParam(), datagram, at, n, at + n < datagram.size(), round) ==
          IpVerdict::kDeliver) {
        ++delivered;
        EXPECT_EQ(Delivered(), datagram);
        EXPECT_GE(delivered_->contiguous(), 8u) << "the transport header is in slice 0";
      }
    }
    EXPECT_EQ(delivered, 1) << round;
  }
}

TEST_P(BothFamilies, TakesTheLongestDatagram) {
  Configure();
  const size_t longest = GetParam() ? 65535 - 8 : 65515 - 8;
  const Bytes datagram = Udp(1, 2, longest);
  IpVerdict verdict = IpVerdict::kConsumed;
  for (size_t at = 0; at < datagram.size(); at += 1440) {
    const size_t n = std::min<size_t>(1440, datagram.size() - at);
    verdict = Give(GetParam(), datagram, at, n, at + n < datagram.size());
  }
  ASSERT_EQ(verdict, IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), datagram);
}

TEST_P(BothFamilies, DropsTheDatagramWhenFragmentsOverlap) {
  Configure();
  const Bytes datagram = Udp(1, 2, 3000);
  Give(GetParam(), datagram, 0, 800, true);
  Give(GetParam(), datagram, 792, 808, true);
  EXPECT_EQ(Count(Counter::kIpReassemblyFails), 1u) << "RFC 5722";
  EXPECT_EQ(Give(GetParam(), datagram, 1600, 1408, false), IpVerdict::kConsumed);
}

TEST_P(BothFamilies, DropsADatagramWithTwoEnds) {
  Configure();
  const Bytes datagram = Udp(1, 2, 3000);
  Give(GetParam(), datagram, 1600, 100, false);
  Give(GetParam(), datagram, 2000, 100, false);
  EXPECT_EQ(Count(Counter::kIpReassemblyFails), 1u);
  Give(GetParam(), datagram, 1600, 800, true, 8);
  Give(GetParam(), datagram, 800, 100, false, 8);
  EXPECT_EQ(Count(Counter::kIpReassemblyFails), 2u) << "an end before what came";
  Give(GetParam(), datagram, 800, 100, false, 9);
  Give(GetParam(), datagram, 1600, 800, true, 9);
  EXPECT_EQ(Count(Counter::kIpReassemblyFails), 3u) << "more after the end";
}

TEST_P(BothFamilies, KeepsDatagramsApart) {
  Configure();
  const Bytes one = Udp(1, 2, 1000);
  const Bytes two = Udp(3, 4, 1000);
  Give(GetParam(), one, 0, 800, true, 1);
  Give(GetParam(), two, 0, 800, true, 2);
  EXPECT_EQ(Give(GetParam(), two, 800, 208, false, 2), IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), two);
  EXPECT_EQ(Give(GetParam(), one, 800, 208, false, 1), IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), one);
}

TEST_P(BothFamilies, GivesUpInTimeAndSaysSo) {
  Configure();
  const Bytes datagram = Udp(1, 2, 3000);
  Give(GetParam(), datagram, 0, 800, true, 1);
  Give(GetParam(), datagram, 800, 800, true, 2);
  Advance(GetParam() ? Reassembly::kTimeoutV6 - Duration::Seconds(1)
                     : Reassembly::kTimeoutV4 - Duration::Seconds(1));
  EXPECT_TRUE(DataOutput().empty());
  Advance(Duration::Seconds(2));
  const auto out = DataOutput();
  ASSERT_EQ(out.size(), 1u) << "only about the one whose first fragment came";
  const Bytes message = PayloadOf(out[0]);
  EXPECT_EQ(message[0], GetParam() ? wire::kIcmpV6TimeExceeded + 0 : wire::kIcmpTimeExceeded + 0);
  EXPECT_EQ(message[1], wire::kTimeExceededReassembly);
  EXPECT_EQ(Count(Counter::kIpReassemblyTimeout), 2u);
  EXPECT_EQ(core_->packets.live(), 0u);
}

TEST_P(BothFamilies, BoundsItsMemoryAgainstAFlood) {
  Configure();
  const uint64_t before = core_->buffers.bytes_in_use();
  const Bytes datagram = Udp(1, 2, 3000);
  for (uint32_t i = 0; i < 5000; ++i) Give(GetParam(), datagram, 0, 800, true, i);
  EXPECT_LE(core_->buffers.bytes_in_use() - before,
            uint64_t{Reassembly::kMaxContexts} * (kLargeBufferBytes + kSmallBufferBytes));
  // The newest still works.
  Give(GetParam(), datagram, 800, 800, true, 4999);
  EXPECT_EQ(Give(GetParam(), datagram, 1600, 1408, false, 4999), IpVerdict::kDeliver);
  Advance(Duration::Seconds(61));
  Output();
  DropDelivered();
  EXPECT_EQ(core_->buffers.bytes_in_use(), before);
}

struct EcnCase {
  uint8_t first;
  uint8_t second;
  int result;  // -1: dropped
};

TEST_P(BothFamilies, CombinesEcnAsRfc3168Says) {
  Configure();
  const EcnCase cases[] = {{0, 0, 0}, {2, 2, 2}, {1, 1, 1}, {2, 3, 3},
                           {3, 1, 3}, {1, 2, 2}, {0, 2, 0}, {0, 3, -1}};
  const Bytes datagram = Udp(1, 2, 1000);
  uint32_t id = 100;
  for (const EcnCase& c : cases) {
    SCOPED_TRACE(id);
    Give(GetParam(), datagram, 0, 800, true, ++id, c.first);
    const IpVerdict verdict = Give(GetParam(), datagram, 800, 208, false, id, c.second);
    if (c.result < 0) {
      EXPECT_EQ(verdict, IpVerdict::kConsumed);
    } else {
      ASSERT_EQ(verdict, IpVerdict::kDeliver);
      EXPECT_EQ(delivered_->ip.traffic_class & 3, c.result);
    }
  }
}

TEST_F(ReassemblyTest, RefusesADatagramLongerThanAny) {
  Configure();
  const Bytes datagram(65600);
  Give(false, datagram, 65528, 8, false);  // the ping of death
  EXPECT_EQ(Count(Counter::kIpReassemblyFails), 1u);
  Give(true, datagram, 65528, 16, false);
  EXPECT_EQ(Count(Counter::kIpReassemblyFails), 2u);
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u) << "RFC 8200 4.5: Parameter Problem, pointing at the offset";
  EXPECT_EQ(PayloadOf(out[0])[0], wire::kIcmpV6ParameterProblem);
  EXPECT_EQ(Load32(PayloadOf(out[0]).data() + 4), 42u);
}

TEST_F(ReassemblyTest, PointsAtAnUnevenIpv6Fragment) {
  Configure();
  Give(true, Udp(1, 2, 100), 0, 33, true);
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(PayloadOf(out[0])[0], wire::kIcmpV6ParameterProblem);
  EXPECT_EQ(Load32(PayloadOf(out[0]).data() + 4), 4u);
}

TEST_F(ReassemblyTest, TakesAnAtomicFragmentAtOnce) {
  Configure();
  const Bytes datagram = Udp(1, 2, 100);
  Give(true, datagram, 0, 48, true, 9);
  EXPECT_EQ(Give(true, datagram, 0, datagram.size(), false, 9), IpVerdict::kDeliver)
      << "RFC 6946: it meets no other fragment";
  EXPECT_EQ(Delivered(), datagram);
}

TEST_F(ReassemblyTest, RefusesAFragmentInsideOfAFragment) {
  Configure();
  const Bytes inner = Hex("11 00 0001 00000005") + Udp(1, 2, 100);
  Bytes header(8);
  wire::WriteIpv6FragmentHeader(header.data(), {44, 0, false, 3});
  EXPECT_EQ(Receive6(Ipv6("fd00::1", "fd00::2", 44, header + inner)), IpVerdict::kConsumed);
  EXPECT_EQ(Count(Counter::kIpReassemblyRequired), 0u);
}

TEST_F(ReassemblyTest, WantsTheWholeHeaderChainInTheFirstFragment) {
  Configure();
  // A destination options header of 16 bytes, of which 8 came.
  Bytes header(8);
  wire::WriteIpv6FragmentHeader(header.data(), {60, 0, true, 3});
  Receive6(Ipv6("fd00::1", "fd00::2", 44, header + Hex("11 01 01 04 00 00 00 00")));
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(PayloadOf(out[0])[0], wire::kIcmpV6ParameterProblem);
  EXPECT_EQ(PayloadOf(out[0])[1], wire::kIcmpV6IncompleteChain) << "RFC 7112";
}

TEST_F(ReassemblyTest, IgnoresNeighbourDiscoveryFromFragments) {
  Configure();
  Bytes body(16);
  std::memcpy(body.data(), V6("fd00::2").v6_bytes(), 16);
  const Bytes message = IcmpV6("fd00::1", "fd00::2", wire::kIcmpV6NeighborSolicitation, 0, 0,
                               body + Hex("01 01 020000000055"));
  for (size_t at = 0; at < message.size(); at += 16) {
    Bytes header(8);
    wire::WriteIpv6FragmentHeader(header.data(),
                                  {58, static_cast<uint16_t>(at), at + 16 < message.size(), 3});
    Receive6(Ipv6("fd00::1", "fd00::2", 44,
                  header + Bytes(message.begin() + static_cast<long>(at),
                                 message.begin() + static_cast<long>(at + 16)),
                  255));
  }
  EXPECT_TRUE(Output().empty()) << "RFC 6980";
}

}  // namespace
}  // namespace userstack::testing
