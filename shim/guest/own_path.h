// Own path: the names by which a program finds its own file. General registers only.
#pragma once

#include <cstdint>

namespace userstack::shim::guest {

// "/proc/self/exe" or "/proc/thread-self/exe", at an address that a guest gave.
inline bool IsOwnPath(long address) {
  constexpr long kLowestAddress = 4096;
  if (address >= 0 && address < kLowestAddress) return false;
  const auto* path = reinterpret_cast<const char*>(address);
  const auto matches = [path](const char* name) {
    for (const char* at = path;; ++at, ++name) {
      if (*at != *name) return false;
      if (*name == '\0') return true;
    }
  };
  return matches("/proc/self/exe") || matches("/proc/thread-self/exe");
}

}  // namespace userstack::shim::guest
