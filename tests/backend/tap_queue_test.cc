// The further queues of a TAP that was made with several.
#include "tests/backend/tap_fixture.h"

namespace userstack::backend {
namespace {

// The kernel's answer to TcpFrame.
std::vector<uint8_t> Reversed(std::vector<uint8_t> frame) {
  std::swap_ranges(&frame[26], &frame[30], &frame[30]);  // addresses
  std::swap_ranges(&frame[34], &frame[36], &frame[36]);  // ports
  return frame;
}

Packet* ReceiveLikeFrom(unsigned queue, Device& device, Core& core,
                        const std::vector<uint8_t>& like) {
  for (int i = 0; i < 100; ++i) {
    pollfd wait{device.queue_descriptor(queue), POLLIN, 0};
    if (poll(&wait, 1, 2000) != 1) return nullptr;
    Packet* packet = nullptr;
    if (device.ReceiveFrom(queue, core, &packet, 1, 2, Instant{5}) != 1) continue;
    if (TestCore::BytesOf(*packet) == like) return packet;
    core.packets.Release(packet);
  }
  return nullptr;
}

TEST_F(TapTest, AFlowComesByTheQueueThatItsFramesLeftBy) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap multi_queue"));
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  ASSERT_EQ(tap->extra_queues(), DeviceQueues::kMost);
  KernelSide kernel;
  TestCore core;
  const auto out = TcpFrame(Family::kIpv4, 100);
  const auto in = Reversed(out);
  for (const unsigned queue : {3u, 8u, 3u}) {
    ASSERT_TRUE(tap->OpenQueue(queue));
    EXPECT_TRUE(tap->OpenQueue(queue));  // once
    Frame* frame = core.MakeFrame(out, 14);
    frame->queue = static_cast<uint8_t>(queue);
    ASSERT_EQ(tap->Transmit(*core, *frame), Device::Sent::kDone);
    core->frames.Release(frame);
    KernelSide::Seen seen;
    ASSERT_TRUE(kernel.Receive(out, &seen));
    ASSERT_GT(kernel.Send(in), 0) << std::strerror(errno);
    Packet* packet = ReceiveLikeFrom(queue, *tap, *core, in);
    ASSERT_NE(packet, nullptr) << queue;
    core->packets.Release(packet);
    tap->CloseQueue(queue);
    // Everything comes by the first again.
    ASSERT_GT(kernel.Send(in), 0) << std::strerror(errno);
    packet = ReceiveLike(*tap, *core, in);
    ASSERT_NE(packet, nullptr) << queue;
    core->packets.Release(packet);
  }
}

TEST_F(TapTest, FramesInTwoStepsLeaveByTheirQueueOrWhileItIsNotOpenByTheFirst) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap multi_queue"));
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  const auto out = TcpFrame(Family::kIpv4, 100);
  Frame* frame = core.MakeFrame(out, 14);
  std::vector<uint8_t> encoded(1664);
  const size_t size = tap->Encode(*frame, encoded.data(), encoded.size());
  core->frames.Release(frame);
  ASSERT_EQ(tap->TransmitEncoded(4, encoded.data(), size), Device::Sent::kDone);
  KernelSide::Seen seen;
  ASSERT_TRUE(kernel.Receive(out, &seen));
  for (const unsigned queue : {4u, 7u, 4u}) {
    ASSERT_TRUE(tap->OpenQueue(queue));
    ASSERT_EQ(tap->TransmitEncoded(queue, encoded.data(), size), Device::Sent::kDone);
    ASSERT_TRUE(kernel.Receive(out, &seen));
    ASSERT_GT(kernel.Send(Reversed(out)), 0) << std::strerror(errno);
    Packet* packet = ReceiveLikeFrom(queue, *tap, *core, Reversed(out));
    ASSERT_NE(packet, nullptr) << queue;
    core->packets.Release(packet);
  }
}

TEST_F(TapTest, FramesForAQueueThatIsNotOpenLeaveByTheFirst) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap multi_queue"));
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  KernelSide kernel;
  TestCore core;
  Frame* frame = core.MakeFrame(TcpFrame(Family::kIpv4, 100), 14);
  frame->queue = 5;
  EXPECT_EQ(tap->Transmit(*core, *frame), Device::Sent::kDone);
  EXPECT_FALSE(tap->gone());
  core->frames.Release(frame);
  KernelSide::Seen seen;
  EXPECT_TRUE(kernel.Receive(TcpFrame(Family::kIpv4, 100), &seen));
}

TEST_F(TapTest, ATapOfOneQueueHasNoFurther) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap"));
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  EXPECT_EQ(tap->extra_queues(), 0u);
}

TEST_F(TapTest, QueuesAreInheritedBeforeTheyAreOpen) {
  ASSERT_TRUE(RunCommand("ip tuntap add dev t0 mode tap multi_queue"));
  auto tap = OpenTap();
  ASSERT_TRUE(tap);
  int descriptors[16];
  const size_t count = tap->Descriptors(descriptors, 16);
  ASSERT_EQ(count, DeviceQueues::kMost + 1);
  for (size_t i = 0; i < count; ++i) descriptors[i] = dup(descriptors[i]);
  OpenedDevice adopted = AdoptDevice("tap:t0", {}, descriptors, count);
  ASSERT_EQ(adopted.error, "");
  ASSERT_EQ(adopted.device->extra_queues(), DeviceQueues::kMost);
  ASSERT_TRUE(tap->OpenQueue(2));
  KernelSide kernel;
  TestCore core;
  const auto out = TcpFrame(Family::kIpv4, 100);
  Frame* frame = core.MakeFrame(out, 14);
  frame->queue = 2;
  ASSERT_EQ(adopted.device->Transmit(*core, *frame), Device::Sent::kDone);
  core->frames.Release(frame);
  KernelSide::Seen seen;
  ASSERT_TRUE(kernel.Receive(out, &seen));
  ASSERT_GT(kernel.Send(Reversed(out)), 0);
  Packet* packet = ReceiveLikeFrom(2, *adopted.device, *core, Reversed(out));
  ASSERT_NE(packet, nullptr);
  core->packets.Release(packet);
}

}  // namespace
}  // namespace userstack::backend
