// Neighbour discovery messages (RFC 4861): solicitations, advertisements and their options as
// values. `bytes` is always the ICMPv6 header.
#pragma once

#include <cstdint>

#include "netstack/wire/ethernet.h"
#include "netstack/wire/icmp.h"

namespace userstack::wire {

inline constexpr uint32_t kNeighborMessageBytes = 24;  // header, flags, target
inline constexpr uint32_t kRouterSolicitationBytes = 8;
inline constexpr uint32_t kRouterAdvertisementBytes = 16;
inline constexpr uint32_t kLinkAddressOptionBytes = 8;
inline constexpr unsigned kMaxPrefixesPerAdvertisement = 8;

struct PrefixInformation {
  Prefix prefix;
  bool on_link = false;
  bool autonomous = false;
  uint32_t valid_lifetime = 0;      // seconds; ~0: infinite
  uint32_t preferred_lifetime = 0;  // seconds
};

struct NdpOptions {
  bool has_source_mac = false;
  bool has_target_mac = false;
  bool has_nonce = false;
  MacAddress source_mac;
  MacAddress target_mac;
  uint64_t nonce = 0;  // the first six bytes (RFC 7527)
  uint32_t mtu = 0;    // 0: none given
  uint8_t prefix_count = 0;
  PrefixInformation prefixes[kMaxPrefixesPerAdvertisement];
};

struct NeighborMessage {
  bool advertisement = false;
  bool router = false;     // advertisements
  bool solicited = false;  // advertisements
  bool override_flag = false;
  IpAddress target;
  NdpOptions options;
};

struct RouterAdvertisement {
  uint8_t hop_limit = 0;         // 0: unspecified
  uint16_t router_lifetime = 0;  // seconds; 0: no default router
  uint32_t reachable_time = 0;   // milliseconds; 0: unspecified
  uint32_t retransmit_timer = 0;
  int8_t preference = 0;  // RFC 4191: -1, 0, 1
  NdpOptions options;
};

// All return false when the message is malformed (an option of length zero or past the end
// included: RFC 4861 6.1.2, 7.1.1, 7.1.2). Unknown options are skipped.
[[nodiscard]] bool ParseNeighborMessage(const uint8_t* bytes, uint32_t length,
                                        NeighborMessage* message);
[[nodiscard]] bool ParseRouterAdvertisement(const uint8_t* bytes, uint32_t length,
                                            RouterAdvertisement* message);

// Writes a solicitation or advertisement with at most one link-address option (source for
// solicitations, target for advertisements); `to` has room for 24 + 8 bytes. Returns the length.
// The checksum is left 0.
uint32_t WriteNeighborMessage(uint8_t* to, const NeighborMessage& message);

// ff02::1 and ff02::2.
IpAddress AllNodesGroup();
IpAddress AllRoutersGroup();
// ff02::1:ffXX:XXXX for an address (RFC 4291 2.7.1).
IpAddress SolicitedNodeGroup(const IpAddress& address);
// fe80:: and the modified EUI-64 of `mac` (RFC 4291 appendix A).
IpAddress LinkLocalAddress(const MacAddress& mac);

}  // namespace userstack::wire
