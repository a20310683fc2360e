// Interfaces: the stack's, as the SIOCGIF* requests, getifaddrs and if_nametoindex show them.
#pragma once

#include <net/if.h>

#include <cstddef>
#include <cstdint>

#include "netstack/base/ip_address.h"
#include "shim/runtime.h"

namespace userstack::shim {

struct InterfaceView {
  static constexpr size_t kMaxAddresses = 16;
  unsigned index = 0;
  char name[IF_NAMESIZE] = {};
  unsigned flags = 0;  // IFF_*
  uint32_t mtu = 0;
  MacAddress mac;
  bool loopback = false;
  size_t address_count = 0;
  Prefix addresses[kMaxAddresses];
};
inline constexpr size_t kMaxInterfaceViews = 8;

// With the lock. Returns how many there are.
size_t ListInterfaces(Session& session, InterfaceView* out);

// SIOCGIFCONF, SIOCGIFADDR and relatives, as devinet_ioctl and dev_ioctl answer. What would change
// an interface is EPERM: the stack is configured from outside.
long InterfaceIoctl(Session& session, unsigned long request, void* argument);

// The directed broadcast address of an IPv4 prefix, and its mask; host order.
uint32_t BroadcastOf(const Prefix& prefix);
uint32_t MaskOf(const Prefix& prefix);

}  // namespace userstack::shim
