// The UDP header (RFC 768) as a value. Nothing here reads beyond the length it is given.
#pragma once

#include <cstdint>

#include "netstack/base/byte_order.h"

namespace userstack::wire {

inline constexpr uint32_t kUdpHeaderBytes = 8;
inline constexpr uint32_t kUdpChecksumOffset = 6;

struct UdpHeader {
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint16_t length = 0;    // header and payload
  uint16_t checksum = 0;  // 0: none (IPv4 only)
};

// False when `length` bytes (of the whole IP payload) are no datagram: too short, or the length
// field says less than a header or more than there is.
[[nodiscard]] inline bool ParseUdpHeader(const uint8_t* bytes, uint32_t contiguous, uint32_t length,
                                         UdpHeader* header) {
  if (contiguous < kUdpHeaderBytes || length < kUdpHeaderBytes) return false;
  header->source_port = Load16(bytes);
  header->destination_port = Load16(bytes + 2);
  header->length = Load16(bytes + 4);
  header->checksum = Load16(bytes + 6);
  return header->length >= kUdpHeaderBytes && header->length <= length;
}

inline void WriteUdpHeader(uint8_t* to, const UdpHeader& header) {
  Store16(to, header.source_port);
  Store16(to + 2, header.destination_port);
  Store16(to + 4, header.length);
  Store16(to + 6, header.checksum);
}

}  // namespace userstack::wire
