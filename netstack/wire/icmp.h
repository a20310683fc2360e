// ICMP (RFC 792, 1122, 1191), ICMPv6 (RFC 4443), IGMP (RFC 2236, 3376) and MLD (RFC 2710, 3810):
// types, codes and the fixed eight bytes that ICMP messages begin with.
#pragma once

#include <cstdint>

#include "netstack/base/byte_order.h"

namespace userstack::wire {

inline constexpr uint32_t kIcmpHeaderBytes = 8;

enum IcmpType : uint8_t {
  kIcmpEchoReply = 0,
  kIcmpUnreachable = 3,
  kIcmpSourceQuench = 4,
  kIcmpRedirect = 5,
  kIcmpEcho = 8,
  kIcmpTimeExceeded = 11,
  kIcmpParameterProblem = 12,
};

enum IcmpUnreachableCode : uint8_t {
  kIcmpNetUnreachable = 0,
  kIcmpHostUnreachable = 1,
  kIcmpProtocolUnreachable = 2,
  kIcmpPortUnreachable = 3,
  kIcmpFragmentationNeeded = 4,
  kIcmpSourceRouteFailed = 5,
};

enum IcmpV6Type : uint8_t {
  kIcmpV6Unreachable = 1,
  kIcmpV6PacketTooBig = 2,
  kIcmpV6TimeExceeded = 3,
  kIcmpV6ParameterProblem = 4,
  kIcmpV6Echo = 128,
  kIcmpV6EchoReply = 129,
  kIcmpV6MldQuery = 130,
  kIcmpV6MldReport = 131,
  kIcmpV6MldDone = 132,
  kIcmpV6RouterSolicitation = 133,
  kIcmpV6RouterAdvertisement = 134,
  kIcmpV6NeighborSolicitation = 135,
  kIcmpV6NeighborAdvertisement = 136,
  kIcmpV6Redirect = 137,
  kIcmpV6Mld2Report = 143,
};

enum IcmpV6UnreachableCode : uint8_t {
  kIcmpV6NoRoute = 0,
  kIcmpV6Prohibited = 1,
  kIcmpV6BeyondScope = 2,
  kIcmpV6AddressUnreachable = 3,
  kIcmpV6PortUnreachable = 4,
};

enum IcmpTimeExceededCode : uint8_t { kTimeExceededInTransit = 0, kTimeExceededReassembly = 1 };

enum IcmpV6ParameterCode : uint8_t {
  kIcmpV6ErroneousField = 0,
  kIcmpV6UnknownNextHeader = 1,
  kIcmpV6UnknownOption = 2,
  kIcmpV6IncompleteChain = 3,  // RFC 7112 5
};

struct IcmpHeader {
  uint8_t type = 0;
  uint8_t code = 0;
  uint16_t checksum = 0;
  uint32_t rest = 0;  // identifier and sequence, MTU, pointer: by type
};

[[nodiscard]] inline bool ParseIcmpHeader(const uint8_t* bytes, uint32_t length,
                                          IcmpHeader* header) {
  if (length < kIcmpHeaderBytes) return false;
  *header = {bytes[0], bytes[1], Load16(bytes + 2), Load32(bytes + 4)};
  return true;
}

inline void WriteIcmpHeader(uint8_t* to, const IcmpHeader& header) {
  to[0] = header.type;
  to[1] = header.code;
  Store16(to + 2, header.checksum);
  Store32(to + 4, header.rest);
}

// ICMPv6 types below 128 are errors (RFC 4443 2.1). ICMPv4: unknown types count as errors, so that
// nothing is ever answered with an error to them.
constexpr bool IsIcmpV6Error(uint8_t type) { return type < 128; }
constexpr bool IsIcmpV4Query(uint8_t type) {
  return type == kIcmpEcho || type == kIcmpEchoReply || type == 13 || type == 14;
}

enum IgmpType : uint8_t {
  kIgmpQuery = 0x11,
  kIgmpV1Report = 0x12,
  kIgmpV2Report = 0x16,
  kIgmpV2Leave = 0x17,
  kIgmpV3Report = 0x22,
};
inline constexpr uint32_t kIgmpBytes = 8;
inline constexpr uint32_t kIgmpV3QueryBytes = 12;
inline constexpr uint32_t kMldBytes = 24;
inline constexpr uint32_t kMld2QueryBytes = 28;

// Group record types of IGMPv3 and MLDv2 reports (RFC 3376 4.2.12).
enum GroupRecordType : uint8_t {
  kModeIsExclude = 2,
  kChangeToInclude = 3,
  kChangeToExclude = 4,
};

}  // namespace userstack::wire
