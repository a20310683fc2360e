// ICMP and ICMPv6 input: echo is answered, errors become a verdict with Linux's errno, the rest
// goes to neighbour discovery and group membership.
#include <algorithm>
#include <iterator>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

constexpr uint8_t kOriginIcmp = 2;   // SO_EE_ORIGIN_ICMP
constexpr uint8_t kOriginIcmp6 = 3;  // SO_EE_ORIGIN_ICMP6
constexpr uint32_t kEmbeddedMinimum = 8;

struct ErrorMeaning {
  int error;
  bool hard;
};

// Linux: icmp_err_convert, by the code of Destination Unreachable.
constexpr ErrorMeaning kUnreachableV4[] = {
    {ENETUNREACH, false},   // net
    {EHOSTUNREACH, false},  // host
    {ENOPROTOOPT, true},    // protocol
    {ECONNREFUSED, true},   // port
    {EMSGSIZE, false},      // fragmentation needed
    {EOPNOTSUPP, false},    // source route failed
    {ENETUNREACH, true},    // net unknown
    {EHOSTDOWN, true},      // host unknown
    {ENONET, true},         // source host isolated
    {ENETUNREACH, true},    // net prohibited
    {EHOSTUNREACH, true},   // host prohibited
    {ENETUNREACH, false},   // net unreachable for TOS
    {EHOSTUNREACH, false},  // host unreachable for TOS
    {EHOSTUNREACH, true},   // filtered
    {EHOSTUNREACH, true},   // precedence violation
    {EHOSTUNREACH, true},   // precedence cutoff
};

// Linux: tab_unreach of icmpv6_err_convert.
constexpr ErrorMeaning kUnreachableV6[] = {
    {ENETUNREACH, false},   // no route
    {EACCES, true},         // prohibited
    {EHOSTUNREACH, false},  // beyond scope
    {EHOSTUNREACH, false},  // address
    {ECONNREFUSED, true},   // port
    {EACCES, true},         // policy
    {EACCES, true},         // route rejected
};

// The next smaller value of RFC 1191 7's table, for routers that give no MTU.
uint32_t Plateau(uint32_t length) {
  constexpr uint32_t kPlateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296};
  for (uint32_t plateau : kPlateaus) {
    if (plateau < length) return plateau;
  }
  return wire::kIpv4MinimumMtu;
}

bool ChecksumIsRight(const Packet& packet, bool v6) {
  if (packet.looped || packet.offload.checksum_verified || packet.offload.checksum_needed) {
    return true;
  }
  ChecksumAccumulator sum;
  if (v6) {
    sum.AddPseudoHeader(packet.ip.source, packet.ip.destination, wire::kProtocolIcmpV6,
                        packet.length);
  }
  for (unsigned i = 0; i < packet.slice_count; ++i) {
    sum.Add(packet.slices[i].data(), packet.slices[i].length);
  }
  return sum.Checksum() == 0;
}

}  // namespace

IpVerdict Ip::InputIcmpV4(Packet* packet, Instant now) {
  core_->counters.Add(Counter::kIcmpInMessages);
  wire::IcmpHeader header;
  if (!wire::ParseIcmpHeader(packet->data(), packet->contiguous(), &header)) {
    return Drop(packet, Counter::kIcmpInErrors);
  }
  if (!ChecksumIsRight(*packet, false)) return Drop(packet, Counter::kIcmpInChecksumErrors);
  switch (header.type) {
    case wire::kIcmpEcho:
      // Linux: echo to a broadcast or group is not answered (icmp_echo_ignore_broadcasts).
      if (!packet->ip.is_broadcast && !packet->ip.is_multicast) AnswerEcho(*packet, now);
      return IpVerdict::kDeliver;
    case wire::kIcmpUnreachable:
    case wire::kIcmpTimeExceeded:
    case wire::kIcmpParameterProblem:
      if (!ParseErrorV4(*packet, header)) return Drop(packet, Counter::kIcmpInErrors);
      return IpVerdict::kIcmpError;
    case wire::kIcmpRedirect:      // not believed: anybody on the link could turn our traffic
    case wire::kIcmpSourceQuench:  // RFC 6633
      return Drop(packet, Counter::kIcmpInErrors);
  }
  return IpVerdict::kDeliver;
}

// The payload of the request is sent back from the same buffers.
void Ip::AnswerEcho(const Packet& packet, Instant now) {
  const bool v4 = packet.ip.destination.is_v4();
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return;
  wire::IcmpHeader header;
  if (!wire::ParseIcmpHeader(packet.data(), packet.contiguous(), &header)) {
    core_->frames.Release(frame);
    return;
  }
  header.type = v4 ? uint8_t{wire::kIcmpEchoReply} : uint8_t{wire::kIcmpV6EchoReply};
  header.checksum = 0;
  wire::WriteIcmpHeader(frame->Append(wire::kIcmpHeaderBytes), header);
  uint32_t skip = wire::kIcmpHeaderBytes;
  for (unsigned i = 0; i < packet.slice_count; ++i) {
    const Slice& slice = packet.slices[i];
    const uint32_t n = std::min(skip, slice.length);
    skip -= n;
    if (slice.length == n) continue;
    Check(frame->AddSlice(slice.buffer, slice.offset + n, slice.length - n), "echo: slices");
  }
  const IpAddress source =
      packet.ip.is_multicast ? IpAddress::Any(packet.ip.source.family()) : packet.ip.destination;
  (void)SendIcmp(frame, source, packet.ip.source, packet.ip.interface, packet.ip.traffic_class,
                 now);
}

// Fills icmp_error_ from a quoted IPv4 packet. False: not about a packet that we can have sent.
bool Ip::ParseErrorV4(const Packet& packet, const wire::IcmpHeader& header) {
  const uint8_t* quote = packet.data() + wire::kIcmpHeaderBytes;
  const uint32_t length = packet.contiguous() - wire::kIcmpHeaderBytes;
  wire::Ipv4Header embedded;
  if (!wire::ParseIpv4Header(quote, length, &embedded)) return false;
  if (embedded.fragment_offset != 0 || length - embedded.header_length < kEmbeddedMinimum) {
    return false;
  }
  if (!IsLocal(embedded.source)) return false;
  icmp_error_ = {};
  icmp_error_.local = embedded.source;
  icmp_error_.remote = embedded.destination;
  icmp_error_.protocol = embedded.protocol;
  icmp_error_.embedded = quote + embedded.header_length;
  icmp_error_.embedded_length = length - embedded.header_length;
  icmp_error_.origin = kOriginIcmp;
  icmp_error_.type = header.type;
  icmp_error_.code = header.code;
  icmp_error_.offender = packet.ip.source;
  icmp_error_.interface = packet.ip.interface;
  ErrorMeaning meaning{EHOSTUNREACH, false};
  if (header.type == wire::kIcmpParameterProblem) {
    meaning = {EPROTO, true};
    icmp_error_.info = header.rest >> 24;
  } else if (header.type == wire::kIcmpUnreachable) {
    if (header.code >= std::size(kUnreachableV4)) return false;
    meaning = kUnreachableV4[header.code];
    if (header.code == wire::kIcmpFragmentationNeeded) {
      const uint32_t mtu = header.rest & 0xffff;
      icmp_error_.mtu = mtu != 0 ? mtu : Plateau(embedded.total_length);
      icmp_error_.info = icmp_error_.mtu;
    }
  }
  icmp_error_.error = meaning.error;
  icmp_error_.hard = meaning.hard;
  return true;
}

bool Ip::ParseErrorV6(const Packet& packet, const wire::IcmpHeader& header) {
  const uint8_t* quote = packet.data() + wire::kIcmpHeaderBytes;
  const uint32_t length = packet.contiguous() - wire::kIcmpHeaderBytes;
  wire::Ipv6Header embedded;
  if (!wire::ParseIpv6Header(quote, length, &embedded)) return false;
  if (embedded.source.is_v4() || embedded.destination.is_v4()) return false;
  wire::Ipv6Chain chain =
      wire::WalkIpv6Extensions(quote, length, embedded.next_header, wire::kIpv6HeaderBytes);
  wire::Ipv6FragmentHeader fragment;
  if (chain.end == wire::Ipv6Chain::End::kFragment) {
    if (!wire::ParseIpv6FragmentHeader(quote + chain.offset, length - chain.offset, &fragment) ||
        fragment.offset != 0) {
      return false;
    }
    chain = wire::WalkIpv6Extensions(quote, length, fragment.next_header,
                                     chain.offset + wire::kIpv6FragmentHeaderBytes);
  }
  if (chain.end != wire::Ipv6Chain::End::kUpperLayer || chain.offset > length ||
      length - chain.offset < kEmbeddedMinimum || !IsLocal(embedded.source)) {
    return false;
  }
  icmp_error_ = {};
  icmp_error_.local = embedded.source;
  icmp_error_.remote = embedded.destination;
  icmp_error_.protocol = chain.protocol;
  icmp_error_.embedded = quote + chain.offset;
  icmp_error_.embedded_length = length - chain.offset;
  icmp_error_.origin = kOriginIcmp6;
  icmp_error_.type = header.type;
  icmp_error_.code = header.code;
  icmp_error_.info = header.rest;
  icmp_error_.offender = packet.ip.source;
  icmp_error_.interface = packet.ip.interface;
  // Linux: icmpv6_err_convert; unknown codes of a known type are EPROTO.
  ErrorMeaning meaning{EPROTO, false};
  switch (header.type) {
    case wire::kIcmpV6Unreachable:
      meaning.hard = true;
      if (header.code < std::size(kUnreachableV6)) meaning = kUnreachableV6[header.code];
      break;
    case wire::kIcmpV6PacketTooBig:
      meaning = {EMSGSIZE, false};
      icmp_error_.mtu = header.rest;
      break;
    case wire::kIcmpV6TimeExceeded:
      meaning = {EHOSTUNREACH, false};
      break;
    case wire::kIcmpV6ParameterProblem:
      meaning.hard = true;
      break;
  }
  icmp_error_.error = meaning.error;
  icmp_error_.hard = meaning.hard;
  return true;
}

IpVerdict Ip::InputIcmpV6(Packet* packet, Instant now) {
  core_->counters.Add(Counter::kIcmpInMessages);
  wire::IcmpHeader header;
  if (!wire::ParseIcmpHeader(packet->data(), packet->contiguous(), &header)) {
    return Drop(packet, Counter::kIcmpInErrors);
  }
  if (!ChecksumIsRight(*packet, true)) return Drop(packet, Counter::kIcmpInChecksumErrors);
  if (wire::IsIcmpV6Error(header.type)) {
    if (!ParseErrorV6(*packet, header)) return Drop(packet, Counter::kIcmpInErrors);
    return IpVerdict::kIcmpError;
  }
  Interface& interface = interfaces_[packet->ip.interface];
  switch (header.type) {
    case wire::kIcmpV6Echo:
      AnswerEcho(*packet, now);
      return IpVerdict::kDeliver;
    case wire::kIcmpV6MldQuery:
      InputMld(*packet, interface, now);
      break;
    case wire::kIcmpV6NeighborSolicitation:
    case wire::kIcmpV6NeighborAdvertisement:
    case wire::kIcmpV6RouterAdvertisement:
      InputNdp(*packet, header, interface, now);
      break;
    case wire::kIcmpV6RouterSolicitation:  // for routers
    case wire::kIcmpV6Redirect:            // not believed, as for IPv4
    case wire::kIcmpV6MldReport:
    case wire::kIcmpV6MldDone:
    case wire::kIcmpV6Mld2Report:
      break;
    default:
      return IpVerdict::kDeliver;
  }
  core_->packets.Release(packet);
  return IpVerdict::kConsumed;
}

}  // namespace userstack
