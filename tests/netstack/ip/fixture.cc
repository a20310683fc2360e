#include "tests/netstack/ip/fixture.h"

#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <new>

namespace userstack::testing {

Bytes Hex(std::string_view text) {
  Bytes bytes;
  int high = -1;
  for (char c : text) {
    if (c == ' ' || c == '\n') continue;
    const int digit = c >= 'a' ? c - 'a' + 10 : c - '0';
    if (high < 0) {
      high = digit;
    } else {
      bytes.push_back(static_cast<uint8_t>(high << 4 | digit));
      high = -1;
    }
  }
  return bytes;
}

std::string ToHex(const Bytes& bytes) {
  std::string text;
  char two[4];
  for (uint8_t b : bytes) {
    std::snprintf(two, sizeof two, "%02x ", b);
    text += two;
  }
  return text;
}

IpAddress V4(const char* text) {
  uint8_t bytes[4];
  EXPECT_EQ(inet_pton(AF_INET, text, bytes), 1) << text;
  return IpAddress::V4FromBytes(bytes);
}

IpAddress V6(const char* text) {
  uint8_t bytes[16];
  EXPECT_EQ(inet_pton(AF_INET6, text, bytes), 1) << text;
  return IpAddress::V6FromBytes(bytes);
}

MacAddress Mac(const char* text) {
  MacAddress mac;
  unsigned b[6];
  EXPECT_EQ(std::sscanf(text, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]), 6);
  for (int i = 0; i < 6; ++i) mac.bytes[i] = static_cast<uint8_t>(b[i]);
  return mac;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Bytes Ethernet(const MacAddress& to, const MacAddress& from, uint16_t type, const Bytes& payload) {
  Bytes header(wire::kEthernetHeaderBytes);
  wire::WriteEthernetHeader(header.data(), {to, from, type});
  return header + payload;
}

Bytes Ipv4(const char* from, const char* to, uint8_t protocol, const Bytes& payload,
           const wire::Ipv4Header& like) {
  wire::Ipv4Header header = like;
  header.protocol = protocol;
  header.source = V4(from);
  header.destination = V4(to);
  if (header.ttl == 0) header.ttl = 64;
  header.total_length = static_cast<uint16_t>(header.header_length + payload.size());
  Bytes bytes(header.header_length);
  wire::WriteIpv4Header(bytes.data(), header);
  ChecksumAccumulator sum;
  sum.Add(bytes.data(), bytes.size());
  Store16(bytes.data() + 10, sum.Checksum());
  return bytes + payload;
}

Bytes Ipv6(const char* from, const char* to, uint8_t next_header, const Bytes& payload,
           uint8_t hop_limit) {
  wire::Ipv6Header header;
  header.next_header = next_header;
  header.hop_limit = hop_limit;
  header.payload_length = static_cast<uint16_t>(payload.size());
  header.source = V6(from);
  header.destination = V6(to);
  Bytes bytes(wire::kIpv6HeaderBytes);
  wire::WriteIpv6Header(bytes.data(), header);
  return bytes + payload;
}

Bytes Icmp(uint8_t type, uint8_t code, uint32_t rest, const Bytes& payload) {
  Bytes bytes(wire::kIcmpHeaderBytes);
  wire::WriteIcmpHeader(bytes.data(), {type, code, 0, rest});
  bytes = bytes + payload;
  ChecksumAccumulator sum;
  sum.Add(bytes.data(), bytes.size());
  Store16(bytes.data() + 2, sum.Checksum());
  return bytes;
}

Bytes IcmpV6(const char* from, const char* to, uint8_t type, uint8_t code, uint32_t rest,
             const Bytes& payload) {
  Bytes bytes(wire::kIcmpHeaderBytes);
  wire::WriteIcmpHeader(bytes.data(), {type, code, 0, rest});
  bytes = bytes + payload;
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(V6(from), V6(to), wire::kProtocolIcmpV6, static_cast<uint32_t>(bytes.size()));
  sum.Add(bytes.data(), bytes.size());
  Store16(bytes.data() + 2, sum.Checksum());
  return bytes;
}

Bytes Udp(uint16_t from, uint16_t to, size_t payload) {
  Bytes bytes(8);
  Store16(bytes.data(), from);
  Store16(bytes.data() + 2, to);
  Store16(bytes.data() + 4, static_cast<uint16_t>(8 + payload));
  return bytes + Pattern(payload);
}

Bytes Pattern(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + (i >> 8));
  return bytes;
}

Bytes Arp(wire::ArpOperation operation, const MacAddress& sender_mac, const char* sender,
          const MacAddress& target_mac, const char* target) {
  Bytes bytes(wire::kArpBytes);
  wire::WriteArp(bytes.data(), {operation, sender_mac, V4(sender), target_mac, V4(target)});
  return bytes;
}

IpFixture::IpFixture() : memory_(std::calloc(1, kArenaBytes + 4096)) {
  auto* base =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(memory_) + 4095) & ~uintptr_t{4095});
  Arena* arena = Arena::Format(base, kArenaBytes);
  core_ = new (arena->Allocate(sizeof(Core), alignof(Core))) Core;
  core_->arena = arena;
  core_->buffers.Initialize(arena, 16u << 20, 32u << 20);
  core_->packets.Initialize(arena, &core_->buffers, 8192);
  core_->frames.Initialize(arena, &core_->buffers, 8192);
  core_->timers.Initialize(now_);
  core_->random = Random(1);
  core_->hash_key = {1, 2};
  ip_ = new (arena->Allocate(sizeof(Ip), alignof(Ip))) Ip;
  EXPECT_TRUE(ip_->Initialize(core_, now_));
}

IpFixture::~IpFixture() {
  ip_->CheckInvariants();
  DropDelivered();
  Output();
  while (Packet* p = ip_->NextLooped()) core_->packets.Release(p);
  EXPECT_EQ(core_->packets.live(), 0u) << "packets leak";
  std::free(memory_);
}

DeviceCapabilities IpFixture::DefaultDevice() {
  DeviceCapabilities device;
  device.mac = kOurMac;
  device.mtu = 1500;
  return device;
}

void IpFixture::ConfigureBare(const DeviceCapabilities& device) {
  EXPECT_TRUE(ip_->AddInterface(kWireInterface, "eth0", device).ok());
  EXPECT_TRUE(ip_->AddAddress(kWireInterface, {V4("10.0.0.2"), 24}, now_).ok());
  EXPECT_TRUE(ip_->AddAddress(kWireInterface, {V6("fd00::2"), 64}, now_).ok());
  EXPECT_TRUE(ip_->AddRoute({V4("0.0.0.0"), 0}, V4("10.0.0.1"), kWireInterface, 0).ok());
  EXPECT_TRUE(ip_->AddRoute({V6("::"), 0}, V6("fd00::1"), kWireInterface, 0).ok());
}

void IpFixture::Configure(const DeviceCapabilities& device) {
  ConfigureBare(device);
  Advance(Duration::Seconds(20));  // detection, announcements and router solicitations are over
  LearnPeers();
  Output();
}

void IpFixture::LearnPeers() {
  (void)SendUdp("10.0.0.1", 1);
  (void)SendUdp("fd00::1", 1);
  Receive(Ethernet(kOurMac, kPeerMac, wire::kEtherTypeArp,
                   Arp(wire::ArpOperation::kReply, kPeerMac, "10.0.0.1", kOurMac, "10.0.0.2")));
  Bytes body(16 + 8);
  std::memcpy(body.data(), V6("fd00::1").v6_bytes(), 16);
  body[16] = 2;
  body[17] = 1;
  wire::StoreMac(body.data() + 18, kPeerMac);
  Receive6(Ipv6(
      "fd00::1", "fd00::2", wire::kProtocolIcmpV6,
      IcmpV6("fd00::1", "fd00::2", wire::kIcmpV6NeighborAdvertisement, 0, 0x60000000, body), 255));
}

Frame* IpFixture::MakeFrame(const Bytes& header, const Bytes& payload, uint32_t slice) {
  Frame* frame = core_->frames.Allocate();
  std::memcpy(frame->Append(static_cast<uint16_t>(header.size())), header.data(), header.size());
  for (size_t at = 0; at < payload.size();) {
    const auto n = static_cast<uint32_t>(std::min<size_t>(slice, payload.size() - at));
    const bool large = n > kSmallBufferBytes;
    Buffer* buffer = core_->buffers.Allocate(large ? BufferClass::kLarge : BufferClass::kSmall);
    std::memcpy(buffer->bytes, payload.data() + at, n);
    EXPECT_TRUE(frame->AddSlice(buffer, 0, n));
    core_->buffers.Release(buffer);
    at += n;
  }
  return frame;
}

Status IpFixture::Send(Frame* frame, const char* destination, const SendOptions& options) {
  const bool v6 = std::string_view(destination).find(':') != std::string_view::npos;
  const IpAddress to = v6 ? V6(destination) : V4(destination);
  const Result<Route> route = ip_->FindRoute(IpAddress::Any(to.family()), to, 0);
  if (!route.ok()) {
    core_->frames.Release(frame);
    return route.status();
  }
  return ip_->Send(frame, *route, route.value().source, to, options, now_);
}

Status IpFixture::SendUdp(const char* destination, size_t payload, SendOptions options) {
  options.protocol = wire::kProtocolUdp;
  const Bytes udp = Udp(1000, 2000, payload);
  return Send(MakeFrame({udp.begin(), udp.begin() + 8}, {udp.begin() + 8, udp.end()}, 4096),
              destination, options);
}

IpVerdict IpFixture::Receive(const Bytes& frame, uint32_t slice) {
  DropDelivered();
  Packet* packet = core_->packets.Allocate();
  for (size_t at = 0; at < frame.size();) {
    const auto n = static_cast<uint32_t>(std::min<size_t>(slice, frame.size() - at));
    Buffer* buffer =
        core_->buffers.Allocate(n > kSmallBufferBytes ? BufferClass::kLarge : BufferClass::kSmall);
    std::memcpy(buffer->bytes, frame.data() + at, n);
    packet->slices[packet->slice_count++] = {buffer, 0, n};
    at += n;
  }
  packet->length = static_cast<uint32_t>(frame.size());
  packet->arrival = now_;
  packet->ip.interface = kWireInterface;
  const IpVerdict verdict = ip_->Input(packet, now_);
  if (verdict != IpVerdict::kConsumed) delivered_ = packet;
  ip_->CheckInvariants();
  return verdict;
}

IpVerdict IpFixture::Receive4(const Bytes& packet) {
  return Receive(Ethernet(kOurMac, kPeerMac, wire::kEtherTypeIpv4, packet));
}

IpVerdict IpFixture::Receive6(const Bytes& packet) {
  return Receive(Ethernet(kOurMac, kPeerMac, wire::kEtherTypeIpv6, packet));
}

Bytes IpFixture::Delivered() const {
  if (delivered_ == nullptr) return {};
  Bytes bytes(delivered_->length);
  PacketPool::Copy(*delivered_, 0, bytes.data(), delivered_->length);
  return bytes;
}

void IpFixture::DropDelivered() {
  if (delivered_ != nullptr) core_->packets.Release(delivered_);
  delivered_ = nullptr;
}

std::vector<Bytes> IpFixture::Output() {
  std::vector<Bytes> frames;
  while (Frame* frame = ip_->NextFrame(kWireInterface)) {
    Bytes bytes(frame->header(), frame->header() + frame->header_length());
    for (unsigned i = 0; i < frame->slice_count; ++i) {
      const Slice& s = frame->slices[i];
      bytes.insert(bytes.end(), s.data(), s.data() + s.length);
    }
    frames.push_back(bytes);
    core_->frames.Release(frame);
  }
  return frames;
}

std::vector<Bytes> IpFixture::DataOutput() {
  std::vector<Bytes> data;
  for (const Bytes& frame : Output()) {
    if (EtherType(frame) == wire::kEtherTypeArp) continue;
    if (EtherType(frame) == wire::kEtherTypeIpv4 && Ipv4Of(frame).protocol == wire::kProtocolIgmp) {
      continue;
    }
    if (EtherType(frame) == wire::kEtherTypeIpv6) {
      const wire::Ipv6Header header = Ipv6Of(frame);
      if (header.next_header == wire::kProtocolHopByHop || header.hop_limit == 255) continue;
    }
    data.push_back(frame);
  }
  return data;
}

std::vector<IpVerdict> IpFixture::RunLooped() {
  std::vector<IpVerdict> verdicts;
  while (Packet* packet = ip_->NextLooped()) {
    DropDelivered();
    const IpVerdict verdict = ip_->Input(packet, now_);
    if (verdict == IpVerdict::kConsumed) continue;
    delivered_ = packet;
    verdicts.push_back(verdict);
  }
  return verdicts;
}

void IpFixture::Advance(Duration d) {
  const Instant until = now_ + d;
  for (;;) {
    const Instant next = core_->timers.NextDeadline();
    if (next > until) break;
    now_ = std::max(now_, next);
    while (Timer* timer = core_->timers.PopExpired(now_)) ip_->OnTimer(timer, now_);
    ip_->CheckInvariants();
  }
  now_ = until;
  while (Timer* timer = core_->timers.PopExpired(now_)) ip_->OnTimer(timer, now_);
}

uint16_t EtherType(const Bytes& frame) { return Load16(frame.data() + 12); }

wire::Ipv4Header Ipv4Of(const Bytes& frame) {
  wire::Ipv4Header header;
  EXPECT_EQ(EtherType(frame), wire::kEtherTypeIpv4);
  EXPECT_TRUE(
      wire::ParseIpv4Header(frame.data() + 14, static_cast<uint32_t>(frame.size() - 14), &header));
  ChecksumAccumulator sum;
  sum.Add(frame.data() + 14, header.header_length);
  EXPECT_EQ(sum.Checksum(), 0) << "header checksum";
  EXPECT_EQ(header.total_length, frame.size() - 14);
  return header;
}

wire::Ipv6Header Ipv6Of(const Bytes& frame) {
  wire::Ipv6Header header;
  EXPECT_EQ(EtherType(frame), wire::kEtherTypeIpv6);
  EXPECT_TRUE(
      wire::ParseIpv6Header(frame.data() + 14, static_cast<uint32_t>(frame.size() - 14), &header));
  EXPECT_EQ(header.payload_length + 54u, frame.size());
  return header;
}

wire::ArpPacket ArpOf(const Bytes& frame) {
  wire::ArpPacket arp;
  EXPECT_EQ(EtherType(frame), wire::kEtherTypeArp);
  EXPECT_TRUE(wire::ParseArp(frame.data() + 14, static_cast<uint32_t>(frame.size() - 14), &arp));
  return arp;
}

Bytes PayloadOf(const Bytes& frame) {
  const size_t header =
      EtherType(frame) == wire::kEtherTypeIpv4 ? Ipv4Of(frame).header_length : size_t{40};
  return {frame.begin() + 14 + static_cast<long>(header), frame.end()};
}

MacAddress DestinationOf(const Bytes& frame) { return wire::LoadMac(frame.data()); }

}  // namespace userstack::testing
