// XdpDevice over a veth pair: which frames it takes, how frames cross in both directions, in every
// mode that a veth has.
#include "backend/xdp.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include "netstack/base/checksum.h"
#include "tests/backend/xdp_fixture.h"

namespace userstack::backend {
namespace {

IpAddress V6(uint8_t last) {
  uint8_t bytes[16] = {0xfd, 0x99};
  bytes[15] = last;
  return IpAddress::V6FromBytes(bytes);
}

std::vector<uint8_t> ArpFrame(uint32_t sender, uint32_t target) {
  std::vector<uint8_t> frame(60);
  std::fill_n(frame.begin(), 6, uint8_t{0xff});
  frame[6] = 2;
  frame[11] = 9;
  Store16(&frame[12], 0x0806);
  Store16(&frame[14], 1);
  Store16(&frame[16], 0x0800);
  frame[18] = 6;
  frame[19] = 4;
  Store16(&frame[20], 1);
  Store32(&frame[28], sender);
  Store32(&frame[38], target);
  return frame;
}

// A neighbour solicitation (or another ICMPv6 message) for `target`.
std::vector<uint8_t> NdpFrame(const IpAddress& destination, const IpAddress& target, uint8_t type) {
  std::vector<uint8_t> frame(14 + 40 + 24);
  frame[0] = 0x33;
  frame[1] = 0x33;
  frame[6] = 2;
  frame[11] = 9;
  Store16(&frame[12], 0x86dd);
  frame[14] = 0x60;
  Store16(&frame[18], 24);
  frame[20] = 58;
  frame[21] = 255;
  std::memcpy(&frame[22], V6(1).v6_bytes(), 16);
  std::memcpy(&frame[38], destination.v6_bytes(), 16);
  frame[54] = type;
  std::memcpy(&frame[62], target.v6_bytes(), 16);
  return frame;
}

MacAddress MacOf(const char* interface) {
  ifreq request{};
  std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(ioctl(fd, SIOCGIFHWADDR, &request), 0);
  close(fd);
  MacAddress mac;
  std::memcpy(mac.bytes.data(), request.ifr_hwaddr.sa_data, mac.bytes.size());
  return mac;
}

class XdpModeTest : public XdpTest, public testing::WithParamInterface<const char*> {};

TEST_P(XdpModeTest, TakesWhatIsForTheStacksAddressesAndLeavesTheRestToTheKernel) {
  auto device = OpenXdp(GetParam());
  ASSERT_TRUE(device);
  const IpAddress group = IpAddress::V4(0xe0010203);
  const IpAddress ours[] = {IpAddress::V4(kOurV4), V6(2), group};
  ASSERT_TRUE(device->SetAddresses(ours, 3));
  const MacAddress mac = device->capabilities().mac;
  uint8_t solicited_bytes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2};
  const IpAddress solicited = IpAddress::V6FromBytes(solicited_bytes);
  uint8_t all_nodes_bytes[16] = {0xff, 2};
  all_nodes_bytes[15] = 1;
  const IpAddress all_nodes = IpAddress::V6FromBytes(all_nodes_bytes);

  std::vector<uint8_t> fragment = UdpFrame(mac, kOurV4, 100, 3);
  Store16(&fragment[20], 100);  // no transport header in it
  std::vector<uint8_t> vlan = UdpFrame(mac, kOurV4, 100, 4);
  vlan.insert(vlan.begin() + 12, {0x88, 0xb5, 0, 5});
  std::vector<uint8_t> v6 = NdpFrame(V6(2), V6(2), 128);
  const std::vector<std::vector<uint8_t>> kTaken = {
      UdpFrame(mac, kOurV4, 60, 1),      fragment,
      UdpFrame(mac, 0xe0010203, 100, 2), ArpFrame(0x0a636301, kOurV4),
      ArpFrame(kOurV4, 0x0a636301),      v6,
      NdpFrame(solicited, V6(2), 135),   NdpFrame(all_nodes, V6(2), 136),
  };
  std::vector<uint8_t> runt = UdpFrame(mac, kOurV4, 60, 1);
  runt.resize(30);
  const std::vector<std::vector<uint8_t>> kPassed = {
      UdpFrame(mac, kOtherV4, 60, 1),
      UdpFrame(mac, 0xffffffff, 60, 1),
      NdpFrame(V6(3), V6(3), 128),
      NdpFrame(solicited, V6(3), 135),
      vlan,
      runt,
  };
  TestCore core;
  Tapped wire("k0");
  for (const auto& frame : kTaken) {
    Tapped kernel("x0");
    ASSERT_TRUE(wire.Send(frame));
    Packet* packet = ReceiveOne(*device, *core);
    ASSERT_NE(packet, nullptr);
    EXPECT_EQ(TestCore::BytesOf(*packet), frame);
    EXPECT_EQ(packet->ip.interface, 2);
    EXPECT_EQ(packet->arrival, Instant{5});
    core->packets.Release(packet);
    EXPECT_TRUE(kernel.Receive(frame, 1, 0).empty());
  }
  for (const auto& frame : kPassed) {
    Tapped kernel("x0");
    ASSERT_TRUE(wire.Send(frame));
    EXPECT_EQ(kernel.Receive(frame, 1).size(), 1u) << "EtherType " << Load16(&frame[12]);
    EXPECT_EQ(ReceiveOne(*device, *core, 0), nullptr);
  }
  // What is for everybody is for both, and comes once to each.
  const MacAddress everybody = MacAddress::Broadcast();
  const std::vector<std::vector<uint8_t>> kForBoth = {
      UdpFrame(everybody, 0xffffffff, 60, 1), UdpFrame(everybody, 0x0a6363ff, 1400, 2),
      UdpFrame(mac, 0xe0000001, 60, 1),       ArpFrame(0x0a636301, kOtherV4),
      NdpFrame(all_nodes, V6(3), 136),        NdpFrame(all_nodes, V6(2), 134),
      NdpFrame(all_nodes, V6(3), 130),
  };
  for (const auto& frame : kForBoth) {
    Tapped kernel("x0");
    ASSERT_TRUE(wire.Send(frame));
    EXPECT_EQ(kernel.Receive(frame, 1).size(), 1u) << "EtherType " << Load16(&frame[12]);
    Packet* packet = ReceiveOne(*device, *core);
    ASSERT_NE(packet, nullptr) << "EtherType " << Load16(&frame[12]);
    EXPECT_EQ(TestCore::BytesOf(*packet), frame);
    EXPECT_EQ(packet->ip.interface, 2);
    core->packets.Release(packet);
    EXPECT_EQ(ReceiveOne(*device, *core, 0), nullptr);
  }
  // Not what has a tag, which the kernel takes off before it looks, nor what the kernel sends.
  std::vector<uint8_t> tagged = kForBoth[0];
  tagged.insert(tagged.begin() + 12, {0x81, 0x00, 0, 5});
  ASSERT_TRUE(wire.Send(tagged));
  ASSERT_TRUE(Tapped("x0").Send(kForBoth[0]));
  EXPECT_EQ(ReceiveOne(*device, *core, 50), nullptr);
  // What the stack no longer wants is the kernel's again.
  ASSERT_TRUE(device->SetAddresses(ours + 1, 2));
  ASSERT_TRUE(wire.Send(kTaken[0]));
  ASSERT_TRUE(wire.Send(kTaken[2]));
  Packet* packet = ReceiveOne(*device, *core);
  ASSERT_NE(packet, nullptr);
  EXPECT_EQ(TestCore::BytesOf(*packet), kTaken[2]);
  core->packets.Release(packet);
}

TEST_P(XdpModeTest, FramesLeaveAsTheyAreAndLongOnesInSegments) {
  auto device = OpenXdp(GetParam());
  ASSERT_TRUE(device);
  EXPECT_TRUE(device->capabilities().transmit_checksum);
  EXPECT_EQ(device->capabilities().mtu, 1500u);
  TestCore core;
  Tapped wire("k0");
  const auto whole = UdpFrame(MacAddress::Broadcast(), 0x0a636301, 60000, 1);
  Frame* frame = core.MakeFrame(whole, 42);
  frame->offload.checksum_needed = true;
  frame->offload.checksum_start = 34;
  frame->offload.checksum_offset = 6;
  frame->offload.segmentation = SegmentationType::kUdpSegment;
  frame->offload.segment_size = 1400;
  frame->offload.header_length = 42;
  ASSERT_EQ(device->Transmit(*core, *frame), Device::Sent::kDone);
  core->frames.Release(frame);
  const auto small = UdpFrame(MacAddress::Broadcast(), 0x0a636301, 60, 9);
  frame = core.MakeFrame(small, 60);
  ASSERT_EQ(device->Transmit(*core, *frame), Device::Sent::kDone);
  core->frames.Release(frame);
  EXPECT_TRUE(device->Kick());
  const auto seen = wire.Receive({whole.begin(), whole.begin() + 14}, 44);
  ASSERT_EQ(seen.size(), 44u);  // 43 segments and the small one
  std::vector<uint8_t> payload;
  for (size_t i = 0; i < 43; ++i) {
    payload.insert(payload.end(), seen[i].begin() + 42, seen[i].end());
  }
  EXPECT_EQ(payload, std::vector<uint8_t>(whole.begin() + 42, whole.end()));
  EXPECT_EQ(seen[43], small);
}

// UDP in segments, as the stack leaves it to the device; what the other end's kernel makes of them.
void SendDatagrams(Device& device, TestCore& core, size_t payload, uint16_t segment,
                   const MacAddress& mac) {
  auto whole = UdpFrame(mac, 0x0a636301, 42 + payload, 1);
  Store32(&whole[26], kOurV4);
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(IpAddress::V4(kOurV4), IpAddress::V4(0x0a636301), 17,
                         static_cast<uint32_t>(8 + payload));
  Store16(&whole[40], pseudo.Sum());
  Frame* frame = core.MakeFrame(whole, 42);
  frame->offload.checksum_needed = true;
  frame->offload.checksum_start = 34;
  frame->offload.checksum_offset = 6;
  frame->offload.segmentation = SegmentationType::kUdpSegment;
  frame->offload.segment_size = segment;
  frame->offload.header_length = 42;
  EXPECT_EQ(device.Transmit(*core, *frame), Device::Sent::kDone);
  core->frames.Release(frame);
  EXPECT_TRUE(device.Kick());
}

TEST_P(XdpModeTest, ChecksumsAreFinishedByTheInterfaceWhereItDoesThatAndHereWhereNot) {
  ASSERT_TRUE(
      RunCommand("ip link set x0 mtu 9000 && ip link set k0 mtu 9000 && "
                 "ip addr add 10.99.99.1/24 dev k0"));
  const int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_port = htons(7);
  ASSERT_EQ(bind(receiver, reinterpret_cast<sockaddr*>(&here), sizeof here), 0);
  for (const bool offload : {true, false}) {
    ASSERT_TRUE(RunCommand(offload ? "ethtool -K x0 tx on" : "ethtool -K x0 tx off"));
    OpenedDevice opened = OpenWhenFree(std::string("xdp:x0") + GetParam());
    ASSERT_EQ(opened.error, "");
    const bool by_interface =
        opened.note.find("checksums finished by the interface") != std::string::npos;
    EXPECT_TRUE(offload || !by_interface) << opened.note;
    Tapped wire("k0");
    TestCore core;
    const MacAddress mac = MacOf("k0");
    for (const uint16_t segment : {uint16_t{1000}, uint16_t{8900}}) {
      SendDatagrams(*opened.device, core, 20000, segment, mac);
      const auto like = UdpFrame(mac, 0x0a636301, 60, 0);
      const size_t count = (20000u + segment - 1) / segment;
      const auto seen = wire.Receive({like.begin(), like.begin() + 14}, count);
      ASSERT_EQ(seen.size(), count);
      for (const auto& frame : seen) {
        ChecksumAccumulator sum;
        sum.AddPseudoHeader(IpAddress::V4(kOurV4), IpAddress::V4(0x0a636301), 17,
                            static_cast<uint32_t>(frame.size() - 34));
        if (by_interface) {  // a veth's "interface" leaves that to whoever needs it
          EXPECT_EQ(Load16(&frame[40]), sum.Sum());
        } else {
          sum.Add(&frame[34], frame.size() - 34);
          EXPECT_EQ(sum.Checksum(), 0);
        }
        uint8_t datagram[9000];
        pollfd wait{receiver, POLLIN, 0};
        ASSERT_EQ(poll(&wait, 1, 1000), 1) << "the other kernel dropped a datagram";
        const ssize_t got = recv(receiver, datagram, sizeof datagram, 0);
        ASSERT_EQ(got, static_cast<ssize_t>(frame.size() - 42));
        EXPECT_EQ(std::memcmp(datagram, &frame[42], frame.size() - 42), 0);
      }
    }
  }
  close(receiver);
}

TEST_P(XdpModeTest, ManyMoreFramesThanTheRingsHoldCrossInBothDirections) {
  auto device = OpenXdp(GetParam());
  ASSERT_TRUE(device);
  TestCore core;
  Tapped wire("k0");
  const MacAddress mac = device->capabilities().mac;
  for (uint32_t round = 0; round < 100; ++round) {
    for (uint32_t i = 0; i < 64; ++i) {
      ASSERT_TRUE(wire.Send(UdpFrame(mac, kOurV4, 60 + i, static_cast<uint8_t>(round))));
      Frame* frame = core.MakeFrame(
          UdpFrame(MacAddress::Broadcast(), 0x0a636301, 60 + i, static_cast<uint8_t>(round)), 42);
      ASSERT_EQ(device->Transmit(*core, *frame), Device::Sent::kDone);
      core->frames.Release(frame);
    }
    ASSERT_TRUE(device->Kick());
    for (uint32_t i = 0; i < 64; ++i) {
      Packet* packet = ReceiveOne(*device, *core);
      ASSERT_NE(packet, nullptr) << round << " " << i;
      EXPECT_EQ(packet->length, 60 + i);
      EXPECT_EQ(packet->data()[42], static_cast<uint8_t>(round));
      core->packets.Release(packet);
    }
  }
  const auto like = UdpFrame(MacAddress::Broadcast(), 0x0a636301, 60, 0);
  const auto seen = wire.Receive({like.begin(), like.begin() + 14}, 6400);
  ASSERT_EQ(seen.size(), 6400u);
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].size(), 60 + i % 64);
    EXPECT_EQ(seen[i][42], i / 64);
  }
  EXPECT_EQ(core->packets.live(), 0u);
}

TEST_P(XdpModeTest, JumboFramesCrossInSeveralBuffers) {
  ASSERT_TRUE(RunCommand("ip link set x0 mtu 9000 && ip link set k0 mtu 9000"));
  auto device = OpenXdp(GetParam());
  ASSERT_TRUE(device);
  EXPECT_EQ(device->capabilities().mtu, 9000u);
  EXPECT_GE(device->capabilities().payload_unit, 4096u - 64) << "a page, or one with a request";
  TestCore core;
  Tapped wire("k0");
  for (const size_t length : {3839u, 3841u, 4096u, 4097u, 8192u, 9014u}) {
    const auto out = UdpFrame(MacAddress::Broadcast(), 0x0a636301, length, 5);
    Frame* frame = core.MakeFrame(out, 42);
    ASSERT_EQ(device->Transmit(*core, *frame), Device::Sent::kDone);
    core->frames.Release(frame);
    ASSERT_TRUE(device->Kick());
    const auto seen = wire.Receive({out.begin(), out.begin() + 14}, 1);
    ASSERT_EQ(seen.size(), 1u) << length;
    EXPECT_EQ(seen[0], out);
    const auto in = UdpFrame(device->capabilities().mac, kOurV4, length, 6);
    ASSERT_TRUE(wire.Send(in));
    Packet* packet = ReceiveOne(*device, *core);
    ASSERT_NE(packet, nullptr) << length;
    EXPECT_EQ(TestCore::BytesOf(*packet), in);
    core->packets.Release(packet);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, XdpModeTest,
                         testing::Values("", ",mode=native", ",mode=native,copy,busy-poll"));

TEST_F(XdpTest, AllQueuesAreServedAndAFlowKeepsItsQueue) {
  ASSERT_TRUE(
      RunCommand("ip link del x0 && ip link add x0 numtxqueues 4 numrxqueues 4 type veth "
                 "peer name k0 numtxqueues 4 numrxqueues 4 && ip link set x0 up && "
                 "ip link set k0 up"));
  auto device = OpenXdp();
  ASSERT_TRUE(device);
  int descriptors[16];
  EXPECT_EQ(device->Descriptors(descriptors, 16), 3u + 4u + 1u + 1u);
  TestCore core;
  Tapped wire("k0");
  // Ports decide by which queue of k0 a frame leaves, and so where it arrives.
  const MacAddress mac = device->capabilities().mac;
  for (uint16_t port = 1; port <= 64; ++port) {
    auto in = UdpFrame(mac, kOurV4, 100, static_cast<uint8_t>(port));
    Store16(&in[34], port);
    ASSERT_TRUE(wire.Send(in));
  }
  EXPECT_EQ(ReceiveAll(*device, *core).size(), 64u);
  for (uint16_t port = 0; port < 2000; ++port) {
    auto out = UdpFrame(MacAddress::Broadcast(), 0x0a636301, 100, 1);
    Store16(&out[34], static_cast<uint16_t>(port % 10));
    Store16(&out[36], port);
    Frame* frame = core.MakeFrame(out, 42);
    ASSERT_EQ(device->Transmit(*core, *frame), Device::Sent::kDone);
    core->frames.Release(frame);
  }
  EXPECT_TRUE(device->Kick());
  const auto like = UdpFrame(MacAddress::Broadcast(), 0x0a636301, 100, 1);
  EXPECT_EQ(wire.Receive({like.begin(), like.begin() + 14}, 2000).size(), 2000u);
}

TEST_F(XdpTest, OneQueueOfSeveralIsTakenAndTheOthersAreTheKernels) {
  ASSERT_TRUE(
      RunCommand("ip link del x0 && ip link add x0 numtxqueues 2 numrxqueues 2 type veth "
                 "peer name k0 numtxqueues 2 numrxqueues 2 && ip link set x0 up && "
                 "ip link set k0 up"));
  EXPECT_NE(OpenDevice("xdp:x0,queue=2", {}).error.find("has no queue 2; it has 0 to 1"),
            std::string::npos);
  OpenedDevice opened = OpenDevice("xdp:x0,queue=1", {});
  ASSERT_EQ(opened.error, "");
  EXPECT_NE(opened.note.find("1 of 2 queues"), std::string::npos) << opened.note;
}

TEST_F(XdpTest, SaysWhatItChoseAndWhy) {
  const struct {
    const char* options;
    const char* says;
  } kTable[] = {
      {"", "generic mode (in which a veth keeps segments whole), copies (as generic mode does)"},
      {",mode=native",
       "native mode, copies (the driver has no zero-copy), 1 of 1 queues, MTU 1500"},
      {",mode=generic", "generic mode (as asked), copies (as generic mode does)"},
      {",copy", "copies (as asked)"},
  };
  for (const auto& row : kTable) {
    const OpenedDevice opened = OpenWhenFree(std::string("xdp:x0") + row.options);
    EXPECT_EQ(opened.error, "");
    EXPECT_NE(opened.note.find(row.says), std::string::npos) << opened.note;
  }
  // An interface without native mode.
  ASSERT_TRUE(RunCommand("ip link add br0 type bridge && ip link set br0 up"));
  const OpenedDevice opened = OpenDevice("xdp:br0", {});
  EXPECT_EQ(opened.error, "");
  EXPECT_NE(opened.note.find("generic mode (native mode fails: "), std::string::npos)
      << opened.note;
  EXPECT_NE(OpenWhenFree("xdp:x0,zerocopy").error.find("the driver has no zero-copy"),
            std::string::npos);
}

TEST_F(XdpTest, TheKernelsAddressesOfTheInterfaceStayItsOwn) {
  OpenedDevice opened = OpenDevice("xdp:x0", {});
  ASSERT_EQ(opened.error, "");
  const DeviceCapabilities& capabilities = opened.device->capabilities();
  EXPECT_FALSE(capabilities.ipv6_identifier() == capabilities.mac);
}

// What the kernel's own TCP on the other side sends through a veth has no checksum yet; in generic
// mode it comes in segments longer than the MTU.
TEST_P(XdpModeTest, UnfinishedChecksumsOfTheOtherKernelAreFinishedOnes) {
  auto device = OpenXdp(GetParam());
  ASSERT_TRUE(device);
  ASSERT_TRUE(RunCommand("ip addr add 10.99.99.1/24 dev k0"));
  const MacAddress mac = device->capabilities().mac;
  char neighbor[128];
  snprintf(neighbor, sizeof neighbor,
           "ip neigh add 10.99.99.2 lladdr %02x:%02x:%02x:%02x:%02x:%02x dev k0 nud permanent",
           mac.bytes[0], mac.bytes[1], mac.bytes[2], mac.bytes[3], mac.bytes[4], mac.bytes[5]);
  ASSERT_TRUE(RunCommand(neighbor));
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(80);
  to.sin_addr.s_addr = htonl(kOurV4);
  EXPECT_NE(connect(client, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  TestCore core;
  Packet* packet = ReceiveOne(*device, *core);
  ASSERT_NE(packet, nullptr);
  EXPECT_EQ(packet->data()[23], 6);
  const bool partial = packet->offload.checksum_needed;
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(IpAddress::V4(0x0a636301), IpAddress::V4(kOurV4), 6, packet->length - 34);
  sum.Add(packet->data() + 34, packet->length - 34);
  EXPECT_TRUE(partial || sum.Checksum() == 0);
  core->packets.Release(packet);
  close(client);
}

}  // namespace
}  // namespace userstack::backend
