// Ethernet II framing (RFC 894, RFC 2464), and the mapping of multicast groups to link addresses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/ip_address.h"

namespace userstack::wire {

inline constexpr uint32_t kEthernetHeaderBytes = 14;
inline constexpr uint16_t kEtherTypeIpv4 = 0x0800;
inline constexpr uint16_t kEtherTypeArp = 0x0806;
inline constexpr uint16_t kEtherTypeIpv6 = 0x86dd;

struct EthernetHeader {
  MacAddress destination;
  MacAddress source;
  uint16_t type = 0;
};

inline MacAddress LoadMac(const uint8_t* p) {
  MacAddress mac;
  std::copy_n(p, 6, mac.bytes.begin());
  return mac;
}
inline void StoreMac(uint8_t* p, const MacAddress& mac) { std::copy_n(mac.bytes.begin(), 6, p); }

[[nodiscard]] inline bool ParseEthernetHeader(const uint8_t* bytes, uint32_t length,
                                              EthernetHeader* header) {
  if (length < kEthernetHeaderBytes) return false;
  header->destination = LoadMac(bytes);
  header->source = LoadMac(bytes + 6);
  header->type = Load16(bytes + 12);
  return true;
}

inline void WriteEthernetHeader(uint8_t* to, const EthernetHeader& header) {
  StoreMac(to, header.destination);
  StoreMac(to + 6, header.source);
  Store16(to + 12, header.type);
}

// RFC 1112 6.4: 01-00-5e and the low 23 bits. RFC 2464 7: 33-33 and the low 32 bits.
inline MacAddress MulticastMac(const IpAddress& group) {
  MacAddress mac;
  if (group.is_v4()) {
    const uint8_t* g = group.v4_bytes();
    mac.bytes = {0x01, 0x00, 0x5e, static_cast<uint8_t>(g[1] & 0x7f), g[2], g[3]};
  } else {
    const uint8_t* g = group.v6_bytes();
    mac.bytes = {0x33, 0x33, g[12], g[13], g[14], g[15]};
  }
  return mac;
}

}  // namespace userstack::wire
