// The IPv4 header (RFC 791) as a value, and its options as a list to walk.
#pragma once

#include <cstdint>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/ip_address.h"

namespace userstack::wire {

inline constexpr uint32_t kIpv4HeaderBytes = 20;
inline constexpr uint32_t kIpv4MaxHeaderBytes = 60;
inline constexpr uint32_t kIpv4MinimumMtu = 68;          // RFC 791
inline constexpr uint32_t kIpv4ReassemblyMinimum = 576;  // what every host takes

enum IpProtocol : uint8_t {
  kProtocolHopByHop = 0,
  kProtocolIcmp = 1,
  kProtocolIgmp = 2,
  kProtocolTcp = 6,
  kProtocolUdp = 17,
  kProtocolRouting = 43,
  kProtocolFragment = 44,
  kProtocolEsp = 50,
  kProtocolAuthentication = 51,
  kProtocolIcmpV6 = 58,
  kProtocolNoNext = 59,
  kProtocolDestinationOptions = 60,
};

struct Ipv4Header {
  uint8_t header_length = kIpv4HeaderBytes;  // bytes, options included
  uint8_t tos = 0;                           // DSCP and ECN
  uint16_t total_length = 0;
  uint16_t identification = 0;
  bool dont_fragment = false;
  bool more_fragments = false;
  uint16_t fragment_offset = 0;  // bytes
  uint8_t ttl = 0;
  uint8_t protocol = 0;
  uint16_t checksum = 0;
  IpAddress source{};
  IpAddress destination{};

  bool is_fragment() const { return more_fragments || fragment_offset != 0; }
};

// False when `length` bytes do not hold a whole IPv4 header with its options, or a field of it
// contradicts another. The checksum is the caller's business, and so is total_length > what came.
[[nodiscard]] inline bool ParseIpv4Header(const uint8_t* bytes, uint32_t length,
                                          Ipv4Header* header) {
  if (length < kIpv4HeaderBytes || bytes[0] >> 4 != 4) return false;
  const uint32_t header_length = (bytes[0] & 0xf) * 4u;
  if (header_length < kIpv4HeaderBytes || header_length > length) return false;
  header->header_length = static_cast<uint8_t>(header_length);
  header->tos = bytes[1];
  header->total_length = Load16(bytes + 2);
  if (header->total_length < header_length) return false;
  header->identification = Load16(bytes + 4);
  const uint16_t fragment = Load16(bytes + 6);
  header->dont_fragment = (fragment & 0x4000) != 0;
  header->more_fragments = (fragment & 0x2000) != 0;
  header->fragment_offset = static_cast<uint16_t>((fragment & 0x1fff) * 8);
  header->ttl = bytes[8];
  header->protocol = bytes[9];
  header->checksum = Load16(bytes + 10);
  header->source = IpAddress::V4FromBytes(bytes + 12);
  header->destination = IpAddress::V4FromBytes(bytes + 16);
  return true;
}

// Writes the fixed 20 bytes with `header.checksum` as it is.
inline void WriteIpv4Header(uint8_t* to, const Ipv4Header& header) {
  to[0] = static_cast<uint8_t>(0x40 | header.header_length / 4);
  to[1] = header.tos;
  Store16(to + 2, header.total_length);
  Store16(to + 4, header.identification);
  Store16(to + 6,
          static_cast<uint16_t>((header.dont_fragment ? 0x4000 : 0) |
                                (header.more_fragments ? 0x2000 : 0) | header.fragment_offset / 8));
  to[8] = header.ttl;
  to[9] = header.protocol;
  Store16(to + 10, header.checksum);
  std::memcpy(to + 12, header.source.v4_bytes(), 4);
  std::memcpy(to + 16, header.destination.v4_bytes(), 4);
}

enum Ipv4Option : uint8_t {
  kIpv4OptionEnd = 0,
  kIpv4OptionNop = 1,
  kIpv4OptionLooseRoute = 131,
  kIpv4OptionStrictRoute = 137,
  kIpv4OptionRouterAlert = 148,
};

enum class Ipv4OptionsVerdict : uint8_t { kTolerated, kMalformed, kSourceRoute };
// Walks the options of a header (`length` bytes after the fixed 20). Everything is tolerated and
// nothing is acted on, except that source routes are told apart: they are refused, as by Linux's
// default accept_source_route = 0.
Ipv4OptionsVerdict InspectIpv4Options(const uint8_t* bytes, uint32_t length);

}  // namespace userstack::wire
