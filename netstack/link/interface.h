// Interface: one attachment of the stack, "lo" or a wire. Plain data that link and ip share.
//
// Owner: Ip; the stack's lock. Invariant: index is its place in Ip's table, 0 while unused.
#pragma once

#include <cstdint>

#include "netstack/base/ip_address.h"
#include "netstack/base/time.h"
#include "netstack/device/device.h"
#include "netstack/link/output_queue.h"
#include "netstack/timer/timer.h"

namespace userstack {

inline constexpr unsigned kInterfaceNameBytes = 16;  // IFNAMSIZ

struct Interface {
  uint16_t index = 0;
  bool loopback = false;
  char name[kInterfaceNameBytes] = {};
  DeviceCapabilities device;
  uint32_t mtu = 0;       // largest IPv4 packet
  uint32_t mtu_v6 = 0;    // largest IPv6 packet: the device's, or less by a router's word
  uint8_t hop_limit = 0;  // of a router advertisement; 0: none given
  bool has_v6 = false;    // an IPv6 address was ever added

  // Neighbour unreachability detection (RFC 4861 6.3.2); a router may change them.
  Duration reachable_time = Duration::Seconds(30);
  Duration retransmit_time = Duration::Seconds(1);

  uint8_t router_solicitations_left = 0;
  Timer router_timer{TimerKind::kRouterSolicit};

  // The oldest versions of IGMP and MLD that a querier on this link speaks, and until when that is
  // believed (RFC 3376 7.2.1).
  uint8_t igmp_version = 3;
  uint8_t mld_version = 2;
  Instant igmp_version_until;
  Instant mld_version_until;

  OutputQueue output;
};

}  // namespace userstack
