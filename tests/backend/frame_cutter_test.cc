// FrameCutter and what else AF_XDP needs that touches no kernel.
#include "backend/frame_cutter.h"

#include <gtest/gtest.h>

#include <cstring>

#include "backend/checksum_state.h"
#include "backend/default_route.h"
#include "backend/xdp_spec.h"
#include "netstack/base/byte_order.h"
#include "netstack/base/checksum.h"
#include "tests/backend/fixture.h"

namespace userstack::backend {
namespace {

constexpr uint32_t kEthernet = 14;

struct Shape {
  Family family;
  bool udp;
  size_t payload;
  uint16_t segment;  // 0: not to be cut
};

size_t NetworkBytes(const Shape& s) { return s.family == Family::kIpv4 ? 20 : 40; }
size_t TransportBytes(const Shape& s) { return s.udp ? 8 : 32; }
size_t HeaderBytes(const Shape& s) { return kEthernet + NetworkBytes(s) + TransportBytes(s); }

IpAddress End(Family family, uint8_t last) {
  if (family == Family::kIpv4) return IpAddress::V4(0x0a636300u + last);
  uint8_t bytes[16] = {0xfd, 0x99};
  bytes[15] = last;
  return IpAddress::V6FromBytes(bytes);
}

// Headers as the stack leaves them to a device: the pseudo-header's sum in the checksum field.
std::vector<uint8_t> WholeFrame(const Shape& s) {
  std::vector<uint8_t> frame(HeaderBytes(s) + s.payload);
  for (size_t i = HeaderBytes(s); i < frame.size(); ++i) frame[i] = static_cast<uint8_t>(i * 31);
  uint8_t* ip = &frame[kEthernet];
  uint8_t* transport = ip + NetworkBytes(s);
  const auto transport_length = static_cast<uint32_t>(TransportBytes(s) + s.payload);
  const uint8_t protocol = s.udp ? 17 : 6;
  const IpAddress from = End(s.family, 2);
  const IpAddress to = End(s.family, 1);
  Store16(&frame[12], s.family == Family::kIpv4 ? 0x0800 : 0x86dd);
  if (s.family == Family::kIpv4) {
    ip[0] = 0x45;
    Store16(ip + 2, static_cast<uint16_t>(20 + transport_length));
    Store16(ip + 4, 0xfffe);
    ip[8] = 64;
    ip[9] = protocol;
    std::memcpy(ip + 12, from.v4_bytes(), 4);
    std::memcpy(ip + 16, to.v4_bytes(), 4);
  } else {
    ip[0] = 0x60;
    Store16(ip + 4, static_cast<uint16_t>(transport_length));
    ip[6] = protocol;
    std::memcpy(ip + 8, from.v6_bytes(), 16);
    std::memcpy(ip + 24, to.v6_bytes(), 16);
  }
  Store16(transport, 1000);
  Store16(transport + 2, 2000);
  if (!s.udp) {
    Store32(transport + 4, 0xffffff00);
    transport[12] = 8 << 4;
    transport[13] = 0x80 | 0x10 | 0x08 | 0x01;  // CWR ACK PSH FIN
  } else {
    Store16(transport + 4, static_cast<uint16_t>(transport_length));
  }
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(from, to, protocol, transport_length);
  Store16(transport + (s.udp ? 6 : 16), pseudo.Sum());
  return frame;
}

Offload OffloadOf(const Shape& s) {
  Offload offload;
  offload.checksum_needed = true;
  offload.checksum_start = static_cast<uint16_t>(kEthernet + NetworkBytes(s));
  offload.checksum_offset = s.udp ? 6 : 16;
  if (s.segment == 0) return offload;
  offload.segmentation = s.udp                       ? SegmentationType::kUdpSegment
                         : s.family == Family::kIpv4 ? SegmentationType::kTcpV4
                                                     : SegmentationType::kTcpV6;
  offload.segment_size = s.segment;
  offload.header_length = static_cast<uint16_t>(HeaderBytes(s));
  return offload;
}

void ExpectSoundChecksum(const Shape& s, const std::vector<uint8_t>& frame) {
  const size_t start = kEthernet + NetworkBytes(s);
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(End(s.family, 2), End(s.family, 1), s.udp ? 17 : 6,
                      static_cast<uint32_t>(frame.size() - start));
  sum.Add(&frame[start], frame.size() - start);
  EXPECT_EQ(sum.Checksum(), 0);
  if (s.family == Family::kIpv6) {
    EXPECT_EQ(Load16(&frame[kEthernet + 4]), frame.size() - kEthernet - 40);
    return;
  }
  EXPECT_EQ(Load16(&frame[kEthernet + 2]), frame.size() - kEthernet);
  if (s.segment == 0) return;  // IPv4's own checksum is the stack's
  ChecksumAccumulator header;
  header.Add(&frame[kEthernet], 20);
  EXPECT_EQ(header.Checksum(), 0);
}

std::vector<std::vector<uint8_t>> Cut(const Frame& frame, uint32_t piece_bytes) {
  FrameCutter cutter(frame);
  EXPECT_TRUE(cutter.valid());
  std::vector<std::vector<uint8_t>> frames;
  for (uint32_t i = 0; i < cutter.count(); ++i) {
    const uint32_t length = i + 1 == cutter.count() ? cutter.last_length() : cutter.full_length();
    std::vector<std::vector<uint8_t>> pieces(length / piece_bytes + 1,
                                             std::vector<uint8_t>(piece_bytes));
    std::vector<uint8_t*> to;
    for (auto& piece : pieces) to.push_back(piece.data());
    cutter.WriteNext(to.data(), piece_bytes, piece_bytes);
    std::vector<uint8_t> whole;
    for (auto& piece : pieces) whole.insert(whole.end(), piece.begin(), piece.end());
    whole.resize(length);
    frames.push_back(whole);
  }
  return frames;
}

TEST(FrameCutterTest, EverySegmentHasItsHeadersItsChecksumAndItsShareOfThePayload) {
  const Shape kTable[] = {
      {Family::kIpv4, false, 60000, 1428}, {Family::kIpv6, false, 60000, 1408},
      {Family::kIpv4, true, 5000, 1001},   {Family::kIpv6, true, 5000, 999},
      {Family::kIpv4, false, 1428, 1428},  {Family::kIpv4, false, 3, 1},
      {Family::kIpv4, false, 30000, 8928}, {Family::kIpv4, false, 1001, 0},
      {Family::kIpv6, true, 1, 0},         {Family::kIpv4, false, 0, 0},
  };
  for (const Shape& s : kTable) {
    for (const uint32_t piece : {2048u, 4096u}) {
      SCOPED_TRACE(testing::Message() << s.payload << " by " << s.segment << " udp " << s.udp);
      TestCore core;
      const std::vector<uint8_t> whole = WholeFrame(s);
      Frame* frame = core.MakeFrame(whole, HeaderBytes(s));
      frame->offload = OffloadOf(s);
      std::vector<uint8_t> payload;
      uint32_t index = 0;
      const auto frames = Cut(*frame, piece);
      for (const auto& f : frames) {
        ExpectSoundChecksum(s, f);
        const uint8_t* transport = &f[kEthernet + NetworkBytes(s)];
        if (!s.udp) {
          EXPECT_EQ(Load32(transport + 4), static_cast<uint32_t>(0xffffff00u + payload.size()));
          const bool last = index + 1 == frames.size();
          EXPECT_EQ(transport[13], 0x10 | (index == 0 ? 0x80 : 0) | (last ? 0x09 : 0));
        } else if (s.segment != 0) {
          EXPECT_EQ(Load16(transport + 4), f.size() - kEthernet - NetworkBytes(s));
        }
        if (s.family == Family::kIpv4) {
          EXPECT_EQ(Load16(&f[kEthernet + 4]), static_cast<uint16_t>(0xfffe + index));
        }
        payload.insert(payload.end(), f.begin() + static_cast<long>(HeaderBytes(s)), f.end());
        ++index;
      }
      EXPECT_EQ(payload, std::vector<uint8_t>(whole.begin() + static_cast<long>(HeaderBytes(s)),
                                              whole.end()));
      core->frames.Release(frame);
    }
  }
}

// UDP small enough lies behind its header in the frame's storage, and slices may be of odd length.
TEST(FrameCutterTest, PayloadInTheStorageAndInOddSlicesIsOnePayload) {
  const Shape s{Family::kIpv4, true, 31 + 777, 100};
  TestCore core;
  const std::vector<uint8_t> whole = WholeFrame(s);
  Frame* frame = core.MakeFrame(whole, HeaderBytes(s) + 31);
  frame->offload = OffloadOf(s);
  Buffer* buffer = frame->slices[0].buffer;
  frame->slices[0].length = 5;
  frame->payload_length = 5;
  ASSERT_TRUE(frame->AddSlice(buffer, 100, 1));
  ASSERT_TRUE(frame->AddSlice(buffer, 200, 333));
  std::vector<uint8_t> expected(whole.begin() + static_cast<long>(HeaderBytes(s)),
                                whole.begin() + static_cast<long>(HeaderBytes(s)) + 31 + 5);
  expected.insert(expected.end(), buffer->bytes + 100, buffer->bytes + 101);
  expected.insert(expected.end(), buffer->bytes + 200, buffer->bytes + 533);
  // The length changed, and with it the pseudo-header's sum.
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(End(s.family, 2), End(s.family, 1), 17,
                         static_cast<uint32_t>(8 + expected.size()));
  Store16(frame->header() + kEthernet + 20 + 6, pseudo.Sum());
  std::vector<uint8_t> payload;
  for (const auto& f : Cut(*frame, 2048)) {
    ExpectSoundChecksum(s, f);
    payload.insert(payload.end(), f.begin() + static_cast<long>(HeaderBytes(s)), f.end());
  }
  EXPECT_EQ(payload, expected);
  core->frames.Release(frame);
}

TEST(FrameCutterTest, HeadersApartAndPayloadInPiecesAreTheSameFrame) {
  const Shape kTable[] = {{Family::kIpv4, false, 30000, 8928},
                          {Family::kIpv6, true, 9001, 4001},
                          {Family::kIpv4, true, 5000, 0}};
  constexpr uint32_t kPiece = 4032;
  for (const Shape& s : kTable) {
    TestCore core;
    Frame* frame = core.MakeFrame(WholeFrame(s), HeaderBytes(s));
    frame->offload = OffloadOf(s);
    const auto expected = Cut(*frame, 16384);
    FrameCutter cutter(*frame);
    ASSERT_EQ(cutter.header_bytes(), HeaderBytes(s));
    for (const auto& whole : expected) {
      std::vector<std::vector<uint8_t>> pieces(4, std::vector<uint8_t>(kPiece));
      uint8_t* to[] = {pieces[0].data(), pieces[1].data(), pieces[2].data(), pieces[3].data()};
      cutter.WriteNext(to, cutter.header_bytes(), kPiece);
      std::vector<uint8_t> seen(pieces[0].begin(), pieces[0].begin() + cutter.header_bytes());
      for (size_t i = 1; i < 4; ++i) seen.insert(seen.end(), pieces[i].begin(), pieces[i].end());
      seen.resize(whole.size());
      EXPECT_EQ(seen, whole);
    }
    core->frames.Release(frame);
  }
}

TEST(FrameCutterTest, AChecksumThatIsLeftToTheWireIsThePseudoHeadersSum) {
  const Shape kTable[] = {{Family::kIpv4, false, 30000, 1428},
                          {Family::kIpv6, true, 5000, 999},
                          {Family::kIpv4, true, 700, 0}};
  for (const Shape& s : kTable) {
    TestCore core;
    const std::vector<uint8_t> whole = WholeFrame(s);
    Frame* frame = core.MakeFrame(whole, HeaderBytes(s));
    frame->offload = OffloadOf(s);
    FrameCutter cutter(*frame, FrameCutter::Checksums::kLeave);
    std::vector<uint8_t> payload;
    for (uint32_t i = 0; i < cutter.count(); ++i) {
      std::vector<uint8_t> out(i + 1 < cutter.count() ? cutter.full_length()
                                                      : cutter.last_length());
      uint8_t* const to[] = {out.data()};
      cutter.WriteNext(to, static_cast<uint32_t>(out.size()), 0);
      const size_t start = kEthernet + NetworkBytes(s);
      ChecksumAccumulator pseudo;
      pseudo.AddPseudoHeader(End(s.family, 2), End(s.family, 1), s.udp ? 17 : 6,
                             static_cast<uint32_t>(out.size() - start));
      EXPECT_EQ(Load16(&out[start + (s.udp ? 6 : 16)]), pseudo.Sum());
      payload.insert(payload.end(), out.begin() + static_cast<long>(HeaderBytes(s)), out.end());
    }
    EXPECT_EQ(payload,
              std::vector<uint8_t>(whole.begin() + static_cast<long>(HeaderBytes(s)), whole.end()));
    core->frames.Release(frame);
  }
}

TEST(FrameCutterTest, AnOffloadThatDoesNotFitItsHeadersIsRefused) {
  const Shape s{Family::kIpv4, false, 3000, 1000};
  TestCore core;
  Frame* frame = core.MakeFrame(WholeFrame(s), HeaderBytes(s));
  const auto refused = [&](auto change) {
    frame->offload = OffloadOf(s);
    change(frame->offload);
    return !FrameCutter(*frame).valid();
  };
  EXPECT_FALSE(refused([](Offload&) {}));
  EXPECT_TRUE(refused([](Offload& o) { o.segment_size = 0; }));
  EXPECT_TRUE(refused([](Offload& o) { o.header_length = 1000; }));
  EXPECT_TRUE(refused([](Offload& o) { o.checksum_offset = 1000; }));
  EXPECT_TRUE(refused([](Offload& o) { o.checksum_start = 2; }));
  EXPECT_TRUE(refused([](Offload& o) { o.checksum_needed = false; }));
  EXPECT_TRUE(refused([](Offload& o) { o.segmentation = SegmentationType::kUdpFragment; }));
  core->frames.Release(frame);
}

Packet* PacketOf(TestCore& core, const std::vector<uint8_t>& bytes) {
  Packet* packet = core->packets.Allocate();
  Buffer* buffer = core->buffers.Allocate(BufferClass::kLarge);
  std::copy(bytes.begin(), bytes.end(), buffer->bytes);
  packet->slices[packet->slice_count++] = {buffer, 0, static_cast<uint32_t>(bytes.size())};
  packet->length = static_cast<uint32_t>(bytes.size());
  return packet;
}

TEST(ChecksumStateTest, APseudoHeaderSumAloneMeansThatTheChecksumIsNotFinished) {
  TestCore core;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    for (const bool udp : {false, true}) {
      const Shape s{family, udp, 10, 0};
      Packet* packet = PacketOf(core, WholeFrame(s));
      FindPartialChecksum(*packet, 1500);
      EXPECT_TRUE(packet->offload.checksum_needed);
      EXPECT_EQ(packet->offload.checksum_start, kEthernet + NetworkBytes(s));
      EXPECT_EQ(packet->offload.segmentation, SegmentationType::kNone);
      core->packets.Release(packet);
      // Any other value is a checksum, right or wrong.
      std::vector<uint8_t> other = WholeFrame(s);
      other[kEthernet + NetworkBytes(s) + (udp ? 7 : 17)] ^= 1;
      packet = PacketOf(core, other);
      FindPartialChecksum(*packet, 1500);
      EXPECT_FALSE(packet->offload.checksum_needed);
      core->packets.Release(packet);
    }
  }
}

TEST(ChecksumStateTest, ALongTcpSegmentIsOneThatWasNotCut) {
  TestCore core;
  const Shape s{Family::kIpv4, false, 20000, 0};
  Packet* packet = PacketOf(core, WholeFrame(s));
  FindPartialChecksum(*packet, 1500);
  EXPECT_EQ(packet->offload.segmentation, SegmentationType::kTcpV4);
  EXPECT_EQ(packet->offload.segment_size, 1500 - 20 - 32);
  EXPECT_EQ(packet->offload.header_length, HeaderBytes(s));
  core->packets.Release(packet);
}

TEST(ChecksumStateTest, NoTruncationOrDamageIsReadBeyondItsEnd) {
  TestCore core;
  uint32_t seed = 1;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const std::vector<uint8_t> whole = WholeFrame({family, false, 40, 0});
    for (size_t length = 14; length < whole.size(); ++length) {
      std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<long>(length));
      seed = seed * 1103515245 + 12345;
      part[(seed >> 8) % part.size()] ^= static_cast<uint8_t>(seed >> 16);
      Packet* packet = PacketOf(core, part);
      FindPartialChecksum(*packet, 1500);
      EXPECT_LE(packet->offload.checksum_start, length);
      core->packets.Release(packet);
    }
  }
}

TEST(XdpSpecTest, SaysEverythingThatCanStandBehindAnInterface) {
  XdpSpec spec;
  EXPECT_EQ(ParseXdpSpec("eth0,queue=3,mode=generic,copy,busy-poll,force", &spec), "");
  EXPECT_EQ(spec.interface, "eth0");
  EXPECT_EQ(spec.queue, 3);
  EXPECT_EQ(spec.mode, XdpSpec::Mode::kGeneric);
  EXPECT_EQ(spec.copies, XdpSpec::Copies::kCopy);
  EXPECT_TRUE(spec.busy_poll);
  EXPECT_TRUE(spec.force);
  spec = {};
  EXPECT_EQ(ParseXdpSpec("veth-1.2,queue=all,mode=native,zerocopy", &spec), "");
  EXPECT_EQ(spec.queue, -1);
  EXPECT_FALSE(spec.force);
}

TEST(XdpSpecTest, WhatIsWrongIsSaidWithWhatIsAccepted) {
  const struct {
    const char* text;
    const char* says;
  } kTable[] = {
      {"", "name is missing; expected xdp:IFACE"},
      {"0123456789abcdef", "too long"},
      {"a/b", "not an interface name"},
      {"eth0,", "\"\" is not known; expected xdp:IFACE"},
      {"eth0,queue=", "\"queue=\" is not known"},
      {"eth0,queue=-1", "is not known"},
      {"eth0,queue=99999", "is not known"},
      {"eth0,mode=fast", "\"mode=fast\" is not known"},
      {"eth0,Force", "\"Force\" is not known"},
      {"eth0,mode=generic,zerocopy", "generic mode cannot"},
  };
  for (const auto& row : kTable) {
    XdpSpec spec;
    const std::string problem = ParseXdpSpec(row.text, &spec);
    EXPECT_NE(problem.find(row.says), std::string::npos) << row.text << ": " << problem;
  }
}

TEST(DefaultRouteTest, IsFoundByInterfaceInTheKernelsTables) {
  const std::string v4 =
      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
      "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
      "eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
  EXPECT_TRUE(HasDefaultRouteV4(v4, "eth0"));
  EXPECT_FALSE(HasDefaultRouteV4(v4, "eth1"));
  EXPECT_FALSE(HasDefaultRouteV4("", "eth0"));
  const std::string zero(32, '0');
  const std::string v6 = zero + " 00 " + zero + " 00 fe80" + std::string(28, '0') +
                         " 00000400 00000001 00000000 00000003     eth0\n" + zero + " 00 " + zero +
                         " 00 " + zero + " ffffffff 00000001 00000000 00200200       lo\n" +
                         "fd91" + std::string(28, '0') + " 40 " + zero + " 00 " + zero +
                         " 00000100 00000001 00000000 00000001     eth1\n";
  EXPECT_TRUE(HasDefaultRouteV6(v6, "eth0"));
  EXPECT_FALSE(HasDefaultRouteV6(v6, "eth1"));
  EXPECT_FALSE(HasDefaultRouteV6(v6, "lo"));
}

}  // namespace
}  // namespace userstack::backend
