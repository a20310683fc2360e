// The Internet checksum (RFC 1071), as a running 64-bit sum that is folded once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/base/ip_address.h"

namespace userstack {

// Accumulates 16-bit words. Ranges may be added in pieces of any length; an odd piece shifts what
// follows.
class ChecksumAccumulator {
 public:
  void Add(const void* bytes, size_t length);
  // The pseudo-header of RFC 9293 3.1 (IPv4) or RFC 8200 8.1 (IPv6), by the family of `source`.
  void AddPseudoHeader(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                       uint32_t length);
  // The folded sum, not complemented, as a value whose host-order bytes are read with Store16
  // (big-endian view).
  uint16_t Sum() const;
  // The checksum field's value (complement of Sum), to be written with Store16. Over data that
  // includes a right checksum it is 0.
  uint16_t Checksum() const { return static_cast<uint16_t>(~Sum()); }

 private:
  uint64_t sum_ = 0;  // of little-endian words; byte-swapped when folded (RFC 1071 2(B))
  bool odd_ = false;
};

}  // namespace userstack
