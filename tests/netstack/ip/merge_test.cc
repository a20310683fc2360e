// Merging of received segments: what becomes one packet, and everything that keeps two apart.
#include "netstack/ip/merge.h"

#include "netstack/base/checksum.h"
#include "netstack/wire/tcp.h"
#include "tests/netstack/ip/fixture.h"

namespace userstack::testing {
namespace {

constexpr size_t kSegment = 1000;

// What one segment is made of.
struct Parts {
  bool v6 = false;
  uint16_t port = 5000;
  uint32_t sequence = 1;
  uint32_t acknowledgment = 77;
  uint16_t window = 500;
  uint8_t flags = wire::kTcpAck;
  Bytes options = Hex("01 01 08 0a 00 00 00 05 00 00 00 06");
  size_t length = kSegment;
  uint8_t tos = 0;
  uint8_t ttl = 64;
  bool more_fragments = false;
  size_t padding = 0;
  int flip = -1;  // a bit of this byte of the frame is wrong
};

Bytes Text(const Parts& p) {
  Bytes text(p.length);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<uint8_t>((p.sequence + i) * 7);
  return text;
}

Bytes Frame(const Parts& p) {
  Bytes tcp(wire::kTcpHeaderBytes);
  Store16(&tcp[0], p.port);
  Store16(&tcp[2], 80);
  Store32(&tcp[4], p.sequence);
  Store32(&tcp[8], p.acknowledgment);
  tcp[12] = static_cast<uint8_t>((wire::kTcpHeaderBytes + p.options.size()) / 4 << 4);
  tcp[13] = p.flags;
  Store16(&tcp[14], p.window);
  tcp = tcp + p.options + Text(p);
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(p.v6 ? V6("fd00::1") : V4("10.0.0.1"), p.v6 ? V6("fd00::2") : V4("10.0.0.2"),
                      wire::kProtocolTcp, static_cast<uint32_t>(tcp.size()));
  sum.Add(tcp.data(), tcp.size());
  Store16(&tcp[16], sum.Checksum());
  wire::Ipv4Header like;
  like.tos = p.tos;
  like.ttl = p.ttl;
  like.more_fragments = p.more_fragments;
  Bytes packet =
      p.v6 ? Ipv6("fd00::1", "fd00::2", 6, tcp, p.ttl) : Ipv4("10.0.0.1", "10.0.0.2", 6, tcp, like);
  if (p.v6) packet[1] = static_cast<uint8_t>(packet[1] | (p.tos & 0xf) << 4);
  packet.resize(packet.size() + p.padding);
  Bytes frame = Ethernet(kOurMac, kPeerMac, p.v6 ? 0x86dd : 0x0800, packet);
  if (p.flip >= 0) frame[static_cast<size_t>(p.flip)] ^= 4;
  return frame;
}

class MergeTest : public IpFixture {
 protected:
  ~MergeTest() override {
    for (Packet* packet : left_) core_->packets.Release(packet);
    EXPECT_EQ(core_->packets.live(), 0u);
  }
  Packet* Make(const Bytes& frame) {
    Packet* packet = core_->packets.Allocate();
    Buffer* buffer = core_->buffers.Allocate(BufferClass::kSmall);
    const auto length = static_cast<uint32_t>(frame.size());
    EXPECT_LE(length, buffer->capacity);
    std::copy(frame.begin(), frame.end(), buffer->bytes);
    packet->slices[packet->slice_count++] = {buffer, 0, length};
    packet->length = length;
    packet->ip.interface = kWireInterface;
    return packet;
  }
  // For how many packets the first stands afterwards.
  size_t Merge(const std::vector<Parts>& segments) {
    std::vector<Packet*> packets;
    for (const Parts& p : segments) packets.push_back(Make(Frame(p)));
    const size_t merged = MergeSegments(*core_, packets.data(), packets.size());
    for (size_t i = 0; i < packets.size(); ++i) {
      if (i == 0 || i >= merged) left_.push_back(packets[i]);
    }
    return merged;
  }
  // `count` segments that follow each other.
  static std::vector<Parts> Row(size_t count, const Parts& like = {}) {
    std::vector<Parts> row(count, like);
    for (size_t i = 1; i < count; ++i) {
      row[i].sequence = row[i - 1].sequence + static_cast<uint32_t>(row[i - 1].length);
    }
    return row;
  }
  std::vector<Packet*> left_;
};

TEST_F(MergeTest, SegmentsInOrderBecomeOneThatIpAccepts) {
  Configure();
  const uint64_t before = Count(Counter::kDeviceInFrames);
  for (const bool v6 : {false, true}) {
    const auto row = Row(4, {.v6 = v6});
    ASSERT_EQ(Merge(row), 4u);
    Packet* packet = left_.back();
    left_.pop_back();
    EXPECT_EQ(packet->offload.segment_size, kSegment);
    EXPECT_TRUE(packet->offload.checksum_verified);
    ASSERT_EQ(ip_->Input(packet, now_), IpVerdict::kDeliver);
    Bytes got(packet->length), wanted;
    PacketPool::Copy(*packet, 0, got.data(), packet->length);
    const Bytes header = Frame(row[0]);
    const size_t at = header.size() - kSegment - 32;
    wanted.assign(header.begin() + static_cast<long>(at), header.end() - kSegment);
    for (const Parts& p : row) wanted = wanted + Text(p);
    EXPECT_EQ(got, wanted) << "the first header, and all text";
    core_->packets.Release(packet);
  }
  EXPECT_EQ(Count(Counter::kDeviceInFrames) - before, 8u);
}

TEST_F(MergeTest, PushAndAShortSegmentAreTheLast) {
  auto row = Row(4);
  row[1].flags |= wire::kTcpPush;
  EXPECT_EQ(Merge(row), 2u);
  EXPECT_NE(left_[0]->data()[14 + 20 + 13] & wire::kTcpPush, 0);
  row = Row(4);
  row[2].length = 10;
  row[3].sequence = row[2].sequence + 10;
  EXPECT_EQ(Merge(row), 3u);
  row = Row(2);
  row[0].flags |= wire::kTcpPush;
  EXPECT_EQ(Merge(row), 1u);
  row = Row(2);
  row[1].length = kSegment + 1;
  EXPECT_EQ(Merge(row), 1u) << "longer than the first";
}

// Each of these changes the third segment, which then stays apart, whatever it is that follows.
TEST_F(MergeTest, WhatDiffersStaysApart) {
  using Change = void (*)(Parts*);
  const std::pair<const char*, Change> changes[] = {
      {"a hole", [](Parts* p) { p->sequence += 1; }},
      {"an old segment", [](Parts* p) { p->sequence -= kSegment; }},
      {"another port", [](Parts* p) { p->port += 1; }},
      {"another acknowledgment", [](Parts* p) { p->acknowledgment += 1; }},
      {"another window", [](Parts* p) { p->window += 1; }},
      {"FIN", [](Parts* p) { p->flags |= wire::kTcpFin; }},
      {"SYN", [](Parts* p) { p->flags |= wire::kTcpSyn; }},
      {"RST", [](Parts* p) { p->flags |= wire::kTcpReset; }},
      {"URG", [](Parts* p) { p->flags |= wire::kTcpUrgent; }},
      {"ECE", [](Parts* p) { p->flags |= 0x40; }},
      {"CWR", [](Parts* p) { p->flags |= 0x80; }},
      {"no ACK", [](Parts* p) { p->flags = 0; }},
      {"a later timestamp", [](Parts* p) { p->options[7] += 1; }},
      {"no options", [](Parts* p) { p->options.clear(); }},
      {"SACK",
       [](Parts* p) { p->options = p->options + Hex("01 01 05 0a 00 00 01 00 00 00 02 00"); }},
      {"CE", [](Parts* p) { p->tos = 3; }},
      {"TTL", [](Parts* p) { p->ttl -= 1; }},
      {"no text", [](Parts* p) { p->length = 0; }},
      {"link padding", [](Parts* p) { p->padding = 2; }},
      {"a wrong byte of text", [](Parts* p) { p->flip = 500; }},
  };
  for (const bool v6 : {false, true}) {
    for (const auto& [name, change] : changes) {
      auto row = Row(5, {.v6 = v6});
      change(&row[2]);
      EXPECT_EQ(Merge(row), 2u) << name << (v6 ? ", IPv6" : "");
    }
  }
}

TEST_F(MergeTest, AFirstThatIsWrongOrSpecialStaysAsItIs) {
  std::vector<Parts> row = Row(2);
  row[0].flip = 500;
  EXPECT_EQ(Merge(row), 1u) << "a wrong byte of text";
  EXPECT_FALSE(left_.back()->offload.checksum_verified);
  row = Row(2);
  for (Parts& p : row) p.flip = 14 + 5;  // the identification: only the header's sum sees it
  EXPECT_EQ(Merge(row), 1u) << "a wrong header";
  row = Row(2);
  for (Parts& p : row) p.more_fragments = true;
  EXPECT_EQ(Merge(row), 1u) << "fragments";
  row = Row(2);
  for (Parts& p : row) p.flags |= wire::kTcpUrgent;
  EXPECT_EQ(Merge(row), 1u) << "URG in both";
  for (Parts& p : row) p.flags = wire::kTcpAck | wire::kTcpFin;
  EXPECT_EQ(Merge(row), 1u) << "FIN in both";
}

TEST_F(MergeTest, APacketHoldsAsManyAsItHasSlices) {
  EXPECT_EQ(Merge(Row(kMaxSlices + 3)), kMaxSlices);
  EXPECT_EQ(left_[0]->length, 14 + 20 + 32 + kMaxSlices * kSegment);
}

TEST_F(MergeTest, TextInAProgramsMemoryIsNotMerged) {
  std::vector<Packet*> packets;
  for (const Parts& p : Row(2)) packets.push_back(Make(Frame(p)));
  packets[1]->slices[0].length -= kSegment;
  packets[1]->slices[1] = {&core_->landing.buffer, 0, kSegment};
  packets[1]->slice_count = 2;
  EXPECT_EQ(MergeSegments(*core_, packets.data(), 2), 1u);
  packets[1]->slice_count = 1;
  left_ = packets;
}

TEST_F(MergeTest, RequestsAndLargeSegmentsAreNotAskedFor) {
  std::vector<Packet*> packets;
  for (const Parts& p : Row(2)) packets.push_back(Make(Frame(p)));
  EXPECT_TRUE(MayContinue(*packets[0], *packets[1]));
  packets[0]->offload.segmentation = SegmentationType::kTcpV4;
  EXPECT_FALSE(MayContinue(*packets[0], *packets[1]));
  left_ = packets;
  for (const Parts& p : Row(2, {.length = 100})) left_.push_back(Make(Frame(p)));
  EXPECT_FALSE(MayContinue(*left_[2], *left_[3]));
}

}  // namespace
}  // namespace userstack::testing
