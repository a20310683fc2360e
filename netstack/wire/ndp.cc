#include "netstack/wire/ndp.h"

#include <algorithm>

namespace userstack::wire {
namespace {

enum OptionType : uint8_t {
  kSourceLinkAddress = 1,
  kTargetLinkAddress = 2,
  kPrefixInformation = 3,
  kMtu = 5,
  kNonce = 14,
};

void ParsePrefix(const uint8_t* p, NdpOptions* options) {
  if (options->prefix_count == kMaxPrefixesPerAdvertisement || p[2] > 128) return;
  // An IPv4-mapped prefix would pass for IPv4 further on; it means nothing on a wire.
  const IpAddress address = IpAddress::V6FromBytes(p + 16);
  if (address.is_v4()) return;
  PrefixInformation& out = options->prefixes[options->prefix_count++];
  out.prefix = {address, p[2]};
  out.on_link = (p[3] & 0x80) != 0;
  out.autonomous = (p[3] & 0x40) != 0;
  out.valid_lifetime = Load32(p + 4);
  out.preferred_lifetime = Load32(p + 8);
}

void ParseOption(const uint8_t* p, uint32_t size, NdpOptions* options) {
  switch (p[0]) {
    case kSourceLinkAddress:
      if (size != 8) return;
      options->has_source_mac = true;
      options->source_mac = LoadMac(p + 2);
      return;
    case kTargetLinkAddress:
      if (size != 8) return;
      options->has_target_mac = true;
      options->target_mac = LoadMac(p + 2);
      return;
    case kPrefixInformation:
      if (size == 32) ParsePrefix(p, options);
      return;
    case kMtu:
      if (size == 8) options->mtu = Load32(p + 4);
      return;
    case kNonce:
      options->has_nonce = true;
      options->nonce = Load64(p) & 0xffffffffffff;
      return;
  }
}

bool ParseOptions(const uint8_t* bytes, uint32_t length, NdpOptions* options) {
  uint32_t at = 0;
  while (at < length) {
    if (length - at < 8) return false;
    const uint32_t size = bytes[at + 1] * 8u;
    if (size == 0 || size > length - at) return false;
    ParseOption(bytes + at, size, options);
    at += size;
  }
  return true;
}

}  // namespace

bool ParseNeighborMessage(const uint8_t* bytes, uint32_t length, NeighborMessage* message) {
  *message = {};
  if (length < kNeighborMessageBytes) return false;
  message->advertisement = bytes[0] == kIcmpV6NeighborAdvertisement;
  message->router = (bytes[4] & 0x80) != 0;
  message->solicited = (bytes[4] & 0x40) != 0;
  message->override_flag = (bytes[4] & 0x20) != 0;
  message->target = IpAddress::V6FromBytes(bytes + 8);
  if (message->target.is_multicast() || message->target.is_v4()) return false;
  return ParseOptions(bytes + kNeighborMessageBytes, length - kNeighborMessageBytes,
                      &message->options);
}

bool ParseRouterAdvertisement(const uint8_t* bytes, uint32_t length, RouterAdvertisement* message) {
  *message = {};
  if (length < kRouterAdvertisementBytes) return false;
  message->hop_limit = bytes[4];
  const uint8_t preference = (bytes[5] >> 3) & 3;
  message->preference = preference == 1 ? 1 : preference == 3 ? -1 : 0;
  message->router_lifetime = Load16(bytes + 6);
  message->reachable_time = Load32(bytes + 8);
  message->retransmit_timer = Load32(bytes + 12);
  return ParseOptions(bytes + kRouterAdvertisementBytes, length - kRouterAdvertisementBytes,
                      &message->options);
}

uint32_t WriteNeighborMessage(uint8_t* to, const NeighborMessage& message) {
  WriteIcmpHeader(
      to, {message.advertisement ? kIcmpV6NeighborAdvertisement : kIcmpV6NeighborSolicitation, 0, 0,
           0});
  to[4] = static_cast<uint8_t>((message.router ? 0x80 : 0) | (message.solicited ? 0x40 : 0) |
                               (message.override_flag ? 0x20 : 0));
  std::memcpy(to + 8, message.target.v6_bytes(), 16);
  const bool has_mac =
      message.advertisement ? message.options.has_target_mac : message.options.has_source_mac;
  if (!has_mac) return kNeighborMessageBytes;
  uint8_t* option = to + kNeighborMessageBytes;
  option[0] = message.advertisement ? kTargetLinkAddress : kSourceLinkAddress;
  option[1] = 1;
  StoreMac(option + 2,
           message.advertisement ? message.options.target_mac : message.options.source_mac);
  return kNeighborMessageBytes + kLinkAddressOptionBytes;
}

IpAddress AllNodesGroup() {
  const uint8_t group[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return IpAddress::V6FromBytes(group);
}

IpAddress AllRoutersGroup() {
  const uint8_t group[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  return IpAddress::V6FromBytes(group);
}

IpAddress SolicitedNodeGroup(const IpAddress& address) {
  uint8_t group[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  std::copy_n(address.v6_bytes() + 13, 3, group + 13);
  return IpAddress::V6FromBytes(group);
}

IpAddress LinkLocalAddress(const MacAddress& mac) {
  const auto& m = mac.bytes;
  const uint8_t address[16] = {
      0xfe, 0x80, 0,    0,    0,    0,    0,   0, static_cast<uint8_t>(m[0] ^ 2),
      m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
  return IpAddress::V6FromBytes(address);
}

}  // namespace userstack::wire
