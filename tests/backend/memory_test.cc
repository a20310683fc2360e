// MemoryWire: what goes in at one end comes out at the other.
#include "backend/memory.h"

#include <gtest/gtest.h>
#include <poll.h>

#include "tests/backend/fixture.h"

namespace userstack::backend {
namespace {

bool Readable(Device& device) {
  pollfd wait{device.wait_descriptor(), POLLIN, 0};
  return poll(&wait, 1, 0) == 1;
}

TEST(MemoryWire, CarriesFramesOfEverySizeInOrder) {
  MemoryWire wire({}, {});
  TestCore left, right;
  std::vector<std::vector<uint8_t>> sent;
  for (const size_t size : {14, 60, 1514, 2048, 2049, 9000, 65549}) {
    sent.emplace_back(size, static_cast<uint8_t>(size));
    Frame* frame = left.MakeFrame(sent.back(), 14);
    frame->offload.segment_size = static_cast<uint16_t>(size);
    ASSERT_EQ(wire.end(0).Transmit(*left, *frame), Device::Sent::kDone);
    left->frames.Release(frame);
  }
  EXPECT_TRUE(Readable(wire.end(1)));
  EXPECT_FALSE(Readable(wire.end(0)));
  Packet* packets[16];
  ASSERT_EQ(wire.end(1).Receive(*right, packets, 16, 2, Instant{3}), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(TestCore::BytesOf(*packets[i]), sent[i]);
    EXPECT_EQ(packets[i]->offload.segment_size, static_cast<uint16_t>(sent[i].size()));
    EXPECT_EQ(packets[i]->arrival.nanoseconds, 3);
    right->packets.Release(packets[i]);
  }
  EXPECT_FALSE(Readable(wire.end(1)));
  EXPECT_EQ(right->buffers.bytes_in_use(), 0u);
}

TEST(MemoryWire, AFullQueueIsBusyUntilTheOtherEndTakes) {
  MemoryWire wire({}, {}, 2);
  TestCore core;
  Frame* frame = core.MakeFrame(std::vector<uint8_t>(60), 14);
  EXPECT_EQ(wire.end(1).Transmit(*core, *frame), Device::Sent::kDone);
  EXPECT_EQ(wire.end(1).Transmit(*core, *frame), Device::Sent::kDone);
  EXPECT_EQ(wire.end(1).Transmit(*core, *frame), Device::Sent::kBusy);
  Packet* packet = nullptr;
  ASSERT_EQ(wire.end(0).Receive(*core, &packet, 1, 2, Instant{}), 1u);
  core->packets.Release(packet);
  EXPECT_EQ(wire.end(1).Transmit(*core, *frame), Device::Sent::kDone);
  core->frames.Release(frame);
}

}  // namespace
}  // namespace userstack::backend
