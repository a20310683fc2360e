// packet: buffers, packets and frames, and what is given back.
#include "netstack/packet/packet.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "netstack/packet/buffer.h"
#include "netstack/packet/frame.h"
#include "tests/netstack/foundation/memory.h"

namespace userstack {
namespace {

class PacketTest : public ::testing::Test {
 protected:
  PacketTest() : memory_(size_t{2} << 20) {
    Arena* arena = Arena::Format(memory_.data(), memory_.size());
    buffers_.Initialize(arena, 128 * kSmallBufferBytes, 8 * kLargeBufferBytes);
    packets_.Initialize(arena, &buffers_, 64);
    frames_.Initialize(arena, &buffers_, 64);
  }
  ~PacketTest() override { EXPECT_EQ(buffers_.bytes_in_use(), 0u); }

  // Slices of the given lengths that hold 0, 1, 2 ...
  Packet* Make(std::vector<uint32_t> lengths) {
    Packet* packet = packets_.Allocate();
    uint8_t next = 0;
    for (const uint32_t length : lengths) {
      Buffer* buffer = buffers_.Allocate(BufferClass::kSmall);
      packet->slices[packet->slice_count++] = {buffer, 10, length};
      for (uint32_t i = 0; i < length; ++i) buffer->bytes[10 + i] = next++;
      packet->length += length;
    }
    return packet;
  }

  TestMemory memory_;
  BufferPool buffers_;
  PacketPool packets_;
  FramePool frames_;
};

TEST_F(PacketTest, BuffersComeInTwoClassesUpToTheirLimits) {
  std::vector<Buffer*> taken;
  while (Buffer* b = buffers_.Allocate(BufferClass::kLarge)) {
    EXPECT_EQ(b->capacity, kLargeBufferBytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b->bytes) % 64, 0u);
    std::memset(b->bytes, 0xaa, b->capacity);
    taken.push_back(b);
  }
  EXPECT_EQ(taken.size(), 8u);
  EXPECT_TRUE(buffers_.under_pressure());
  EXPECT_EQ(buffers_.bytes_in_use(), 8 * kLargeBufferBytes);
  Buffer* small = buffers_.Allocate(BufferClass::kSmall);
  ASSERT_NE(small, nullptr);
  EXPECT_EQ(small->capacity, kSmallBufferBytes);
  BufferPool::Reference(small);
  buffers_.Release(small);
  EXPECT_EQ(small->references, 1u);
  buffers_.Release(small);
  for (Buffer* b : taken) buffers_.Release(b);
  EXPECT_FALSE(buffers_.under_pressure());
}

TEST_F(PacketTest, CopyReadsAcrossSlicesFromAnyOffset) {
  Packet* packet = Make({5, 1, 7});
  for (uint32_t offset = 0; offset <= 13; ++offset) {
    for (uint32_t size = 0; size <= 15; ++size) {
      uint8_t out[16] = {};
      const uint32_t n = PacketPool::Copy(*packet, offset, out, size);
      ASSERT_EQ(n, std::min(size, 13 - offset));
      for (uint32_t i = 0; i < n; ++i) ASSERT_EQ(out[i], offset + i);
    }
  }
  packets_.Release(packet);
}

TEST_F(PacketTest, TrimCutsAtEveryLengthAndGivesBuffersBack) {
  for (uint32_t length = 0; length <= 14; ++length) {
    Packet* packet = Make({5, 1, 7});
    packets_.Trim(packet, length);
    EXPECT_EQ(packet->length, std::min(length, 13u));
    EXPECT_EQ(packet->slice_count, length <= 5 ? 1 : length <= 6 ? 2 : 3);
    EXPECT_EQ(buffers_.bytes_in_use(), packet->slice_count * uint64_t{kSmallBufferBytes});
    uint8_t out[16];
    EXPECT_EQ(PacketPool::Copy(*packet, 0, out, 16), packet->length);
    packets_.Release(packet);
  }
}

TEST_F(PacketTest, PullAndPushMoveTheFront) {
  Packet* packet = Make({8, 4});
  packet->Pull(3);
  EXPECT_EQ(packet->data()[0], 3);
  EXPECT_EQ(packet->length, 9u);
  EXPECT_EQ(packet->contiguous(), 5u);
  packet->Push(2);
  EXPECT_EQ(packet->data()[0], 1);
  EXPECT_EQ(packet->length, 11u);
  packets_.Release(packet);
}

TEST_F(PacketTest, ACloneSharesTheBytesAndOutlivesTheOriginal) {
  Packet* packet = Make({5, 7});
  packet->ip.ttl = 9;
  packet->arrival = {77};
  Packet* clone = packets_.Clone(*packet);
  EXPECT_EQ(clone->slices[0].buffer, packet->slices[0].buffer);
  packet->Pull(2);
  packets_.Release(packet);
  uint8_t out[12];
  EXPECT_EQ(PacketPool::Copy(*clone, 0, out, 12), 12u);
  EXPECT_EQ(out[11], 11);
  EXPECT_EQ(clone->ip.ttl, 9);
  EXPECT_EQ(clone->arrival, Instant{77});
  EXPECT_FALSE(clone->node.linked());
  packets_.Release(clone);
  EXPECT_EQ(packets_.live(), 0u);
}

TEST_F(PacketTest, FramesGrowAtBothEndsAndMergeNeighbouringSlices) {
  Frame* frame = frames_.Allocate();
  Buffer* buffer = buffers_.Allocate(BufferClass::kSmall);
  frame->Append(8)[0] = 1;
  frame->Prepend(20)[0] = 2;
  EXPECT_EQ(frame->header_length(), 28);
  EXPECT_EQ(frame->header()[0], 2);
  EXPECT_EQ(frame->header()[20], 1);
  EXPECT_TRUE(frame->AddSlice(buffer, 0, 100));
  EXPECT_TRUE(frame->AddSlice(buffer, 100, 50));
  EXPECT_EQ(frame->slice_count, 1);
  EXPECT_EQ(buffer->references, 2u);
  for (unsigned i = 1; i < kMaxSlices; ++i) EXPECT_TRUE(frame->AddSlice(buffer, i * 3, 1));
  EXPECT_FALSE(frame->AddSlice(buffer, 500, 1));
  EXPECT_EQ(frame->payload_length, 150 + kMaxSlices - 1);
  EXPECT_EQ(frame->length(), 28 + 150 + kMaxSlices - 1);
  buffers_.Release(buffer);
  frames_.Release(frame);
}

TEST_F(PacketTest, AnOwnerIsChargedUntilItsFramesAreGoneAndHearsOnce) {
  FrameOwner owner(FrameOwnerKind::kUdp);
  Frame* a = frames_.Allocate();
  Frame* b = frames_.Allocate();
  a->Append(8);
  a->ChargeTo(&owner);
  b->ChargeTo(&owner);
  EXPECT_EQ(owner.bytes, 8 + 2 * kFrameOverhead);
  Frame* heir = frames_.Allocate();
  b->MoveChargeTo(heir);
  frames_.Release(b);
  EXPECT_EQ(frames_.PopDrained(), nullptr);
  frames_.Release(a);
  frames_.Release(heir);
  EXPECT_EQ(owner.bytes, 0u);
  EXPECT_EQ(frames_.PopDrained(), &owner);
  EXPECT_EQ(frames_.PopDrained(), nullptr);
}

}  // namespace
}  // namespace userstack
