#include "netstack/wire/ipv4.h"

namespace userstack::wire {

Ipv4OptionsVerdict InspectIpv4Options(const uint8_t* bytes, uint32_t length) {
  uint32_t at = 0;
  while (at < length) {
    const uint8_t kind = bytes[at];
    if (kind == kIpv4OptionEnd) break;
    if (kind == kIpv4OptionNop) {
      ++at;
      continue;
    }
    if (length - at < 2) return Ipv4OptionsVerdict::kMalformed;
    const uint8_t size = bytes[at + 1];
    if (size < 2 || size > length - at) return Ipv4OptionsVerdict::kMalformed;
    if (kind == kIpv4OptionLooseRoute || kind == kIpv4OptionStrictRoute) {
      return Ipv4OptionsVerdict::kSourceRoute;
    }
    at += size;
  }
  return Ipv4OptionsVerdict::kTolerated;
}

}  // namespace userstack::wire
