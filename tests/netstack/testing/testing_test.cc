// The harness itself: what the virtual devices, links and content do.
#include <gtest/gtest.h>

#include "netstack/base/byte_order.h"
#include "tests/netstack/testing/content.h"
#include "tests/netstack/testing/impairment.h"
#include "tests/netstack/testing/printer.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack::testing {
namespace {

std::vector<uint8_t> TcpFrame(bool v6, uint32_t sequence, uint8_t flags, size_t payload) {
  std::vector<uint8_t> b(v6 ? 74 : 54);
  b[0] = 2, b[6] = 2, b[11] = 1;
  Store16(&b[12], v6 ? 0x86dd : 0x0800);
  const auto length = static_cast<uint16_t>(20 + payload);
  if (v6) {
    b[14] = 0x60;
    Store16(&b[18], length);
    b[20] = 6, b[21] = 64, b[22] = 0xfd, b[37] = 1, b[38] = 0xfd, b[53] = 2;
  } else {
    b[14] = 0x45;
    Store16(&b[16], static_cast<uint16_t>(20 + length));
    b[22] = 64, b[23] = 6, b[26] = 10, b[29] = 1, b[30] = 10, b[33] = 2;
  }
  uint8_t* tcp = &b[v6 ? 54 : 34];
  Store16(tcp, 1000);
  Store16(tcp + 2, 80);
  Store32(tcp + 4, sequence);
  tcp[12] = 0x50;
  tcp[13] = flags;
  for (size_t i = 0; i < payload; ++i) b.push_back(static_cast<uint8_t>(sequence + i));
  FixChecksums(&b);
  return b;
}

class BothFamilies : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Families, BothFamilies, ::testing::Bool());

TEST_P(BothFamilies, ACorruptedChecksumIsNoticed) {
  std::vector<uint8_t> b = TcpFrame(GetParam(), 1, 24, 333);
  EXPECT_TRUE(ChecksumsAreRight(b));
  b.back() ^= 4;
  EXPECT_FALSE(ChecksumsAreRight(b));
}

TEST_P(BothFamilies, SegmentsOfALargeFrameMergeToTheSameBytes) {
  WireFrame large{TcpFrame(GetParam(), 7, 16 | 8, 10'000), {}};
  large.offload.segmentation = GetParam() ? SegmentationType::kTcpV6 : SegmentationType::kTcpV4;
  large.offload.segment_size = 1448;
  large.offload.header_length = GetParam() ? 74 : 54;
  large.offload.checksum_needed = true;
  std::vector<WireFrame> segments = Segment(large);
  ASSERT_EQ(segments.size(), 7u);
  WireFrame merged = segments[0];
  for (size_t i = 0; i < segments.size(); ++i) {
    EXPECT_TRUE(ChecksumsAreRight(segments[i].bytes)) << i;
    if (i > 0) {
      EXPECT_TRUE(Merge(&merged, segments[i])) << i;
    }
  }
  FixChecksums(&merged.bytes);
  EXPECT_EQ(merged.bytes, large.bytes);
}

TEST_P(BothFamilies, SegmentsWithAGapDoNotMerge) {
  WireFrame a{TcpFrame(GetParam(), 0, 16, 100), {}};
  const WireFrame gap{TcpFrame(GetParam(), 101, 16, 100), {}};
  EXPECT_FALSE(Merge(&a, gap));
}

TEST_P(BothFamilies, FragmentsHoldEveryByteOnce) {
  const WireFrame whole{TcpFrame(GetParam(), 0, 16, 4000), {}};
  const auto fragments = Fragment(whole, 1280, 77);
  size_t bytes = 0;
  for (const WireFrame& fragment : fragments) {
    EXPECT_LE(fragment.bytes.size(), 1280u + 14);
    bytes += fragment.bytes.size() - (GetParam() ? 62 : 34);
  }
  EXPECT_EQ(bytes, 4020u);
}

TEST(Content, MatchesOnlyItsOwnPlace) {
  uint8_t b[100];
  FillContent(5, 3, b, sizeof b);
  EXPECT_EQ(MatchContent(5, 3, b, sizeof b), sizeof b);
  EXPECT_EQ(MatchContent(5, 4, b, sizeof b), 0u);
  EXPECT_LT(MatchContent(6, 3, b, sizeof b), 8u);
  b[77] ^= 1;
  EXPECT_EQ(MatchContent(5, 3, b, sizeof b), 77u);
}

TEST(Link, TheSameSeedGivesTheSameFates) {
  Impairment impairment;
  impairment.loss = 300'000;
  impairment.duplicate = impairment.reorder = impairment.corrupt = 200'000;
  impairment.jitter = Duration::Milliseconds(3);
  Link a(impairment, 9), b(impairment, 9), c(impairment, 10);
  std::vector<Departure> from_a, from_b, from_c;
  for (int i = 0; i < 200; ++i) {
    const WireFrame frame{TcpFrame(false, static_cast<uint32_t>(i), 16, 10), {}};
    const Instant now{i * 1000};
    EXPECT_EQ(a.Send(frame, now, &from_a), b.Send(frame, now, &from_b));
    (void)c.Send(frame, now, &from_c);
  }
  ASSERT_EQ(from_a.size(), from_b.size());
  bool differs = from_a.size() != from_c.size();
  for (size_t i = 0; i < from_a.size(); ++i) {
    EXPECT_EQ(from_a[i].at, from_b[i].at);
    EXPECT_EQ(from_a[i].frame.bytes, from_b[i].frame.bytes);
    differs |= i < from_c.size() && from_a[i].frame.bytes != from_c[i].frame.bytes;
  }
  EXPECT_TRUE(differs);
}

TEST(Link, CorruptionNeverKeepsTheChecksumsRight) {
  Impairment impairment;
  impairment.corrupt = kMillion;
  Link link(impairment, 3);
  for (int i = 0; i < 2000; ++i) {
    const WireFrame frame{TcpFrame(false, 1, 16, 40), {}};
    std::vector<Departure> out;
    (void)link.Send(frame, {}, &out);
    const std::vector<uint8_t>& b = out[0].frame.bytes;
    // A flip in the link header leaves IP alone.
    if (std::equal(b.begin() + 14, b.end(), frame.bytes.begin() + 14)) continue;
    FrameLayout layout;
    EXPECT_FALSE(ParseLayout(b, &layout) && ChecksumsAreRight(b)) << i;
  }
}

TEST(Printer, ReadsAsTcpdumpDoes) {
  Printer printer;
  EXPECT_EQ(printer.Describe(TcpFrame(false, 5000, 2, 0)),
            "IP 10.0.0.1.1000 > 10.0.0.2.80: Flags [S], seq 0, win 0, length 0");
  EXPECT_EQ(printer.Describe(TcpFrame(false, 5001, 24, 10)),
            "IP 10.0.0.1.1000 > 10.0.0.2.80: Flags [P.], seq 1:11, ack 0, win 0, length 10");
}

}  // namespace
}  // namespace userstack::testing
