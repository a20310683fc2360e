// ICMP errors and how ICMP leaves (RFC 792, RFC 1122 3.2.2, RFC 4443 2.4): never about errors,
// broadcasts or multicasts, and never faster than ErrorRateLimit allows.
#include <algorithm>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

// How long an error may be with its network header: Linux quotes IPv4 up to 576 bytes (RFC 1812
// 4.3.2.3), IPv6 up to the minimum MTU (RFC 4443 3).
constexpr uint32_t kErrorLimitV4 = wire::kIpv4ReassemblyMinimum;
constexpr uint32_t kErrorLimitV6 = wire::kIpv6MinimumMtu;
constexpr uint8_t kPrecedenceMask = 0x1e;   // Linux: IPTOS_TOS_MASK
constexpr uint8_t kInternetControl = 0xc0;  // RFC 1812 4.3.2.5

uint32_t QuoteLimit(bool v4) {
  return v4 ? kErrorLimitV4 - wire::kIpv4HeaderBytes - wire::kIcmpHeaderBytes
            : kErrorLimitV6 - wire::kIpv6HeaderBytes - wire::kIcmpHeaderBytes;
}

// Copies from the network header on, whatever was pulled since.
uint32_t CopyFromNetworkHeader(const Packet& packet, uint8_t* to, uint32_t limit) {
  const Slice& first = packet.slices[0];
  const uint32_t head = std::min(first.offset + first.length - packet.network_offset, limit);
  std::memcpy(to, packet.network_header(), head);
  if (head == limit) return head;
  return head + PacketPool::Copy(packet, first.length, to + head, limit - head);
}

uint32_t CopyFrame(const Frame& frame, uint8_t* to, uint32_t limit) {
  uint32_t copied = std::min<uint32_t>(frame.header_length(), limit);
  std::memcpy(to, frame.header(), copied);
  for (unsigned i = 0; i < frame.slice_count && copied < limit; ++i) {
    const uint32_t n = std::min(frame.slices[i].length, limit - copied);
    std::memcpy(to + copied, frame.slices[i].data(), n);
    copied += n;
  }
  return copied;
}

// Is the packet whose headers these are an ICMP error? What cannot be seen counts as one.
bool IsIcmpError(bool v4, uint8_t protocol, const uint8_t* transport, uint32_t length) {
  if (v4 && protocol == wire::kProtocolIcmp) {
    return length < 1 || !wire::IsIcmpV4Query(transport[0]);
  }
  if (!v4 && protocol == wire::kProtocolIcmpV6) {
    return length < 1 || wire::IsIcmpV6Error(transport[0]) || transport[0] == wire::kIcmpV6Redirect;
  }
  return false;
}

}  // namespace

// An ICMP message whose first eight bytes are `header` and whose rest is in `quote`.
Frame* Ip::MakeIcmpFrame(const wire::IcmpHeader& header, Buffer* quote, uint32_t quote_length) {
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return nullptr;
  wire::WriteIcmpHeader(frame->Append(wire::kIcmpHeaderBytes), header);
  if (quote_length > 0) Check(frame->AddSlice(quote, 0, quote_length), "icmp: no slice left");
  return frame;
}

// The checksum of a message that begins the frame (RFC 792; RFC 4443 2.3 with pseudo-header).
void Ip::FinishIcmp(Frame* frame, const IpAddress& source, const IpAddress& destination) {
  if (destination.is_v6()) {
    ChecksumAccumulator pseudo;
    pseudo.AddPseudoHeader(source, destination, wire::kProtocolIcmpV6, frame->length());
    Store16(frame->header() + 2, pseudo.Sum());
  } else {
    Store16(frame->header() + 2, 0);
  }
  frame->offload.checksum_start = 0;
  frame->offload.checksum_offset = 2;
  FinishChecksum(*frame);
}

// Sends a whole ICMP message (checksum excepted) that answers something from `destination`.
Status Ip::SendIcmp(Frame* frame, const IpAddress& source, const IpAddress& destination,
                    uint16_t interface, uint8_t traffic_class, Instant now) {
  const Result<Route> route =
      FindRoute(source, destination, destination.is_link_local() ? interface : 0);
  if (!route.ok()) return Refuse(frame, route.error());
  const IpAddress& from = source.is_unspecified() ? route.value().source : source;
  FinishIcmp(frame, from, destination);
  core_->counters.Add(Counter::kIcmpOutMessages);
  SendOptions options;
  options.protocol = destination.is_v4() ? wire::kProtocolIcmp : wire::kProtocolIcmpV6;
  options.hop_limit = route.value().hop_limit;
  options.traffic_class = traffic_class;
  return Send(frame, *route, from, destination, options, now);
}

bool Ip::MayAnswer(const Packet& packet, bool even_to_multicast) const {
  const IpInfo& info = packet.ip;
  if (info.source.is_unspecified() || info.source.is_multicast() || IsBroadcast(info.source)) {
    return false;
  }
  if (!even_to_multicast && (info.is_broadcast || info.is_multicast || packet.link_broadcast)) {
    return false;
  }
  // The transport header: behind the network headers, as far as slice 0 goes.
  const Slice& first = packet.slices[0];
  const uint32_t end = first.offset + first.length;
  const uint32_t transport = packet.network_offset + info.header_length;
  const uint32_t visible = end > transport ? end - transport : 0;
  return !IsIcmpError(info.destination.is_v4(), info.protocol, first.buffer->bytes + transport,
                      visible);
}

void Ip::SendError(const Packet& packet, uint8_t type, uint8_t code, uint32_t rest, Instant now,
                   bool even_to_multicast) {
  if (!MayAnswer(packet, even_to_multicast)) return;
  const IpInfo& info = packet.ip;
  const bool v4 = info.destination.is_v4();
  // Linux: no limit towards ourselves, nor for Packet Too Big and echo.
  if (!packet.looped) {
    const uint64_t hash = SipHash(core_->hash_key, info.source.v6_bytes(), 16);
    if (!error_limit_.Allow(hash, now)) {
      core_->counters.Add(Counter::kIcmpOutRateLimited);
      return;
    }
  }
  Buffer* quote = core_->buffers.Allocate(BufferClass::kSmall);
  if (quote == nullptr) return;
  const uint32_t quoted = CopyFromNetworkHeader(packet, quote->bytes, QuoteLimit(v4));
  Frame* frame = MakeIcmpFrame({type, code, 0, rest}, quote, quoted);
  core_->buffers.Release(quote);
  if (frame == nullptr) return;
  core_->counters.Add(Counter::kIcmpOutErrors);
  const IpAddress source =
      IsLocal(info.destination) ? info.destination : IpAddress::Any(info.destination.family());
  const auto tos = static_cast<uint8_t>((info.traffic_class & kPrecedenceMask) | kInternetControl);
  (void)SendIcmp(frame, source, info.source, info.interface, v4 ? tos : 0, now);
}

void Ip::SendUnreachable(const Packet& packet, Unreachable why, Instant now) {
  const bool v4 = packet.ip.destination.is_v4();
  switch (why) {
    case Unreachable::kHost:
      if (v4) {
        SendError(packet, wire::kIcmpUnreachable, wire::kIcmpHostUnreachable, 0, now);
      } else {
        SendError(packet, wire::kIcmpV6Unreachable, wire::kIcmpV6AddressUnreachable, 0, now);
      }
      return;
    case Unreachable::kPort:
      if (v4) {
        SendError(packet, wire::kIcmpUnreachable, wire::kIcmpPortUnreachable, 0, now);
      } else {
        SendError(packet, wire::kIcmpV6Unreachable, wire::kIcmpV6PortUnreachable, 0, now);
      }
      return;
    case Unreachable::kProtocol:
      if (v4) {
        SendError(packet, wire::kIcmpUnreachable, wire::kIcmpProtocolUnreachable, 0, now);
      } else {
        // RFC 8200 4: Parameter Problem, pointing at the byte that names the unknown header.
        SendError(packet, wire::kIcmpV6ParameterProblem, wire::kIcmpV6UnknownNextHeader,
                  NextHeaderOffset(packet), now);
      }
      return;
  }
}

// Where the byte stands that names the transport of an IPv6 packet from Input.
uint32_t Ip::NextHeaderOffset(const Packet& packet) {
  const uint8_t* header = packet.network_header();
  uint8_t protocol = header[6];
  uint32_t at = 6;
  uint32_t offset = wire::kIpv6HeaderBytes;
  while (offset < packet.ip.header_length) {
    // Input has walked this chain: every header in it is whole.
    at = offset;
    const bool fragment = protocol == wire::kProtocolFragment;
    protocol = header[offset];
    offset += fragment ? wire::kIpv6FragmentHeaderBytes : (header[offset + 1] + 1u) * 8;
  }
  return at;
}

// A frame of ours (network header first) that found no neighbour comes back as an error.
void Ip::LoopError(const Frame& frame, Instant now) {
  wire::IcmpHeader header;
  IpAddress source;
  uint8_t protocol = 0;
  uint32_t network = 0;
  const bool v4 = frame.header()[0] >> 4 == 4;
  if (v4) {
    wire::Ipv4Header ip;
    if (!wire::ParseIpv4Header(frame.header(), frame.header_length(), &ip)) return;
    if (ip.fragment_offset != 0) return;  // one error for one datagram
    source = ip.source;
    protocol = ip.protocol;
    network = ip.header_length;
    header = {wire::kIcmpUnreachable, wire::kIcmpHostUnreachable, 0, 0};
  } else {
    wire::Ipv6Header ip;
    if (!wire::ParseIpv6Header(frame.header(), frame.header_length(), &ip)) return;
    source = ip.source;
    protocol = ip.next_header;
    network = wire::kIpv6HeaderBytes;
    header = {wire::kIcmpV6Unreachable, wire::kIcmpV6AddressUnreachable, 0, 0};
  }
  if (IsIcmpError(v4, protocol, frame.header() + network, frame.header_length() - network)) return;
  Buffer* quote = core_->buffers.Allocate(BufferClass::kSmall);
  if (quote == nullptr) return;
  const uint32_t quoted = CopyFrame(frame, quote->bytes, QuoteLimit(v4));
  Frame* error = MakeIcmpFrame(header, quote, quoted);
  core_->buffers.Release(quote);
  if (error == nullptr) return;
  (void)SendIcmp(error, source, source, 0, 0, now);
}

}  // namespace userstack
