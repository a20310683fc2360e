// Which interface the machine's own traffic leaves by.
#pragma once

#include <string>

namespace userstack::backend {

// True when a default route of the kernel's (IPv4 or IPv6) uses the interface. What cannot be read
// counts as none.
bool HasDefaultRoute(const std::string& interface);

// The same from the text of /proc/net/route or /proc/net/ipv6_route.
bool HasDefaultRouteV4(const std::string& table, const std::string& interface);
bool HasDefaultRouteV6(const std::string& table, const std::string& interface);

}  // namespace userstack::backend
