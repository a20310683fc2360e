// TapDevice against the kernel's side of a real TAP device.
#include "tests/backend/tap_fixture.h"

namespace userstack::backend {
namespace {

TEST_F(TapTest, CreatesTheInterfaceUpWithEveryOffload) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  const DeviceCapabilities& capabilities = tap->capabilities();
  EXPECT_EQ(capabilities.mtu, 1500u);
  EXPECT_TRUE(capabilities.transmit_checksum);
  EXPECT_EQ(capabilities.tcp_segmentation_max, 65535u);
  EXPECT_NE(capabilities.host, capabilities.mac);
  EXPECT_TRUE(capabilities.udp_fragmentation);
  EXPECT_TRUE(RunCommand("ip link show dev t0 up | grep -q t0"));
  tap.reset();
  EXPECT_EQ(if_nametoindex("t0"), 0u);
}

TEST_F(TapTest, AttachesToAPersistentDeviceAndReadsItsMtu) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap && ip link set t0 mtu 9000"));
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  EXPECT_EQ(tap->capabilities().mtu, 9000u);
  tap.reset();
  EXPECT_NE(if_nametoindex("t0"), 0u);
}

// The carrier comes with us, and the kernel sends once it has seen it: Open waits for that.
TEST_F(TapTest, WhatTheKernelSendsAsSoonAsTheDeviceIsOpenArrives) {
  TestCore core;
  const auto in = PlainFrame(60, 1);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap && ip link set t0 up"));
    KernelSide kernel;
    auto tap = OpenTap();
    ASSERT_TRUE(tap);
    ASSERT_GT(kernel.Send(in), 0) << i << ": " << std::strerror(errno);
    Packet* packet = ReceiveLike(*tap, *core, in);
    ASSERT_NE(packet, nullptr) << i;
    core->packets.Release(packet);
    tap.reset();
    ASSERT_TRUE(RunCommand("ip tuntap del dev t0 mode tap"));
  }
}

TEST_F(TapTest, AttachesToAMultiQueueDevice) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap multi_queue"));
  auto first = OpenTap();
  auto second = OpenTap();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
}

TEST_F(TapTest, OptionsGiveMacMtuAndPlaceTheDescriptor) {
  DeviceOptions options;
  options.mac = MacAddress{{2, 0, 0, 0, 0, 9}};
  options.mtu = 1280;
  options.descriptor_floor = 700;
  auto tap = OpenTap(options);
  ASSERT_TRUE(tap);
  EXPECT_EQ(tap->capabilities().mac, *options.mac);
  EXPECT_EQ(tap->capabilities().mtu, 1280u);
  EXPECT_GE(tap->wait_descriptor(), 700);
}

TEST_F(TapTest, FramesOfEverySizeCrossInBothDirections) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  ASSERT_TRUE(RunCommand("ip link set t0 mtu 65521"));
  KernelSide kernel;
  TestCore core;
  for (const size_t size : {60, 64, 1514, 2047, 2048, 2049, 4096, 8191, 8192, 8193, 12000, 16384,
                            16385, 40000, 65535}) {
    const auto out = PlainFrame(size, 1);
    Frame* frame = core.MakeFrame(out, 14);
    ASSERT_EQ(tap->Transmit(*core, *frame), Device::Sent::kDone) << size;
    core->frames.Release(frame);
    KernelSide::Seen seen;
    ASSERT_TRUE(kernel.Receive(out, &seen)) << size;
    EXPECT_EQ(seen.bytes, out) << size;

    const auto in = PlainFrame(size, 2);
    ASSERT_EQ(kernel.Send(in), static_cast<ssize_t>(size) + 10) << size;
    Packet* packet = ReceiveLike(*tap, *core, in);
    ASSERT_NE(packet, nullptr) << size;
    EXPECT_EQ(TestCore::BytesOf(*packet), in) << size;
    EXPECT_EQ(packet->arrival.nanoseconds, 5);
    EXPECT_EQ(packet->ip.interface, 2);
    core->packets.Release(packet);
  }
  EXPECT_EQ(core->buffers.bytes_in_use(), 0u);
  EXPECT_EQ(core->packets.live(), 0u);
}

TEST_F(TapTest, FramesThatFitSmallBuffersPinNoLargeOne) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  ASSERT_TRUE(RunCommand("ip link set t0 mtu 65521"));
  KernelSide kernel;
  TestCore core;
  for (const auto& [size, bytes] : {std::pair{1514, 2048},
                                    {3000, 4096},
                                    {8192, 8192},
                                    {10000, 10240},
                                    {16384, 16384},
                                    {16385, 8192 + 65536}}) {
    const auto in = PlainFrame(static_cast<size_t>(size), 4);
    kernel.Send(in);
    Packet* packet = ReceiveLike(*tap, *core, in);
    ASSERT_NE(packet, nullptr);
    EXPECT_EQ(core->buffers.bytes_in_use(), static_cast<uint64_t>(bytes)) << size;
    EXPECT_EQ(TestCore::BytesOf(*packet), in);
    core->packets.Release(packet);
  }
}

TEST_F(TapTest, TcpSegmentsOf64KiBReachTheKernelWhole) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const auto out = TcpFrame(family, 60000);
    Frame* frame = core.MakeFrame(out, 14);
    frame->offload = TcpOffload(family, 1400);
    ASSERT_EQ(tap->Transmit(*core, *frame), Device::Sent::kDone);
    core->frames.Release(frame);
    KernelSide::Seen seen;
    ASSERT_TRUE(kernel.Receive(out, &seen));
    EXPECT_EQ(seen.bytes, out);
    EXPECT_EQ(seen.offload.segmentation, TcpOffload(family, 1400).segmentation);
    EXPECT_EQ(seen.offload.segment_size, 1400);
    EXPECT_TRUE(seen.offload.checksum_needed);
  }
}

TEST_F(TapTest, EncodedFramesArriveAsTransmittedOnesDo) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  std::vector<uint8_t> encoded(1664);
  const auto out = TcpFrame(Family::kIpv4, 1200);
  Frame* frame = core.MakeFrame(out, 14);
  frame->offload = TcpOffload(Family::kIpv4, 400);
  const size_t size = tap->Encode(*frame, encoded.data(), encoded.size());
  EXPECT_EQ(tap->Encode(*frame, encoded.data(), size - 1), 0u);
  core->frames.Release(frame);
  ASSERT_GT(size, out.size());
  ASSERT_EQ(tap->TransmitEncoded(0, encoded.data(), size), Device::Sent::kDone);
  KernelSide::Seen seen;
  ASSERT_TRUE(kernel.Receive(out, &seen));
  EXPECT_EQ(seen.bytes, out);
  EXPECT_EQ(seen.offload.segment_size, 400);
  ASSERT_TRUE(RunCommand("ip link set t0 down"));
  EXPECT_EQ(tap->TransmitEncoded(0, encoded.data(), size), Device::Sent::kDropped);
}

TEST_F(TapTest, TcpSegmentsOf64KiBComeFromTheKernelWhole) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const auto in = TcpFrame(family, 60000);
    ASSERT_GT(kernel.Send(in, TcpOffload(family, 1400)), 0) << std::strerror(errno);
    Packet* packet = ReceiveLike(*tap, *core, in);
    ASSERT_NE(packet, nullptr);
    EXPECT_EQ(TestCore::BytesOf(*packet), in);
    EXPECT_EQ(packet->offload.segmentation, TcpOffload(family, 1400).segmentation);
    EXPECT_EQ(packet->offload.segment_size, 1400);
    EXPECT_EQ(packet->offload.header_length, TcpOffload(family, 1400).header_length);
    EXPECT_TRUE(packet->offload.checksum_verified);
    core->packets.Release(packet);
  }
}

// Foretells frames that begin as `like`, whose headers are `header` bytes.
void OpenLanding(Core& core, const std::vector<uint8_t>& like, uint32_t header,
                 std::vector<uint8_t>& memory) {
  Landing& landing = core.landing;
  landing.buffer.bytes = memory.data();
  landing.size = static_cast<uint32_t>(memory.size());
  landing.buffer.size_class = BufferClass::kProgram;
  landing.filled = 0;
  landing.header_length = header;
  landing.sequence_at = header - 16;
  landing.sequence = Load32(&like[landing.sequence_at]);
  for (uint32_t i = 0; i < header; ++i) {
    landing.header[i] = like[i];
    landing.mask[i] = i < landing.sequence_at ? 0xff : 0;
  }
}

TEST_F(TapTest, AFrameThatWasForetoldIsReadIntoTheProgramsMemory) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const auto in = TcpFrame(family, 60000);
    const uint32_t header = family == Family::kIpv4 ? 54 : 74;
    std::vector<uint8_t> memory(80000);
    ASSERT_GT(kernel.Send(in, TcpOffload(family, 1400)), 0) << std::strerror(errno);
    Packet* packet = nullptr;
    for (int i = 0; i < 100 && (packet == nullptr || packet->length != in.size()); ++i) {
      if (packet != nullptr) core->packets.Release(packet);  // router solicitations
      OpenLanding(*core, in, header, memory);
      packet = ReceiveAny(*tap, *core);
      ASSERT_NE(packet, nullptr);
    }
    EXPECT_EQ(packet->slice_count, 2);
    EXPECT_EQ(packet->slices[1].buffer, &core->landing.buffer);
    EXPECT_EQ(TestCore::BytesOf(*packet), in);
    EXPECT_TRUE(std::equal(in.begin() + header, in.end(), memory.begin()));
    EXPECT_EQ(packet->offload.header_length, TcpOffload(family, 1400).header_length);
    EXPECT_EQ(core->landing.filled, 60000u);
    EXPECT_TRUE(core->landing.IsFull());
    Packet* more = nullptr;
    EXPECT_EQ(tap->Receive(*core, &more, 1, 2, Instant{5}), 0u);
    core->packets.Release(packet);
    EXPECT_EQ(core->landing.buffer.references, 0u);
    core->landing.Close();
  }
}

// What has no room in the program's memory goes to buffers.
TEST_F(TapTest, AFrameThatWasForetoldIsReadIntoTheProgramsMemoryInPart) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  for (const uint32_t part : {Landing::kLeastPart, 59999u - 8192u, 59999u, 60000u}) {
    const auto in = TcpFrame(Family::kIpv4, 60000);
    std::vector<uint8_t> memory(part + 16, 0x5a);
    ASSERT_GT(kernel.Send(in, TcpOffload(Family::kIpv4, 1400)), 0) << std::strerror(errno);
    Packet* packet = nullptr;
    for (int i = 0; i < 100 && (packet == nullptr || packet->length != in.size()); ++i) {
      if (packet != nullptr) core->packets.Release(packet);
      OpenLanding(*core, in, 54, memory);
      core->landing.size = part;
      core->landing.least = Landing::kLeastPart;
      packet = ReceiveAny(*tap, *core);
      ASSERT_NE(packet, nullptr);
    }
    EXPECT_EQ(packet->slices[1].buffer, &core->landing.buffer);
    EXPECT_EQ(core->landing.filled, part);
    EXPECT_EQ(TestCore::BytesOf(*packet), in);
    EXPECT_TRUE(std::equal(memory.begin(), memory.begin() + part, in.begin() + 54));
    EXPECT_EQ(std::count(memory.begin() + part, memory.end(), 0x5a), 16);
    core->packets.Release(packet);
    core->landing.Close();
  }
  EXPECT_EQ(core->buffers.bytes_in_use(), 0u);
}

// The same when its memory has room for a part of it only.
class TakenBack : public TapTest, public ::testing::WithParamInterface<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Memory, TakenBack,
                         ::testing::Values(80000, Landing::kLeastPart, 19999, 59999));

TEST_P(TakenBack, AFrameThatWasNotForetoldIsTakenBackIntoBuffers) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  const auto foretold = TcpFrame(Family::kIpv4, 1000);
  for (const size_t payload : {1, 20, 1974, 1975, 5000, 8118, 8119, 20000, 60000}) {
    auto in = TcpFrame(Family::kIpv4, payload);
    Store16(&in[36], 2001);  // another port
    std::vector<uint8_t> memory(GetParam());
    ASSERT_GT(kernel.Send(in, TcpOffload(Family::kIpv4, 1400)), 0) << std::strerror(errno);
    Packet* packet = nullptr;
    for (int i = 0; i < 100 && (packet == nullptr || packet->length != in.size()); ++i) {
      if (packet != nullptr) core->packets.Release(packet);
      OpenLanding(*core, foretold, 54, memory);
      core->landing.least = Landing::kLeastPart;
      packet = ReceiveAny(*tap, *core);
      ASSERT_NE(packet, nullptr);
    }
    EXPECT_EQ(core->landing.header_length, 0u);
    EXPECT_EQ(core->landing.buffer.references, 0u);
    EXPECT_EQ(TestCore::BytesOf(*packet), in) << payload;
    core->packets.Release(packet);
  }
  EXPECT_EQ(core->buffers.bytes_in_use(), 0u);
}

TEST_F(TapTest, WithoutBuffersFramesAreLostAndCounted) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  std::vector<Buffer*> held;
  while (Buffer* buffer = core->buffers.Allocate(BufferClass::kSmall)) held.push_back(buffer);
  kernel.Send(PlainFrame(100, 1));
  kernel.Send(PlainFrame(100, 2));
  Packet* packet = nullptr;
  pollfd wait{tap->wait_descriptor(), POLLIN, 0};
  ASSERT_EQ(poll(&wait, 1, 2000), 1);
  while (poll(&wait, 1, 0) == 1) EXPECT_EQ(tap->Receive(*core, &packet, 1, 2, Instant{}), 0u);
  EXPECT_GE(core->counters.Get(Counter::kDeviceInNoBuffer), 2u);
  for (Buffer* buffer : held) core->buffers.Release(buffer);
  const auto in = PlainFrame(100, 3);
  kernel.Send(in);
  packet = ReceiveLike(*tap, *core, in);
  ASSERT_NE(packet, nullptr);
  core->packets.Release(packet);
}

TEST_F(TapTest, WithoutLargeBuffersOnlyLongFramesAreLost) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  ASSERT_TRUE(RunCommand("ip link set t0 mtu 65521"));
  KernelSide kernel;
  TestCore core(8 << 20, 0);
  kernel.Send(PlainFrame(30000, 1));
  const auto in = PlainFrame(5000, 2);
  kernel.Send(in);
  Packet* packet = ReceiveLike(*tap, *core, in);
  ASSERT_NE(packet, nullptr);
  EXPECT_EQ(TestCore::BytesOf(*packet), in);
  EXPECT_EQ(core->counters.Get(Counter::kDeviceInNoBuffer), 1u);
  core->packets.Release(packet);
}

TEST_F(TapTest, AnInterfaceThatIsDownLosesFramesAndOneThatIsDeletedIsGone) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap"));
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  TestCore core;
  ASSERT_TRUE(RunCommand("ip link set t0 down"));
  Frame* frame = core.MakeFrame(PlainFrame(100, 1), 14);
  EXPECT_EQ(tap->Transmit(*core, *frame), Device::Sent::kDropped);
  EXPECT_EQ(core->counters.Get(Counter::kDeviceOutRefused), 1u);
  EXPECT_FALSE(tap->gone());
  ASSERT_TRUE(RunCommand("ip link del t0"));
  Packet* packet = nullptr;
  EXPECT_EQ(tap->Receive(*core, &packet, 1, 2, Instant{}), 0u);
  EXPECT_TRUE(tap->gone());
  EXPECT_NE(tap->Problem(), nullptr);
  EXPECT_EQ(tap->Transmit(*core, *frame), Device::Sent::kDropped);
  core->frames.Release(frame);
}

TEST_F(TapTest, ADescriptorThatWasInheritedIsAdopted) {
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  int descriptor = -1;
  ASSERT_EQ(tap->Descriptors(&descriptor, 1), 1u);
  const int inherited = dup(descriptor);
  OpenedDevice adopted = AdoptDevice("tap:t0", {}, &inherited, 1);
  ASSERT_EQ(adopted.error, "");
  EXPECT_EQ(adopted.device->capabilities().mac, tap->capabilities().mac);
  const int wrong = dup(0);
  EXPECT_NE(AdoptDevice("tap:t0", {}, &wrong, 1).error, "");
  EXPECT_NE(fcntl(wrong, F_GETFD), -1);
}

TEST_F(TapTest, CaptureHoldsBothDirectionsAndTcpdumpReadsIt) {
  char path[] = "/tmp/userstack_capture_XXXXXX";
  const int scratch = mkstemp(path);
  close(scratch);
  DeviceOptions options;
  options.capture = path;
  {
    auto tap = OpenTap(options);
    ASSERT_TRUE(tap);
    int descriptors[4];
    EXPECT_EQ(tap->Descriptors(descriptors, 4), 2u);
    KernelSide kernel;
    TestCore core;
    Frame* frame = core.MakeFrame(TcpFrame(Family::kIpv4, 3000), 14);
    frame->offload = TcpOffload(Family::kIpv4, 1400);
    ASSERT_EQ(tap->Transmit(*core, *frame), Device::Sent::kDone);
    core->frames.Release(frame);
    // A second stack continues the same file.
    ASSERT_EQ(OpenDevice("tap:t1", options).error, "");
    const auto in = PlainFrame(100, 2);
    kernel.Send(in);
    Packet* packet = ReceiveLike(*tap, *core, in);
    ASSERT_NE(packet, nullptr);
    core->packets.Release(packet);
    EXPECT_EQ(tap->Problem(), nullptr);
  }
  const std::string dump = std::string("tcpdump -nn -r ") + path + " 2>/dev/null";
  EXPECT_TRUE(RunCommand(dump + " | grep -q '10.99.99.2.1000 > 10.99.99.1.2000: .*length 3000'"));
  EXPECT_TRUE(RunCommand(dump + " | grep -qi '0x88b5.*length 100'"));
  unlink(path);
}

TEST_F(TapTest, EachBadDeviceIsOneClearLine) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev u0 mode tun && ip tuntap add dev t0 mode tap"));
  auto held = OpenTap();
  const struct {
    const char* spec;
    const char* says;
  } kTable[] = {
      {"tap0", "expected tap:NAME"},          {"", "expected tap:NAME"},
      {"udp:eth0", "expected tap:NAME"},      {"tap:", "name is missing"},
      {"tap:0123456789abcdef", "too long"},   {"tap:a/b", "not an interface name"},
      {"tap:tap%d", "not an interface name"}, {"tap:u0", "TUN device"},
      {"tap:lo", "not a TAP device"},         {"tap:t0", "busy"},
      {"tap:t9,queue=0", "has no options"},
  };
  for (const auto& row : kTable) {
    const OpenedDevice opened = OpenDevice(row.spec, {});
    EXPECT_FALSE(opened.device) << row.spec;
    EXPECT_NE(opened.error.find(row.says), std::string::npos) << row.spec << ": " << opened.error;
    EXPECT_EQ(opened.error.find('\n'), std::string::npos);
    EXPECT_EQ(opened.error.rfind("USERSTACK_DEV=" + std::string(row.spec), 0), 0u) << opened.error;
  }
}

TEST_F(TapTest, BadMtuAndBadCaptureNameTheirVariable) {
  DeviceOptions options;
  options.mtu = 100;
  EXPECT_EQ(OpenDevice("tap:t0", options).error.rfind("USERSTACK_MTU=100: expected 576", 0), 0u);
  options = {};
  options.capture = "/tmp";
  EXPECT_NE(OpenDevice("tap:t0", options).error.find("USERSTACK_CAPTURE=/tmp: this is a directory"),
            std::string::npos);
  options.capture = "/etc/hostname";
  EXPECT_NE(OpenDevice("tap:t0", options).error.find("not a capture"), std::string::npos);
  options.capture = "/nonexistent/x";
  EXPECT_NE(OpenDevice("tap:t0", options).error.find("no such directory"), std::string::npos);
}

TEST_F(TapTest, AMissingTunDeviceIsSaid) {
  ASSERT_EQ(mount("none", "/dev/net", "tmpfs", 0, nullptr), 0);
  EXPECT_NE(OpenDevice("tap:t0", {}).error.find("/dev/net/tun is missing"), std::string::npos);
}

// As an ordinary user: the device must be the user's, and need not be more than that.
TEST_F(TapTest, AUserAttachesToTheUsersDeviceOnly) {
  if (getuid() != 0 || mount("none", "/dev/net", "tmpfs", 0, "mode=755") != 0 ||
      mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) != 0) {
    GTEST_SKIP() << "needs to be root to become someone else";
  }
  constexpr int kUser = 65534;
  chmod("/dev/net/tun", 0666);
  ASSERT_TRUE(
      RunCommand("ip tuntap add dev t0 mode tap user 65534 && "
                 "ip tuntap add dev t1 mode tap user 65533"));
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(kUser, kUser, kUser) != 0) _exit(9);
    const OpenedDevice mine = OpenDevice("tap:t0", {});
    const OpenedDevice others = OpenDevice("tap:t1", {});
    const OpenedDevice absent = OpenDevice("tap:t2", {});
    if (mine.device == nullptr) _exit(1);
    if (mine.warning.find("ip link set t0 up") == std::string::npos) _exit(2);
    if (others.error.find("no permission to use") == std::string::npos) _exit(3);
    if (absent.error.find("no permission to create") == std::string::npos) _exit(4);
    chmod("/dev/net/tun", 0600);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(WIFEXITED(status));
}

}  // namespace
}  // namespace userstack::backend
