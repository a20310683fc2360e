// ARP for IPv4 over Ethernet (RFC 826).
#pragma once

#include <cstdint>

#include "netstack/wire/ethernet.h"

namespace userstack::wire {

inline constexpr uint32_t kArpBytes = 28;

enum class ArpOperation : uint16_t { kRequest = 1, kReply = 2 };

struct ArpPacket {
  ArpOperation operation = ArpOperation::kRequest;
  MacAddress sender_mac;
  IpAddress sender;
  MacAddress target_mac;
  IpAddress target;
};

// False for anything but a request or reply that maps IPv4 to Ethernet.
[[nodiscard]] inline bool ParseArp(const uint8_t* bytes, uint32_t length, ArpPacket* packet) {
  if (length < kArpBytes) return false;
  if (Load16(bytes) != 1 || Load16(bytes + 2) != kEtherTypeIpv4) return false;
  if (bytes[4] != 6 || bytes[5] != 4) return false;
  const uint16_t operation = Load16(bytes + 6);
  if (operation != 1 && operation != 2) return false;
  packet->operation = static_cast<ArpOperation>(operation);
  packet->sender_mac = LoadMac(bytes + 8);
  packet->sender = IpAddress::V4FromBytes(bytes + 14);
  packet->target_mac = LoadMac(bytes + 18);
  packet->target = IpAddress::V4FromBytes(bytes + 24);
  return true;
}

inline void WriteArp(uint8_t* to, const ArpPacket& packet) {
  Store16(to, 1);
  Store16(to + 2, kEtherTypeIpv4);
  to[4] = 6;
  to[5] = 4;
  Store16(to + 6, static_cast<uint16_t>(packet.operation));
  StoreMac(to + 8, packet.sender_mac);
  std::memcpy(to + 14, packet.sender.v4_bytes(), 4);
  StoreMac(to + 18, packet.target_mac);
  std::memcpy(to + 24, packet.target.v4_bytes(), 4);
}

}  // namespace userstack::wire
