// Option values as setsockopt and getsockopt carry them: lengths that are longer than the type are
// fine, shorter ones are EINVAL or read as a byte, by option. Not part of the room's surface.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"

namespace userstack {

template <typename T>
[[nodiscard]] bool ReadValue(const void* value, socklen_t length, T* out) {
  if (length < sizeof(T) || value == nullptr) return false;
  std::memcpy(out, value, sizeof(T));
  return true;
}

template <typename T>
Status WriteValue(const T& v, void* value, socklen_t* length) {
  *length = std::min<socklen_t>(*length, sizeof v);
  std::memcpy(value, &v, *length);
  return Status::Ok();
}

// A boolean option and where it lives.
struct FlagOption {
  int name;
  bool SocketOptions::*member;
};

template <size_t n>
const FlagOption* FindFlag(const FlagOption (&table)[n], int name) {
  for (const FlagOption& flag : table) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

}  // namespace userstack
