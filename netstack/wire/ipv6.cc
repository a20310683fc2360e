#include "netstack/wire/ipv6.h"

#include "netstack/wire/icmp.h"

namespace userstack::wire {
namespace {

constexpr uint8_t kPad1 = 0;
constexpr uint8_t kPadN = 1;
constexpr uint8_t kRouterAlertOption = 5;
// A bound on work for one packet; real chains are one or two headers long (Linux limits the
// options in the same way, RFC 8504 5.3).
constexpr unsigned kMaxHeaders = 8;
constexpr unsigned kMaxOptions = 16;

// Walks the options of a hop-by-hop or destination options header. False: the chain ends here, with
// the reason in `chain`.
bool WalkOptions(const uint8_t* bytes, uint32_t offset, uint32_t end, Ipv6Chain* chain) {
  unsigned options = 0;
  uint32_t at = offset + 2;
  while (at < end) {
    const uint8_t kind = bytes[at];
    if (kind == kPad1) {
      ++at;
      continue;
    }
    if (end - at < 2 || end - at - 2 < bytes[at + 1] || ++options > kMaxOptions) {
      chain->end = Ipv6Chain::End::kDiscard;
      return false;
    }
    if (kind == kRouterAlertOption) chain->router_alert = true;
    if (kind != kPadN && kind != kRouterAlertOption && kind >> 6 != 0) {
      // RFC 8200 4.2: the two high bits say what is to be done about an unknown option.
      chain->end = kind >> 6 == 1 ? Ipv6Chain::End::kDiscard : Ipv6Chain::End::kParameterProblem;
      chain->code = kIcmpV6UnknownOption;
      chain->pointer = at;
      chain->report_to_multicast = kind >> 6 == 2;
      return false;
    }
    at += 2u + bytes[at + 1];
  }
  return true;
}

}  // namespace

Ipv6Chain WalkIpv6Extensions(const uint8_t* bytes, uint32_t length, uint8_t next_header,
                             uint32_t offset) {
  Ipv6Chain chain;
  chain.protocol = next_header;
  chain.offset = offset;
  chain.next_header_offset = 6;
  for (unsigned headers = 0;; ++headers) {
    const uint8_t protocol = chain.protocol;
    const bool options = protocol == kProtocolHopByHop || protocol == kProtocolDestinationOptions;
    if (!options && protocol != kProtocolRouting) {
      chain.end =
          protocol == kProtocolFragment ? Ipv6Chain::End::kFragment : Ipv6Chain::End::kUpperLayer;
      return chain;
    }
    if (headers == kMaxHeaders) {
      chain.end = Ipv6Chain::End::kDiscard;
      return chain;
    }
    if (protocol == kProtocolHopByHop && chain.offset != kIpv6HeaderBytes) {
      // RFC 8200 4.1: only right after the IPv6 header; elsewhere it is an unknown next header.
      chain.end = Ipv6Chain::End::kParameterProblem;
      chain.code = kIcmpV6UnknownNextHeader;
      chain.pointer = chain.next_header_offset;
      return chain;
    }
    if (chain.offset > length || length - chain.offset < 8) return chain;
    const uint8_t* header = bytes + chain.offset;
    const uint32_t size = (header[1] + 1u) * 8;
    if (size > length - chain.offset) return chain;
    if (options && !WalkOptions(bytes, chain.offset, chain.offset + size, &chain)) return chain;
    if (protocol == kProtocolRouting && header[3] != 0) {
      // RFC 8200 4.4 and RFC 5095: no routing type is known here, so segments left must be zero.
      chain.end = Ipv6Chain::End::kParameterProblem;
      chain.code = kIcmpV6ErroneousField;
      chain.pointer = chain.offset + 2;
      return chain;
    }
    chain.next_header_offset = chain.offset;
    chain.protocol = header[0];
    chain.offset += size;
  }
}

}  // namespace userstack::wire
