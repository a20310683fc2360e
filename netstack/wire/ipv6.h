// The IPv6 header and its extension headers (RFC 8200).
#pragma once

#include <cstdint>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/ip_address.h"
#include "netstack/wire/ipv4.h"

namespace userstack::wire {

inline constexpr uint32_t kIpv6HeaderBytes = 40;
inline constexpr uint32_t kIpv6FragmentHeaderBytes = 8;
inline constexpr uint32_t kIpv6MinimumMtu = 1280;

struct Ipv6Header {
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0;
  uint16_t payload_length = 0;
  uint8_t next_header = 0;
  uint8_t hop_limit = 0;
  IpAddress source;
  IpAddress destination;
};

[[nodiscard]] inline bool ParseIpv6Header(const uint8_t* bytes, uint32_t length,
                                          Ipv6Header* header) {
  if (length < kIpv6HeaderBytes || bytes[0] >> 4 != 6) return false;
  const uint32_t first = Load32(bytes);
  header->traffic_class = static_cast<uint8_t>(first >> 20);
  header->flow_label = first & 0xfffff;
  header->payload_length = Load16(bytes + 4);
  header->next_header = bytes[6];
  header->hop_limit = bytes[7];
  header->source = IpAddress::V6FromBytes(bytes + 8);
  header->destination = IpAddress::V6FromBytes(bytes + 24);
  return true;
}

inline void WriteIpv6Header(uint8_t* to, const Ipv6Header& header) {
  Store32(to, 0x60000000u | static_cast<uint32_t>(header.traffic_class) << 20 |
                  (header.flow_label & 0xfffff));
  Store16(to + 4, header.payload_length);
  to[6] = header.next_header;
  to[7] = header.hop_limit;
  std::memcpy(to + 8, header.source.v6_bytes(), 16);
  std::memcpy(to + 24, header.destination.v6_bytes(), 16);
}

struct Ipv6FragmentHeader {
  uint8_t next_header = 0;
  uint16_t offset = 0;  // bytes
  bool more_fragments = false;
  uint32_t identification = 0;
};

[[nodiscard]] inline bool ParseIpv6FragmentHeader(const uint8_t* bytes, uint32_t length,
                                                  Ipv6FragmentHeader* header) {
  if (length < kIpv6FragmentHeaderBytes) return false;
  header->next_header = bytes[0];
  const uint16_t field = Load16(bytes + 2);
  header->offset = static_cast<uint16_t>(field & 0xfff8);
  header->more_fragments = (field & 1) != 0;
  header->identification = Load32(bytes + 4);
  return true;
}

inline void WriteIpv6FragmentHeader(uint8_t* to, const Ipv6FragmentHeader& header) {
  to[0] = header.next_header;
  to[1] = 0;
  Store16(to + 2, static_cast<uint16_t>(header.offset | (header.more_fragments ? 1 : 0)));
  Store32(to + 4, header.identification);
}

// What the walk along extension headers came to.
struct Ipv6Chain {
  enum class End : uint8_t {
    kUpperLayer,        // `protocol` at `offset`: a transport, or kProtocolNoNext
    kFragment,          // a fragment header at `offset`
    kTruncated,         // the headers do not fit the bytes: drop silently (RFC 8200 3)
    kParameterProblem,  // answer Parameter Problem with `code`, pointing at `pointer`
    kDiscard,           // an option asks for silence
  };
  End end = End::kTruncated;
  uint8_t protocol = 0;
  uint32_t offset = 0;              // from the start of the IPv6 header
  uint32_t next_header_offset = 0;  // of the byte that names `protocol`
  uint8_t code = 0;
  uint32_t pointer = 0;
  bool report_to_multicast = false;  // the option asks for the report whatever the destination
  bool router_alert = false;
};

// Walks from `next_header` at `offset` (40, or further when a fragment header was passed). `bytes`
// is the IPv6 header, `length` the contiguous bytes from there. Hop-by-hop options are taken only
// first; routing headers with segments left are refused (type 0: RFC 5095).
Ipv6Chain WalkIpv6Extensions(const uint8_t* bytes, uint32_t length, uint8_t next_header,
                             uint32_t offset);

}  // namespace userstack::wire
