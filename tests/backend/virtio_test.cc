// The virtio-net header: encoding, and decoding of whatever a device may put there.
#include "backend/virtio.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "backend/tap.h"
#include "netstack/base/byte_order.h"
#include "netstack/base/random.h"

namespace userstack::backend {
namespace {

VirtioHeader Header(uint8_t flags, uint8_t type, uint16_t header_length, uint16_t segment_size,
                    uint16_t start, uint16_t offset) {
  VirtioHeader header{};
  header[0] = flags;
  header[1] = type;
  std::memcpy(&header[2], &header_length, 2);
  std::memcpy(&header[4], &segment_size, 2);
  std::memcpy(&header[6], &start, 2);
  std::memcpy(&header[8], &offset, 2);
  return header;
}

std::vector<uint8_t> FrameV4(uint8_t protocol, size_t length, uint8_t ihl = 5) {
  std::vector<uint8_t> frame(length);
  Store16(&frame[12], 0x0800);
  frame[14] = static_cast<uint8_t>(0x40 | ihl);
  frame[23] = protocol;
  if (length > 14 + 4u * ihl + 12) frame[14 + 4 * ihl + 12] = 8 << 4;  // TCP header of 32 bytes
  return frame;
}

std::vector<uint8_t> FrameV6(uint8_t protocol, size_t length) {
  std::vector<uint8_t> frame(length);
  Store16(&frame[12], 0x86dd);
  frame[14] = 0x60;
  frame[20] = protocol;
  if (length > 66) frame[66] = 5 << 4;
  return frame;
}

std::optional<Offload> Decode(const VirtioHeader& header, const std::vector<uint8_t>& frame) {
  return DecodeVirtioHeader(header, frame.data(), std::min<size_t>(frame.size(), 2048),
                            frame.size());
}

TEST(VirtioHeader, PlainFrameAsksNothing) {
  EXPECT_EQ(EncodeVirtioHeader(Offload{}), VirtioHeader{});
  const auto offload = Decode(VirtioHeader{}, FrameV4(6, 60));
  ASSERT_TRUE(offload);
  EXPECT_FALSE(offload->checksum_needed);
  EXPECT_FALSE(offload->checksum_verified);
  EXPECT_EQ(offload->segmentation, SegmentationType::kNone);
}

TEST(VirtioHeader, ChecksumLeftUndoneIsVouchedFor) {
  const auto offload = Decode(Header(1, 0, 0, 0, 34, 16), FrameV4(6, 60));
  ASSERT_TRUE(offload);
  EXPECT_TRUE(offload->checksum_needed);
  EXPECT_TRUE(offload->checksum_verified);
  EXPECT_EQ(offload->checksum_start, 34);
  EXPECT_EQ(offload->checksum_offset, 16);
}

TEST(VirtioHeader, DataValidIsVerified) {
  const auto offload = Decode(Header(2, 0, 0, 0, 0, 0), FrameV4(6, 60));
  ASSERT_TRUE(offload);
  EXPECT_TRUE(offload->checksum_verified);
  EXPECT_FALSE(offload->checksum_needed);
}

TEST(VirtioHeader, HeaderLengthComesFromThePacketNotFromTheHint) {
  // Linux: the hint is the length of the linear part, which may hold payload too.
  const auto offload = Decode(Header(1, 1, 1400, 1448, 34, 16), FrameV4(6, 20000));
  ASSERT_TRUE(offload);
  EXPECT_EQ(offload->segmentation, SegmentationType::kTcpV4);
  EXPECT_EQ(offload->segment_size, 1448);
  EXPECT_EQ(offload->header_length, 14 + 20 + 32);
}

TEST(VirtioHeader, EcnBitOfSegmentsIsIgnored) {
  const auto offload = Decode(Header(1, 0x84, 0, 1428, 54, 16), FrameV6(6, 9000));
  ASSERT_TRUE(offload);
  EXPECT_EQ(offload->segmentation, SegmentationType::kTcpV6);
  EXPECT_EQ(offload->header_length, 14 + 40 + 20);
}

TEST(VirtioHeader, UdpSegmentsAndFragmentsAreAccepted) {
  const auto segment = Decode(Header(1, 5, 0, 1472, 34, 6), FrameV4(17, 9000));
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->segmentation, SegmentationType::kUdpSegment);
  EXPECT_EQ(segment->header_length, 14 + 20 + 8);
  const auto fragment = Decode(Header(1, 3, 0, 1480, 54, 6), FrameV6(17, 9000));
  ASSERT_TRUE(fragment);
  EXPECT_EQ(fragment->segmentation, SegmentationType::kUdpFragment);
}

struct Hostile {
  const char* name;
  VirtioHeader header;
  std::vector<uint8_t> frame;
};

TEST(VirtioHeader, RefusesWhatDoesNotFitTheFrame) {
  const Hostile kTable[] = {
      {"shorter than Ethernet", Header(0, 0, 0, 0, 0, 0), std::vector<uint8_t>(13)},
      {"checksum start in the link header", Header(1, 0, 0, 0, 13, 16), FrameV4(6, 60)},
      {"checksum start behind the end", Header(1, 0, 0, 0, 61, 0), FrameV4(6, 60)},
      {"checksum field behind the end", Header(1, 0, 0, 0, 34, 25), FrameV4(6, 60)},
      {"checksum offsets that wrap", Header(1, 0, 0, 0, 0xffff, 0xffff), FrameV4(6, 60)},
      {"checksum outside of the first buffer", Header(1, 0, 0, 0, 3000, 16), FrameV4(6, 9000)},
      {"unknown type", Header(1, 2, 0, 1448, 34, 16), FrameV4(6, 9000)},
      {"unknown type with ECN", Header(1, 0x80, 0, 1448, 34, 16), FrameV4(6, 9000)},
      {"segments of nothing", Header(1, 1, 0, 0, 34, 16), FrameV4(6, 9000)},
      {"IPv4 segments in IPv6", Header(1, 1, 0, 1448, 54, 16), FrameV6(6, 9000)},
      {"IPv6 segments in IPv4", Header(1, 4, 0, 1448, 34, 16), FrameV4(6, 9000)},
      {"TCP segments in UDP", Header(1, 1, 0, 1448, 34, 16), FrameV4(17, 9000)},
      {"UDP segments in TCP", Header(1, 5, 0, 1448, 34, 16), FrameV4(6, 9000)},
      {"segments without an IP header", Header(0, 1, 0, 1448, 0, 0), std::vector<uint8_t>(200)},
      {"segments in a cut IPv4 header", Header(0, 1, 0, 1448, 0, 0), FrameV4(6, 30)},
      {"IPv4 header length of 4 words", Header(0, 1, 0, 1448, 0, 0), FrameV4(6, 9000, 4)},
      {"IPv4 header behind the end", Header(0, 1, 0, 1448, 0, 0), FrameV4(6, 60, 15)},
      {"segments in a cut TCP header", Header(0, 1, 0, 1448, 0, 0), FrameV4(6, 60)},
  };
  for (const Hostile& hostile : kTable) {
    EXPECT_FALSE(Decode(hostile.header, hostile.frame)) << hostile.name;
  }
}

TEST(VirtioHeader, RandomHeadersNeverPointOutside) {
  Random random(7);
  for (int i = 0; i < 200000; ++i) {
    std::vector<uint8_t> frame =
        random.Below(2) != 0 ? FrameV4(random.Below(2) != 0 ? 6 : 17, 64 + random.Below(3000))
                             : FrameV6(random.Below(2) != 0 ? 6 : 17, 64 + random.Below(3000));
    VirtioHeader header{};
    header[0] = static_cast<uint8_t>(random.Below(4));
    header[1] = static_cast<uint8_t>(random.Below(8) | (random.Below(2) << 7));
    for (size_t b = 2; b < header.size(); ++b) {
      header[b] = static_cast<uint8_t>(random.Below(b % 2 != 0 ? 10 : 256));
    }
    const size_t contiguous = std::min<size_t>(frame.size(), 2048);
    const auto offload = Decode(header, frame);
    if (!offload) continue;
    if (offload->checksum_needed) {
      ASSERT_LE(offload->checksum_start + offload->checksum_offset + 2u, contiguous);
    }
    ASSERT_LE(offload->header_length, contiguous);
    ASSERT_EQ(offload->segmentation != SegmentationType::kNone, offload->segment_size != 0);
  }
}

TEST(VirtioHeader, WhatIsEncodedIsDecoded) {
  Offload offload;
  offload.checksum_needed = true;
  offload.checksum_start = 34;
  offload.checksum_offset = 16;
  offload.segmentation = SegmentationType::kTcpV4;
  offload.segment_size = 1448;
  offload.header_length = 66;
  const auto decoded = Decode(EncodeVirtioHeader(offload), FrameV4(6, 30000));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->segmentation, offload.segmentation);
  EXPECT_EQ(decoded->segment_size, offload.segment_size);
  EXPECT_EQ(decoded->header_length, offload.header_length);
  EXPECT_EQ(decoded->checksum_start, offload.checksum_start);
  EXPECT_EQ(decoded->checksum_offset, offload.checksum_offset);
}

TEST(DerivedMac, IsStableLocalUnicastAndNeverTheKernels) {
  const MacAddress mac = DeriveMac("tap0", "10.0.0.2/24", MacAddress{});
  EXPECT_EQ(mac, DeriveMac("tap0", "10.0.0.2/24", MacAddress{}));
  EXPECT_EQ(mac.bytes[0] & 3, 2);
  EXPECT_FALSE(mac == DeriveMac("tap0", "10.0.0.3/24", MacAddress{}));
  EXPECT_FALSE(mac == DeriveMac("tap1", "10.0.0.2/24", MacAddress{}));
  EXPECT_FALSE(mac == DeriveMac("tap0", "10.0.0.2/24", mac));
}

}  // namespace
}  // namespace userstack::backend
