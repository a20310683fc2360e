// Questions about an interface of this network namespace (netdevice(7)): what an ioctl is given,
// and what a driver answers.
#pragma once

#include <linux/if.h>
#include <linux/sockios.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "backend/system_call.h"

namespace userstack::backend {

// For an interface that is named; flags are the last two bytes of many a request.
inline ifreq RequestFor(const std::string& interface, int flags = 0) {
  ifreq request{};
  std::memcpy(request.ifr_name, interface.data(), std::min(interface.size(), size_t{IFNAMSIZ - 1}));
  request.ifr_flags = static_cast<short>(flags);
  return request;
}

// One of ethtool's structures, its `cmd` set, which the driver fills in. `socket` is any.
template <typename Command>
bool AskDriver(int socket, const std::string& interface, Command* command) {
  ifreq request = RequestFor(interface);
  request.ifr_data = reinterpret_cast<char*>(command);
  return KernelIoctl(socket, SIOCETHTOOL, &request) >= 0;
}

}  // namespace userstack::backend
