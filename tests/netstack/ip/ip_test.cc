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

TEST_F(IpTest, JudgesAddressesAnewWhenOursChange) {
  Configure();
  const Bytes packet = Ipv4("10.0.0.9", "10.0.0.2", 17, Udp(1, 2, 3));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Receive4(packet), IpVerdict::kDeliver);
  // The peer's address becomes ours: a martian.
  ASSERT_TRUE(ip_->AddAddress(kWireInterface, {V4("10.0.0.9"), 24}, now_).ok());
  EXPECT_EQ(Receive4(packet), IpVerdict::kConsumed);
  ASSERT_TRUE(ip_->RemoveAddress(kWireInterface, V4("10.0.0.9"), now_).ok());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Receive4(packet), IpVerdict::kDeliver);
  ASSERT_TRUE(ip_->RemoveAddress(kWireInterface, V4("10.0.0.2"), now_).ok());
  EXPECT_EQ(Receive4(packet), IpVerdict::kConsumed);
  // Another destination with the same source is another pair.
  EXPECT_EQ(Receive4(Ipv4("10.0.0.9", "10.0.0.3", 17, Udp(1, 2, 3))), IpVerdict::kConsumed);
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

TEST_F(IpTest, LoopsASocketsSlicesWithoutCopyingThem) {
  Configure();
  Buffer* large = core_->buffers.Allocate(BufferClass::kLarge);
  Frame* frame = MakeFrame(Hex("03e8 07d0 0000 0000"), {});
  ASSERT_TRUE(frame->AddSlice(large, 100, 30000));
  SendOptions options;
  options.protocol = 17;
  ASSERT_TRUE(Send(frame, "127.0.0.1", options).ok());
  EXPECT_EQ(RunLooped(), std::vector{IpVerdict::kDeliver});
  ASSERT_EQ(delivered_->slice_count, 2);
  EXPECT_EQ(delivered_->slices[1].data(), large->bytes + 100);
  EXPECT_EQ(large->references, 2u);
  DropDelivered();
  core_->buffers.Release(large);
}

TEST_F(IpTest, LoopsAFrameThatHasEverySliceTaken) {
  Configure();
  const Bytes payload = Pattern(18 * 1000);
  SendOptions options;
  options.protocol = 17;
  ASSERT_TRUE(Send(MakeFrame(Hex("03e8 07d0 0000 0000"), payload, 1000), "::1", options).ok());
  EXPECT_EQ(RunLooped(), std::vector{IpVerdict::kDeliver});
  EXPECT_EQ(Delivered(), Hex("03e8 07d0 0000 0000") + payload);
}

TEST_F(IpTest, BoundsTheLoopback) {
  Configure();
  Status status;
  uint32_t sent = 0;
  while ((status = SendUdp("127.0.0.1", 1)).ok()) {
    ++sent;
    EXPECT_EQ(ip_->IsCongested(kLoopbackInterface), sent >= 256);
  }
  EXPECT_EQ(status.error(), ENOBUFS);
  EXPECT_GE(sent, 256u);
  RunLooped();
  EXPECT_EQ(ip_->TakeDrained(), 1u << kLoopbackInterface);
}

// --- routes ---

struct RouteCase {
  const char* to;
  const char* next_hop;  // nullptr: error
  int error;
  const char* source;
  uint16_t interface;
};

class RouteTest : public IpFixture, public ::testing::WithParamInterface<RouteCase> {};

TEST_P(RouteTest, GoesTheWayTheTableSays) {
  const RouteCase& c = GetParam();
  Configure();
  ASSERT_TRUE(ip_->AddInterface(3, "eth1", {.mac = Mac("02:00:00:00:01:02"), .mtu = 9000}).ok());
  ASSERT_TRUE(ip_->AddAddress(3, {V4("172.16.0.2"), 16}, now_).ok());
  ASSERT_TRUE(ip_->AddAddress(3, {V6("2001:db8:5::2"), 64}, now_).ok());
  ASSERT_TRUE(ip_->AddRoute({V4("172.16.9.0"), 24}, V4("172.16.0.9"), 0, 5).ok());
  ASSERT_TRUE(ip_->AddRoute({V4("172.16.9.0"), 24}, V4("172.16.0.8"), 0, 4).ok());
  ASSERT_TRUE(ip_->AddRoute({V4("192.0.2.0"), 24}, V4("172.16.0.7"), 0, 0).ok());
  Advance(Duration::Seconds(20));
  const bool v6 = std::string_view(c.to).find(':') != std::string_view::npos;
  const IpAddress to = v6 ? V6(c.to) : V4(c.to);
  const Result<Route> route = ip_->FindRoute(IpAddress::Any(to.family()), to, 0);
  if (c.next_hop == nullptr) {
    EXPECT_EQ(route.error(), c.error);
    return;
  }
  ASSERT_TRUE(route.ok()) << route.error();
  EXPECT_EQ(route.value().next_hop, v6 ? V6(c.next_hop) : V4(c.next_hop));
  EXPECT_EQ(route.value().source, v6 ? V6(c.source) : V4(c.source));
  EXPECT_EQ(route.value().interface, c.interface);
}

INSTANTIATE_TEST_SUITE_P(
    All, RouteTest,
    ::testing::Values(RouteCase{"10.0.0.9", "10.0.0.9", 0, "10.0.0.2", 2},
                      RouteCase{"8.8.8.8", "10.0.0.1", 0, "10.0.0.2", 2},
                      RouteCase{"172.16.3.4", "172.16.3.4", 0, "172.16.0.2", 3},
                      RouteCase{"172.16.9.1", "172.16.0.8", 0, "172.16.0.2", 3},  // metric
                      RouteCase{"192.0.2.7", "172.16.0.7", 0, "172.16.0.2", 3},
                      RouteCase{"10.0.0.2", "10.0.0.2", 0, "10.0.0.2", 1},
                      RouteCase{"127.0.0.5", "127.0.0.5", 0, "127.0.0.1", 1},
                      RouteCase{"0.0.0.0", "127.0.0.1", 0, "127.0.0.1", 1},
                      RouteCase{"255.255.255.255", "255.255.255.255", 0, "10.0.0.2", 2},
                      RouteCase{"10.0.0.255", "10.0.0.255", 0, "10.0.0.2", 2},
                      RouteCase{"239.1.1.1", "239.1.1.1", 0, "10.0.0.2", 2},
                      RouteCase{"fd00::9", "fd00::9", 0, "fd00::2", 2},
                      RouteCase{"2001:db8:5::9", "2001:db8:5::9", 0, "2001:db8:5::2", 3},
                      RouteCase{"2001:db8:77::9", "fd00::1", 0, "fd00::2",
                                2},  // interface before label
                      RouteCase{"fd77::9", "fd00::1", 0, "fd00::2", 2},
                      RouteCase{"fe80::9", "fe80::9", 0, "fe80::ff:fe00:2", 2},
                      RouteCase{"ff02::1", "ff02::1", 0, "fe80::ff:fe00:2", 2},
                      RouteCase{"::", "::1", 0, "::1", 1},
                      RouteCase{"2001:db8:5::2", "2001:db8:5::2", 0, "2001:db8:5::2", 1}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST_F(IpTest, SaysWhyThereIsNoRoute) {
  ASSERT_TRUE(ip_->AddInterface(kWireInterface, "eth0", DefaultDevice()).ok());
  ASSERT_TRUE(ip_->AddAddress(kWireInterface, {V4("10.0.0.2"), 24}, now_).ok());
  const auto error = [&](const char* from, const char* to, uint16_t interface) {
    return ip_->FindRoute(V4(from), V4(to), interface).error();
  };
  EXPECT_EQ(error("0.0.0.0", "8.8.8.8", 0), ENETUNREACH);
  EXPECT_EQ(error("10.0.0.3", "10.0.0.9", 0), EADDRNOTAVAIL);
  EXPECT_EQ(error("127.0.0.1", "10.0.0.9", 0), EINVAL) << "Linux: loopback stays inside";
  EXPECT_EQ(error("0.0.0.0", "255.255.255.255", 0), ENETUNREACH);
  EXPECT_EQ(error("0.0.0.0", "255.255.255.255", 2), 0);
  EXPECT_EQ(error("10.0.0.2", "239.1.1.1", 0), 0) << "the source names the interface";
  EXPECT_EQ(error("0.0.0.0", "8.8.8.8", 1), ENETUNREACH);
  EXPECT_EQ(error("0.0.0.0", "8.8.8.8", 2), 0) << "Linux: bound to a device, taken as on-link";
}

TEST_F(IpTest, RefusesConfigurationThatCannotBe) {
  Configure();
  EXPECT_EQ(ip_->AddInterface(kWireInterface, "eth9", DefaultDevice()).error(), EEXIST);
  EXPECT_EQ(ip_->AddInterface(9, "eth9", DefaultDevice()).error(), EINVAL);
  EXPECT_EQ(ip_->AddInterface(3, "eth0", DefaultDevice()).error(), EEXIST);
  EXPECT_EQ(ip_->AddInterface(3, "a-name-that-is-too-long", DefaultDevice()).error(), EINVAL);
  const auto add = [&](uint16_t interface, const IpAddress& a, uint8_t length) {
    return ip_->AddAddress(interface, {a, length}, now_).error();
  };
  EXPECT_EQ(add(4, V4("10.9.0.1"), 24), ENODEV);
  EXPECT_EQ(add(2, V4("10.9.0.1"), 33), EINVAL);
  EXPECT_EQ(add(2, V4("224.0.0.5"), 24), EINVAL);
  EXPECT_EQ(add(2, V4("127.0.0.9"), 8), EINVAL);
  EXPECT_EQ(add(2, V4("10.0.0.2"), 24), EEXIST);
  EXPECT_EQ(ip_->AddRoute({V4("1.0.0.0"), 8}, V4("9.9.9.9"), 0, 0).error(), ENETUNREACH);
  EXPECT_EQ(ip_->AddRoute({V4("0.0.0.0"), 0}, V4("10.0.0.1"), 2, 0).error(), EEXIST);
  EXPECT_EQ(ip_->AddRoute({V4("1.0.0.0"), 8}, V4("10.0.0.2"), 0, 0).error(), EINVAL);
  EXPECT_EQ(ip_->AddRoute({V4("1.0.0.0"), 8}, V4("0.0.0.0"), 1, 0).error(), EINVAL);
  EXPECT_EQ(ip_->RemoveRoute({V4("9.0.0.0"), 8}, V4("10.0.0.1")).error(), ESRCH);
  EXPECT_EQ(ip_->RemoveAddress(2, V4("10.0.0.77"), now_).error(), EADDRNOTAVAIL);
  for (uint32_t i = 0; i < 100; ++i) (void)add(2, IpAddress::V4(0x0a010001 + (i << 8)), 24);
  EXPECT_EQ(add(2, V4("10.77.0.1"), 24), ENOBUFS);
  ip_->CheckInvariants();
}

TEST_F(IpTest, ForgetsAnAddressAndItsRoute) {
  Configure();
  const uint32_t before = ip_->route_generation();
  ASSERT_TRUE(ip_->RemoveAddress(kWireInterface, V4("10.0.0.2"), now_).ok());
  EXPECT_NE(ip_->route_generation(), before);
  EXPECT_FALSE(ip_->IsLocal(V4("10.0.0.2")));
  EXPECT_EQ(Receive4(Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(1, 2, 3))), IpVerdict::kConsumed);
  ASSERT_TRUE(ip_->RemoveAddress(kWireInterface, V6("fd00::2"), now_).ok());
  Advance(Duration::Seconds(5));
  EXPECT_TRUE(ip_->FindRoute(V6("::"), V6("fe80::9"), 0).ok());
}

TEST_F(IpTest, ShowsItsInterfacesAndAddresses) {
  Configure();
  EXPECT_EQ(ip_->InterfaceByName("lo"), 1);
  EXPECT_EQ(ip_->InterfaceByName("eth0"), 2);
  EXPECT_EQ(ip_->InterfaceByName("eth1"), 0);
  EXPECT_EQ(ip_->interface(2)->device.mac, kOurMac);
  EXPECT_EQ(ip_->interface(3), nullptr);
  unsigned seen = 0;
  for (unsigned i = 0; i < kMaxAddresses; ++i) seen += ip_->AddressAt(i) != nullptr;
  EXPECT_EQ(seen, 5u) << "127.0.0.1 ::1 10.0.0.2 fe80:: fd00::2";
}

// --- path MTU ---

TEST_F(IpTest, BelievesAPathMtuForTenMinutes) {
  Configure();
  const auto mtu = [&](const IpAddress& to) {
    return ip_->FindRoute(IpAddress::Any(to.family()), to, 0).value().mtu;
  };
  for (const IpAddress& to : {V4("192.0.2.1"), V6("2001:db8::1")}) {
    EXPECT_EQ(mtu(to), 1500u);
    const uint32_t generation = ip_->route_generation();
    ip_->UpdatePathMtu(to, 1400, now_);
    EXPECT_NE(ip_->route_generation(), generation);
    EXPECT_EQ(mtu(to), 1400u);
    ip_->UpdatePathMtu(to, 1450, now_);
    EXPECT_EQ(mtu(to), 1400u) << "only time makes it larger";
    EXPECT_EQ(ip_->PathMtu(to, kWireInterface, now_), 1400u);
    EXPECT_EQ(mtu(to.is_v4() ? V4("192.0.2.2") : V6("2001:db8::2")), 1500u);
  }
  Advance(Duration::Seconds(601));
  EXPECT_EQ(mtu(V4("192.0.2.1")), 1500u);
  EXPECT_EQ(mtu(V6("2001:db8::1")), 1500u);
}

TEST_F(IpTest, BelievesNoPathMtuBelowTheMinimum) {
  Configure();
  ip_->UpdatePathMtu(V6("2001:db8::1"), 1279, now_);
  EXPECT_EQ(ip_->FindRoute(V6("::"), V6("2001:db8::1"), 0).value().mtu, 1500u);
  ip_->UpdatePathMtu(V4("192.0.2.1"), 300, now_);
  const Route route = ip_->FindRoute(V4("0.0.0.0"), V4("192.0.2.1"), 0).value();
  EXPECT_EQ(route.mtu, PathMtuTable::kFloorV4);
  EXPECT_TRUE(route.mtu_locked);
  SendOptions options;
  options.dont_fragment = true;
  ASSERT_TRUE(SendUdp("192.0.2.1", 100, options).ok());
  EXPECT_FALSE(Ipv4Of(Output().at(0)).dont_fragment) << "Linux: a locked MTU takes DF away";
}

TEST_F(IpTest, BoundsThePathMtuTable) {
  Configure();
  for (uint32_t i = 0; i < 3000; ++i) {
    ip_->UpdatePathMtu(IpAddress::V4(0x01000000 + i), 1400, now_);
  }
  ip_->CheckInvariants();
  EXPECT_EQ(ip_->PathMtu(IpAddress::V4(0x01000000 + 2999), 2, now_), 1400u);
  EXPECT_EQ(ip_->PathMtu(IpAddress::V4(0x01000000), 2, now_), 1500u);
}

TEST_F(IpTest, HonoursDontFragment) {
  Configure();
  SendOptions options;
  options.dont_fragment = true;
  EXPECT_EQ(SendUdp("10.0.0.1", 1473, options).error(), EMSGSIZE);
  EXPECT_TRUE(SendUdp("10.0.0.1", 1472, options).ok());
  EXPECT_EQ(SendUdp("fd00::1", 1453, options).error(), EMSGSIZE);
  EXPECT_TRUE(SendUdp("fd00::1", 1452, options).ok());
  EXPECT_EQ(Output().size(), 2u);
  options.dont_fragment = false;
  options.discover_path_mtu = true;
  EXPECT_TRUE(SendUdp("10.0.0.1", 1472, options).ok());
  EXPECT_TRUE(Ipv4Of(Output().at(0)).dont_fragment);
  EXPECT_TRUE(SendUdp("10.0.0.1", 1473, options).ok());
  const auto out = Output();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_FALSE(Ipv4Of(out[0]).dont_fragment);
  EXPECT_NE(Ipv4Of(out[0]).identification, 0);
  EXPECT_EQ(SendUdp("10.0.0.1", 65508).error(), EMSGSIZE) << "no IP packet is so long";
}

TEST_F(IpTest, DoesNotRepeatIdentifications) {
  Configure();
  ASSERT_TRUE(SendUdp("10.0.0.1", 1).ok());
  ASSERT_TRUE(SendUdp("10.0.0.1", 1).ok());
  const auto out = Output();
  EXPECT_NE(Ipv4Of(out.at(0)).identification, Ipv4Of(out.at(1)).identification);
}

// --- offload ---

TEST_F(IpTest, FinishesChecksumsForADeviceThatCannot) {
  for (const bool offload : {false, true}) {
    SCOPED_TRACE(offload);
    DeviceCapabilities device = DefaultDevice();
    device.transmit_checksum = offload;
    if (offload) {
      ASSERT_TRUE(ip_->AddInterface(3, "eth1", device).ok());
      ASSERT_TRUE(ip_->AddAddress(3, {V4("172.16.0.2"), 24}, now_).ok());
    } else {
      Configure(device);
    }
    const char* to = offload ? "172.16.0.255" : "10.0.0.255";
    const IpAddress from = offload ? V4("172.16.0.2") : V4("10.0.0.2");
    Frame* frame = MakeFrame(Hex("03e8 07d0 0013 0000"), Pattern(11), 3);
    ChecksumAccumulator pseudo;
    pseudo.AddPseudoHeader(from, V4(to), 17, 19);
    Store16(frame->header() + 6, pseudo.Sum());
    frame->offload.checksum_needed = true;
    frame->offload.checksum_offset = 6;
    SendOptions options;
    options.protocol = 17;
    ASSERT_TRUE(Send(frame, to, options).ok());
    Frame* out = ip_->NextFrame(offload ? 3 : 2);
    while (out != nullptr && Load16(out->header() + 12) == wire::kEtherTypeArp) {
      core_->frames.Release(out);
      out = ip_->NextFrame(offload ? 3 : 2);
    }
    ASSERT_NE(out, nullptr);
    EXPECT_EQ(out->offload.checksum_needed, offload);
    EXPECT_EQ(out->offload.checksum_start, 34);
    if (offload) FinishChecksum(*out);
    ChecksumAccumulator sum;
    sum.AddPseudoHeader(from, V4(to), 17, 19);
    sum.Add(out->header() + 34, 8);
    for (unsigned i = 0; i < out->slice_count; ++i) {
      sum.Add(out->slices[i].data(), out->slices[i].length);
    }
    EXPECT_EQ(sum.Checksum(), 0);
    core_->frames.Release(out);
  }
}

TEST_F(IpTest, LeavesALongDatagramWholeForADeviceThatFragments) {
  DeviceCapabilities device = DefaultDevice();
  device.transmit_checksum = true;
  device.udp_fragmentation = true;
  Configure(device);
  for (const char* to : {"10.0.0.1", "fd00::1"}) {
    Frame* frame = MakeFrame(Hex("03e8 07d0 2328 0000"), Pattern(9000), 4096);
    frame->offload.checksum_needed = true;
    frame->offload.checksum_offset = 6;
    SendOptions options;
    options.protocol = 17;
    ASSERT_TRUE(Send(frame, to, options).ok());
    Frame* out = ip_->NextFrame(kWireInterface);
    ASSERT_NE(out, nullptr);
    EXPECT_EQ(out->offload.segmentation, SegmentationType::kUdpFragment);
    EXPECT_EQ(out->offload.segment_size, to[0] == '1' ? 1480 : 1448);
    EXPECT_EQ(out->offload.header_length, (to[0] == '1' ? 34 : 54) + 8);
    EXPECT_EQ(out->payload_length, 9000u);
    core_->frames.Release(out);
  }
}

TEST_F(IpTest, FinishesAPartialChecksumOfAPacketWithinItsBounds) {
  Packet packet;
  Buffer buffer;
  uint8_t bytes[64] = {};
  buffer.bytes = bytes;
  packet.slices[0] = {&buffer, 0, 64};
  packet.slice_count = 1;
  for (unsigned start = 0; start < 200; ++start) {
    packet.offload = {.checksum_needed = true};
    packet.offload.checksum_start = static_cast<uint16_t>(start * 331);
    packet.offload.checksum_offset = static_cast<uint16_t>(start % 80);
    FinishChecksum(packet);
    EXPECT_FALSE(packet.offload.checksum_needed);
  }
}

TEST_F(IpTest, CutsLargeSegmentsForADeviceThatCannot) {
  Configure();
  for (const bool v6 : {false, true}) {
    SCOPED_TRACE(v6);
    const Bytes payload = Pattern(4000);
    // Sequence 1000, ACK PSH FIN CWR, no options.
    Frame* frame = MakeFrame(Hex("0050 1f90 000003e8 00000001 50 99 0400 0000 0000"), payload, 700);
    frame->offload.checksum_needed = true;
    frame->offload.checksum_offset = 16;
    frame->offload.segmentation = v6 ? SegmentationType::kTcpV6 : SegmentationType::kTcpV4;
    frame->offload.segment_size = 1400;
    frame->offload.header_length = 20;
    SendOptions options;
    options.protocol = 6;
    options.dont_fragment = true;
    ASSERT_TRUE(Send(frame, v6 ? "fd00::1" : "10.0.0.1", options).ok());
    const auto out = Output();
    ASSERT_EQ(out.size(), 3u);
    Bytes all;
    const uint8_t flags[] = {0x90, 0x10, 0x19};
    for (size_t i = 0; i < 3; ++i) {
      const Bytes segment = PayloadOf(out[i]);
      EXPECT_EQ(Load32(segment.data() + 4), 1000 + all.size());
      EXPECT_EQ(segment[13], flags[i]);
      ChecksumAccumulator sum;
      if (v6) {
        sum.AddPseudoHeader(V6("fd00::2"), V6("fd00::1"), 6, static_cast<uint32_t>(segment.size()));
      } else {
        sum.AddPseudoHeader(V4("10.0.0.2"), V4("10.0.0.1"), 6,
                            static_cast<uint32_t>(segment.size()));
      }
      sum.Add(segment.data(), segment.size());
      EXPECT_EQ(sum.Checksum(), 0);
      all = all + Bytes(segment.begin() + 20, segment.end());
    }
    EXPECT_EQ(all, payload);
    EXPECT_EQ(core_->frames.live(), 0u);
  }
}

TEST_F(IpTest, CutsUdpSegmentsForADeviceThatCannot) {
  Configure();
  Frame* frame = MakeFrame(Hex("03e8 07d0 0bc0 0000"), Pattern(3000), 4096);
  frame->offload.checksum_needed = true;
  frame->offload.checksum_offset = 6;
  frame->offload.segmentation = SegmentationType::kUdpSegment;
  frame->offload.segment_size = 1200;
  frame->offload.header_length = 8;
  SendOptions options;
  options.protocol = 17;
  ASSERT_TRUE(Send(frame, "10.0.0.1", options).ok());
  const auto out = Output();
  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(Load16(PayloadOf(out[0]).data() + 4), 1208);
  EXPECT_EQ(Load16(PayloadOf(out[2]).data() + 4), 608);
  EXPECT_NE(Ipv4Of(out[0]).identification, Ipv4Of(out[1]).identification);
}

// --- packets that are not what they should be ---

struct BadCase {
  const char* what;
  const char* source;
  const char* destination;
};

class MartianTest : public IpFixture, public ::testing::WithParamInterface<BadCase> {};

TEST_P(MartianTest, IsDropped) {
  const BadCase& c = GetParam();
  Configure();
  const bool v6 = std::string_view(c.source).find(':') != std::string_view::npos;
  EXPECT_EQ(v6 ? Receive6(Ipv6(c.source, c.destination, 17, Udp(1, 2, 3)))
               : Receive4(Ipv4(c.source, c.destination, 17, Udp(1, 2, 3))),
            IpVerdict::kConsumed)
      << c.what;
  EXPECT_EQ(Count(Counter::kIpInAddressErrors), 1u);
  EXPECT_TRUE(Output().empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, MartianTest,
    ::testing::Values(BadCase{"not for us", "10.0.0.1", "10.0.0.3"},
                      BadCase{"loopback source", "127.0.0.1", "10.0.0.2"},
                      BadCase{"loopback destination", "10.0.0.1", "127.0.0.1"},
                      BadCase{"our own source", "10.0.0.2", "10.0.0.2"},
                      BadCase{"broadcast source", "10.0.0.255", "10.0.0.2"},
                      BadCase{"group source", "224.0.0.1", "10.0.0.2"},
                      BadCase{"no source", "0.0.0.0", "10.0.0.2"},
                      BadCase{"v6 loopback source", "::1", "fd00::2"},
                      BadCase{"v6 loopback destination", "fd00::1", "::1"},
                      BadCase{"v6 mapped source", "::ffff:10.0.0.1", "fd00::2"},
                      BadCase{"v6 mapped destination", "fd00::1", "::ffff:10.0.0.2"},
                      BadCase{"v6 group source", "ff02::1", "fd00::2"},
                      BadCase{"v6 our own source", "fd00::2", "fd00::2"},
                      BadCase{"v6 no source", "::", "fd00::2"},
                      BadCase{"v6 interface-local group", "fd00::1", "ff01::1"},
                      BadCase{"v6 group not joined", "fd00::1", "ff02::77"}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST_F(IpTest, DropsHeadersThatAreWrong) {
  Configure();
  Bytes packet = Ipv4("10.0.0.1", "10.0.0.2", 17, Udp(1, 2, 30));
  for (size_t i = 0; i < 20; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes bad = packet;
      bad[i] ^= static_cast<uint8_t>(1 << bit);
      EXPECT_EQ(Receive4(bad), IpVerdict::kConsumed) << "the checksum sees byte " << i;
    }
  }
  Bytes cut = packet;
  cut.pop_back();
  EXPECT_EQ(Receive4(cut), IpVerdict::kConsumed);
  Bytes cut6 = Ipv6("fd00::1", "fd00::2", 17, Udp(1, 2, 30));
  cut6.pop_back();
  EXPECT_EQ(Receive6(cut6), IpVerdict::kConsumed);
  const Bytes routed =
      Hex("4700 0024 0000 0000 4011 0000 0a000001 0a000002 8307 040a 0000 0900") + Udp(1, 2, 0);
  EXPECT_EQ(Receive4(routed), IpVerdict::kConsumed);
}

TEST_F(IpTest, TakesOptionsAndExtensionHeaders) {
  Configure();
  Bytes options = Hex("4600 0024 0000 0000 4011 0000 0a000001 0a000002 9404 0000") + Udp(1, 2, 4);
  ChecksumAccumulator sum;
  sum.Add(options.data(), 24);
  Store16(options.data() + 10, sum.Checksum());
  ASSERT_EQ(Receive4(options), IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), Udp(1, 2, 4));
  ASSERT_EQ(Receive6(Ipv6("fd00::1", "fd00::2", 0, Hex("11 00 05 02 0000 01 00") + Udp(1, 2, 4))),
            IpVerdict::kDeliver);
  EXPECT_EQ(Delivered(), Udp(1, 2, 4));
  EXPECT_EQ(delivered_->ip.header_length, 48);
}

TEST_F(IpTest, RefusesARoutingHeaderOfTypeZero) {
  Configure();
  EXPECT_EQ(
      Receive6(Ipv6("fd00::1", "fd00::2", 43,
                    Hex("11 02 00 01 00000000 fd000000000000000000000000000009") + Udp(1, 2, 4))),
      IpVerdict::kConsumed);
  const auto out = Output();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(PayloadOf(out[0])[0], wire::kIcmpV6ParameterProblem);
}

}  // namespace
}  // namespace userstack::testing
