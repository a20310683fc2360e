// Input: from a frame to a verdict. Link header, network header, checks, options and extension
// headers, fragments; then ICMP and group messages are handled here, everything else is delivered.
#include <algorithm>

#include "netstack/ip/ip.h"

namespace userstack {

IpVerdict Ip::Drop(Packet* packet, Counter why) {
  core_->counters.Add(why);
  core_->packets.Release(packet);
  return IpVerdict::kConsumed;
}

IpVerdict Ip::Input(Packet* packet, Instant now) {
  Interface* interface = InterfaceAt(packet->ip.interface);
  if (interface == nullptr || packet->slice_count == 0) {
    return Drop(packet, Counter::kDeviceInBadFrame);
  }
  packet->link_offset = packet->slices[0].offset;
  if (packet->looped) {
    if (packet->contiguous() == 0) return Drop(packet, Counter::kDeviceInBadFrame);
    return packet->data()[0] >> 4 == 4 ? InputIpv4(packet, now) : InputIpv6(packet, now);
  }
  core_->counters.Add(Counter::kDeviceInFrames);
  core_->counters.Add(Counter::kDeviceInBytes, packet->length);
  wire::EthernetHeader link;
  if (interface->loopback ||
      !wire::ParseEthernetHeader(packet->data(), packet->contiguous(), &link)) {
    return Drop(packet, Counter::kDeviceInBadFrame);
  }
  packet->link_broadcast = link.destination.is_multicast();
  if (!packet->link_broadcast && !(link.destination == interface->device.mac)) {
    return Drop(packet, Counter::kDeviceInBadFrame);
  }
  // Our own frame, sent back by the wire: it must not look like a conflict.
  if (link.source == interface->device.mac) return Drop(packet, Counter::kIpInDiscards);
  packet->Pull(wire::kEthernetHeaderBytes);
  switch (link.type) {
    case wire::kEtherTypeIpv4:
      return InputIpv4(packet, now);
    case wire::kEtherTypeIpv6:
      return InputIpv6(packet, now);
    case wire::kEtherTypeArp:
      InputArp(*packet, *interface, now);
      core_->packets.Release(packet);
      return IpVerdict::kConsumed;
  }
  return Drop(packet, Counter::kIpInUnknownProtocols);
}

// --- IPv4 ---

// Whether source and destination may be what they are (RFC 1122 3.2.1.3), and whether it is for us.
bool Ip::AcceptV4Destination(Packet* packet, const wire::Ipv4Header& header) {
  const IpAddress& source = header.source;
  const IpAddress& destination = header.destination;
  IpInfo& info = packet->ip;
  info.is_multicast = destination.is_multicast();
  if (packet->looped) {
    info.is_broadcast = IsBroadcast(destination);
    return true;
  }
  if (source.is_multicast() || source.is_limited_broadcast() || source.is_loopback() ||
      destination.is_loopback()) {
    return false;
  }
  if (info.is_multicast) return groups_.Contains(info.interface, destination);
  // Usual case first: a conversation that goes on.
  AcceptedPair& known = accepted_[source.v4() % kAcceptedPairs];
  if (known.source == source.v4() && known.destination == destination.v4() &&
      known.generation == route_generation_) {
    return true;
  }
  // To one of our addresses, mostly.
  if (!IsLocal(destination)) {
    info.is_broadcast = IsBroadcast(destination);
    if (!info.is_broadcast) return false;
  } else if (source.is_unspecified()) {
    return false;
  }
  // Linux: a packet from outside with our own address or a broadcast one as its source is a
  // martian.
  if (IsLocal(source) || IsBroadcast(source)) return false;
  if (!info.is_broadcast) known = {source.v4(), destination.v4(), route_generation_};
  return true;
}

IpVerdict Ip::InputIpv4(Packet* packet, Instant now) {
  core_->counters.Add(Counter::kIpInReceives);
  wire::Ipv4Header header;
  if (!wire::ParseIpv4Header(packet->data(), packet->contiguous(), &header) ||
      header.total_length > packet->length) {
    return Drop(packet, Counter::kIpInHeaderErrors);
  }
  if (!packet->looped) {
    ChecksumAccumulator sum;
    sum.Add(packet->data(), header.header_length);
    if (sum.Checksum() != 0) return Drop(packet, Counter::kIpInHeaderErrors);
  }
  if (header.header_length > wire::kIpv4HeaderBytes) {
    const auto verdict = wire::InspectIpv4Options(packet->data() + wire::kIpv4HeaderBytes,
                                                  header.header_length - wire::kIpv4HeaderBytes);
    // Linux: source-routed packets are dropped without a word (accept_source_route 0).
    if (verdict != wire::Ipv4OptionsVerdict::kTolerated) {
      return Drop(packet, Counter::kIpInHeaderErrors);
    }
  }
  if (!AcceptV4Destination(packet, header)) return Drop(packet, Counter::kIpInAddressErrors);
  if (header.total_length < packet->length) core_->packets.Trim(packet, header.total_length);
  IpInfo& info = packet->ip;
  info.source = header.source;
  info.destination = header.destination;
  info.protocol = header.protocol;
  info.ttl = header.ttl;
  info.traffic_class = header.tos;
  info.flow_label = 0;
  info.header_length = header.header_length;
  packet->network_offset = packet->slices[0].offset;
  packet->Pull(header.header_length);
  if (header.is_fragment()) return InputFragmentV4(packet, header, now);
  return Deliver(packet, now);
}

IpVerdict Ip::InputFragmentV4(Packet* packet, const wire::Ipv4Header& header, Instant now) {
  core_->counters.Add(Counter::kIpReassemblyRequired);
  Fragment fragment{.source = header.source,
                    .destination = header.destination,
                    .identification = header.identification,
                    .interface = packet->ip.interface,
                    .protocol = header.protocol,
                    .offset = header.fragment_offset,
                    .length = packet->length,
                    .more = header.more_fragments,
                    .ecn = static_cast<uint8_t>(header.tos & 3)};
  Packet* whole = nullptr;
  const ReassemblyResult result = reassembly_.Add(fragment, *packet, packet->network_header(),
                                                  header.header_length, 0, &whole, now);
  if (result != ReassemblyResult::kComplete) {
    core_->packets.Release(packet);
    return IpVerdict::kConsumed;
  }
  Become(packet, whole);
  return Deliver(packet, now);
}

// The last fragment turns into the whole datagram: Input's caller holds on to its packet.
void Ip::Become(Packet* packet, Packet* whole) {
  core_->counters.Add(Counter::kIpReassemblyOk);
  for (unsigned i = 0; i < packet->slice_count; ++i) {
    core_->buffers.Release(packet->slices[i].buffer);
  }
  std::copy_n(whole->slices, whole->slice_count, packet->slices);
  packet->slice_count = whole->slice_count;
  packet->length = whole->length;
  packet->arrival = whole->arrival;
  packet->link_broadcast = whole->link_broadcast;
  packet->looped = whole->looped;
  packet->offload = {};
  packet->link_offset = whole->link_offset;
  packet->network_offset = whole->network_offset;
  packet->ip = whole->ip;
  whole->slice_count = 0;
  core_->packets.Release(whole);
}

// --- IPv6 ---

bool Ip::AcceptV6Destination(Packet* packet, const wire::Ipv6Header& header) {
  const IpAddress& source = header.source;
  const IpAddress& destination = header.destination;
  // IPv4-mapped addresses mean nothing on a wire, and would be taken for IPv4 further on.
  if (source.is_v4() || destination.is_v4() || source.is_multicast()) return false;
  packet->ip.is_multicast = destination.is_multicast();
  packet->ip.is_broadcast = false;
  if (packet->looped) return true;
  if (source.is_loopback() || destination.is_loopback()) return false;
  if (packet->ip.is_multicast) {
    // RFC 4291 2.7: interface-local and reserved scope do not come over a wire.
    const int scope = destination.v6_bytes()[1] & 0xf;
    return scope > 1 && groups_.Contains(packet->ip.interface, destination);
  }
  return IsLocal(destination) && !IsLocal(source) && !source.is_unspecified();
}

IpVerdict Ip::InputIpv6(Packet* packet, Instant now) {
  core_->counters.Add(Counter::kIpInReceives);
  wire::Ipv6Header header;
  if (!wire::ParseIpv6Header(packet->data(), packet->contiguous(), &header)) {
    return Drop(packet, Counter::kIpInHeaderErrors);
  }
  const uint32_t total = wire::kIpv6HeaderBytes + uint32_t{header.payload_length};
  // A payload length of 0 would be a jumbogram (RFC 2675), or nothing at all.
  if (total > packet->length) return Drop(packet, Counter::kIpInHeaderErrors);
  if (!AcceptV6Destination(packet, header)) return Drop(packet, Counter::kIpInAddressErrors);
  if (total < packet->length) core_->packets.Trim(packet, total);
  IpInfo& info = packet->ip;
  info.source = header.source;
  info.destination = header.destination;
  info.ttl = header.hop_limit;
  info.traffic_class = header.traffic_class;
  info.flow_label = header.flow_label;
  packet->network_offset = packet->slices[0].offset;
  return DispatchIpv6(packet, header.next_header, wire::kIpv6HeaderBytes, true, now);
}

// `packet->data()` is the IPv6 header; the walk begins with `next_header` at `offset`.
IpVerdict Ip::DispatchIpv6(Packet* packet, uint8_t next_header, uint32_t offset,
                           bool may_be_fragment, Instant now) {
  const wire::Ipv6Chain chain =
      wire::WalkIpv6Extensions(packet->data(), packet->contiguous(), next_header, offset);
  switch (chain.end) {
    case wire::Ipv6Chain::End::kUpperLayer:
      break;
    case wire::Ipv6Chain::End::kFragment:
      // A fragment of a fragment is nobody's honest packet.
      if (!may_be_fragment) return Drop(packet, Counter::kIpInHeaderErrors);
      return InputFragmentV6(packet, chain, now);
    case wire::Ipv6Chain::End::kParameterProblem:
      SendError(*packet, wire::kIcmpV6ParameterProblem, chain.code, chain.pointer, now,
                chain.report_to_multicast);
      return Drop(packet, Counter::kIpInHeaderErrors);
    case wire::Ipv6Chain::End::kTruncated:
    case wire::Ipv6Chain::End::kDiscard:
      return Drop(packet, Counter::kIpInHeaderErrors);
  }
  if (chain.offset > packet->contiguous()) return Drop(packet, Counter::kIpInHeaderErrors);
  packet->ip.protocol = chain.protocol;
  packet->ip.header_length = static_cast<uint16_t>(chain.offset);
  packet->Pull(chain.offset);
  return Deliver(packet, now);
}

IpVerdict Ip::InputFragmentV6(Packet* packet, const wire::Ipv6Chain& chain, Instant now) {
  wire::Ipv6FragmentHeader field;
  if (chain.offset > packet->contiguous() ||
      !wire::ParseIpv6FragmentHeader(packet->data() + chain.offset,
                                     packet->contiguous() - chain.offset, &field)) {
    return Drop(packet, Counter::kIpInHeaderErrors);
  }
  const uint32_t behind = chain.offset + wire::kIpv6FragmentHeaderBytes;
  // RFC 6946: an atomic fragment is a whole packet and meets no other fragment.
  if (field.offset == 0 && !field.more_fragments) {
    return DispatchIpv6(packet, field.next_header, behind, false, now);
  }
  core_->counters.Add(Counter::kIpReassemblyRequired);
  const Fragment fragment{.source = packet->ip.source,
                          .destination = packet->ip.destination,
                          .identification = field.identification,
                          .interface = packet->ip.interface,
                          .protocol = field.next_header,
                          .offset = field.offset,
                          .length = packet->length - behind,
                          .more = field.more_fragments,
                          .ecn = static_cast<uint8_t>(packet->ip.traffic_class & 3)};
  // RFC 8200 4.5: two lengths that cannot be are answered with a pointer to the field.
  const bool uneven = fragment.more && fragment.length % 8 != 0;
  const bool too_long = uint32_t{field.offset} + fragment.length > kMaxIpPacket;
  if (uneven || too_long) {
    SendError(*packet, wire::kIcmpV6ParameterProblem, wire::kIcmpV6ErroneousField,
              uneven ? 4 : chain.offset + 2, now);
    return Drop(packet, Counter::kIpReassemblyFails);
  }
  if (field.offset == 0) {
    // RFC 7112: the first fragment has the whole header chain.
    const wire::Ipv6Chain rest =
        wire::WalkIpv6Extensions(packet->data(), packet->contiguous(), field.next_header, behind);
    if (rest.end == wire::Ipv6Chain::End::kTruncated) {
      SendError(*packet, wire::kIcmpV6ParameterProblem, wire::kIcmpV6IncompleteChain, 0, now);
      return Drop(packet, Counter::kIpReassemblyFails);
    }
  }
  const uint8_t* header = packet->data();
  packet->Pull(behind);
  Packet* whole = nullptr;
  const ReassemblyResult result = reassembly_.Add(fragment, *packet, header, chain.offset,
                                                  chain.next_header_offset, &whole, now);
  if (result != ReassemblyResult::kComplete) {
    core_->packets.Release(packet);
    return IpVerdict::kConsumed;
  }
  Become(packet, whole);
  // Back to the network header: the chain is walked again, now without the fragment header.
  packet->Push(packet->ip.header_length);
  return DispatchIpv6(packet, packet->data()[6], wire::kIpv6HeaderBytes, false, now);
}

// --- both ---

// `packet->data()` is the transport header, packet->ip is complete.
IpVerdict Ip::Deliver(Packet* packet, Instant now) {
  core_->counters.Add(Counter::kIpInDelivers);
  Interface& interface = interfaces_[packet->ip.interface];
  const bool v4 = packet->ip.destination.is_v4();
  const uint8_t protocol = packet->ip.protocol;
  if (v4 && protocol == wire::kProtocolIcmp) return InputIcmpV4(packet, now);
  if (!v4 && protocol == wire::kProtocolIcmpV6) return InputIcmpV6(packet, now);
  if (v4 && protocol == wire::kProtocolIgmp) {
    InputIgmp(*packet, interface, now);
    return IpVerdict::kDeliver;
  }
  if (!v4 && protocol == wire::kProtocolNoNext) {
    core_->packets.Release(packet);  // RFC 8200 4.7: nothing follows
    return IpVerdict::kConsumed;
  }
  return IpVerdict::kDeliver;
}

void Ip::OnTimer(Timer* timer, Instant now) {
  switch (timer->kind) {
    case TimerKind::kNeighbor: {
      Neighbor* neighbor = OwnerOf(&Neighbor::timer, timer);
      Act(neighbor, neighbors_.OnTimer(neighbor, interfaces_[neighbor->interface], now), now);
      return;
    }
    case TimerKind::kDuplicateAddress:
      OnAddressTimer(OwnerOf(&Address::timer, timer), now);
      return;
    case TimerKind::kRouterSolicit:
      OnRouterSolicitTimer(OwnerOf(&Interface::router_timer, timer), now);
      return;
    case TimerKind::kRouterLifetime:
      routes_.Remove(OwnerOf(&RouteEntry::timer, timer));
      ++route_generation_;
      return;
    case TimerKind::kReassembly:
      OnReassemblyTimer(OwnerOf(&ReassemblyContext::timer, timer), now);
      return;
    case TimerKind::kMulticastReport:
      OnReportTimer(OwnerOf(&GroupMember::timer, timer), now);
      return;
    case TimerKind::kPathMtu:
      path_mtus_.OnTimer(OwnerOf(&PathMtuEntry::timer, timer));
      ++route_generation_;
      return;
    case TimerKind::kTcpRetransmit:
    case TimerKind::kTcpDelayedAck:
    case TimerKind::kTcpKeepAlive:
    case TimerKind::kTcpTimeWait:
    case TimerKind::kTcpPacing:
    case TimerKind::kTcpReorder:
    case TimerKind::kTcpSynQueue:
      Check(false, "ip: a timer of TCP");
      return;
  }
}

// RFC 1122 3.3.2, RFC 8200 4.5: say so, when the first fragment came.
void Ip::OnReassemblyTimer(ReassemblyContext* context, Instant now) {
  core_->counters.Add(Counter::kIpReassemblyTimeout);
  core_->counters.Add(Counter::kIpReassemblyFails);
  Packet* first = reassembly_.OnTimer(context);
  if (first == nullptr) return;
  const bool v4 = first->ip.destination.is_v4();
  const uint8_t type = v4 ? uint8_t{wire::kIcmpTimeExceeded} : uint8_t{wire::kIcmpV6TimeExceeded};
  SendError(*first, type, wire::kTimeExceededReassembly, 0, now);
  core_->packets.Release(first);
}

}  // namespace userstack
