// IpFixture: an Ip alone in its arena, driven by bytes and read by bytes, in virtual time.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "netstack/ip/ip.h"

namespace userstack::testing {

using Bytes = std::vector<uint8_t>;

// "01 02 0a" to bytes; white space is skipped.
Bytes Hex(std::string_view text);
// For messages: the bytes as hexadecimal.
std::string ToHex(const Bytes& bytes);

IpAddress V4(const char* text);
IpAddress V6(const char* text);
MacAddress Mac(const char* text);

inline const MacAddress kOurMac = {{0x02, 0, 0, 0, 0, 0x02}};
inline const MacAddress kPeerMac = {{0x02, 0, 0, 0, 0, 0x01}};

Bytes operator+(Bytes a, const Bytes& b);
// Builders: right checksums, right lengths.
Bytes Ethernet(const MacAddress& to, const MacAddress& from, uint16_t type, const Bytes& payload);
Bytes Ipv4(const char* from, const char* to, uint8_t protocol, const Bytes& payload,
           const wire::Ipv4Header& like = {});
Bytes Ipv6(const char* from, const char* to, uint8_t next_header, const Bytes& payload,
           uint8_t hop_limit = 64);
Bytes Icmp(uint8_t type, uint8_t code, uint32_t rest, const Bytes& payload);
// With the pseudo-header's checksum.
Bytes IcmpV6(const char* from, const char* to, uint8_t type, uint8_t code, uint32_t rest,
             const Bytes& payload);
Bytes Udp(uint16_t from, uint16_t to, size_t payload);  // checksum 0
Bytes Pattern(size_t size);
Bytes Arp(wire::ArpOperation operation, const MacAddress& sender_mac, const char* sender,
          const MacAddress& target_mac, const char* target);

class IpFixture : public ::testing::Test {
 protected:
  static constexpr size_t kArenaBytes = size_t{96} << 20;

  IpFixture();
  ~IpFixture() override;

  // The wire with 10.0.0.2/24 and fd00::2/64, default routes by .1 and ::1, and both peers known;
  // what that sent is discarded.
  void Configure(const DeviceCapabilities& device = DefaultDevice());
  void ConfigureBare(const DeviceCapabilities& device = DefaultDevice());
  static DeviceCapabilities DefaultDevice();
  // Both peers answer their solicitation.
  void LearnPeers();

  // A frame with `header_bytes` in storage and `payload` in slices of at most `slice` bytes.
  Frame* MakeFrame(const Bytes& header, const Bytes& payload, uint32_t slice = 1000);
  Status Send(Frame* frame, const char* destination, const SendOptions& options);
  Status SendUdp(const char* destination, size_t payload, SendOptions options = {});

  // Hands a frame in; `delivered_` holds the packet when the verdict leaves it to us.
  IpVerdict Receive(const Bytes& frame, uint32_t slice = 2000);
  IpVerdict Receive4(const Bytes& packet);  // IPv4 from the peer
  IpVerdict Receive6(const Bytes& packet);
  // The bytes from data() on of the packet that was delivered last.
  Bytes Delivered() const;
  void DropDelivered();

  // Frames queued on the wire, oldest first; they are released.
  std::vector<Bytes> Output();
  // The same without ARP, MLD, IGMP, and neighbour discovery.
  std::vector<Bytes> DataOutput();
  // Runs looped packets through Input; returns the verdicts of those that were not consumed.
  std::vector<IpVerdict> RunLooped();
  // Runs timers up to now + d.
  void Advance(Duration d);
  uint64_t Count(Counter counter) const { return core_->counters.Get(counter); }

  void* memory_;  // from calloc: untouched pages cost nothing
  Core* core_ = nullptr;
  Ip* ip_ = nullptr;
  Instant now_ = Instant{} + Duration::Seconds(1000);
  Packet* delivered_ = nullptr;
};

// Parsed views of one output frame, for expectations.
uint16_t EtherType(const Bytes& frame);
wire::Ipv4Header Ipv4Of(const Bytes& frame);
wire::Ipv6Header Ipv6Of(const Bytes& frame);
wire::ArpPacket ArpOf(const Bytes& frame);
// The bytes behind the IPv4 or (fixed) IPv6 header.
Bytes PayloadOf(const Bytes& frame);
MacAddress DestinationOf(const Bytes& frame);

}  // namespace userstack::testing
