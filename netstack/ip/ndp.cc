// Neighbour discovery (RFC 4861) and stateless autoconfiguration (RFC 4862), the host's half.
#include <algorithm>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

constexpr uint8_t kNdpHopLimit = 255;  // RFC 4861 7.1: proves that the sender is on the link
constexpr unsigned kMaxAdvertisedRouters = 8;
constexpr unsigned kMaxAdvertisedPrefixes = 16;
constexpr unsigned kMaxAutoconfigured = 8;
constexpr uint32_t kAdvertisedMetric = 1024;  // Linux: IP6_RT_PRIO_USER
constexpr uint32_t kInfiniteLifetime = ~0u;
constexpr Duration kRouterSolicitationInterval = Duration::Seconds(4);
constexpr Duration kTwoHours = Duration::Seconds(7200);
// A router may ask for these; beyond, it is mistaken.
constexpr uint32_t kMaxReachableMilliseconds = 3'600'000;
constexpr uint32_t kMinRetransmitMilliseconds = 10;
constexpr uint32_t kMaxRetransmitMilliseconds = 60'000;

Instant LifetimeEnd(uint32_t seconds, Instant now) {
  return seconds == kInfiniteLifetime ? Instant::Never() : now + Duration::Seconds(seconds);
}

}  // namespace

const Address* Ip::LinkLocalOf(uint16_t interface) const {
  for (unsigned i = 0; i < addresses_.size(); ++i) {
    const Address& a = addresses_.at(i);
    const bool fits = a.usable() && a.interface == interface && a.prefix.address.is_v6() &&
                      a.prefix.address.is_link_local();
    if (fits) return &a;
  }
  return nullptr;
}

// --- sending ---

// A frame that begins with an ICMPv6 message goes out with hop limit 255. `to` null: resolve, or
// map the group.
void Ip::SendNdp(Interface& interface, Frame* frame, const IpAddress& source,
                 const IpAddress& destination, const MacAddress* to) {
  FinishIcmp(frame, source, destination);
  core_->counters.Add(Counter::kIcmpOutMessages);
  SendOptions options;
  options.protocol = wire::kProtocolIcmpV6;
  options.hop_limit = kNdpHopLimit;
  PrependIpv6(frame, source, destination, options, nullptr);
  (void)Enqueue(frame, interface, to != nullptr ? *to : wire::MulticastMac(destination),
                wire::kEtherTypeIpv6);
}

// `to` null: to the solicited-node group. An unspecified source is a DAD probe.
void Ip::SolicitNeighbor(Interface& interface, const IpAddress& target, const MacAddress* to,
                         const IpAddress& source) {
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return;
  wire::NeighborMessage message;
  message.target = target;
  // Deviation from RFC 4429 3.2, which leaves the option out while the source is optimistic: Linux
  // does not answer a multicast solicitation without it, so that nothing could be sent for the
  // first second. A duplicate's owner repairs the damage with its own advertisement.
  message.options.has_source_mac = !source.is_unspecified();
  message.options.source_mac = interface.device.mac;
  uint8_t bytes[wire::kNeighborMessageBytes + wire::kLinkAddressOptionBytes];
  const uint32_t length = wire::WriteNeighborMessage(bytes, message);
  std::memcpy(frame->Append(static_cast<uint16_t>(length)), bytes, length);
  const IpAddress destination = to != nullptr ? target : wire::SolicitedNodeGroup(target);
  SendNdp(interface, frame, source, destination, to);
}

void Ip::AskNdp(Interface& interface, const Neighbor& neighbor, bool unicast) {
  const Address* source = SelectSource(neighbor.address, neighbor.address, interface.index);
  if (source == nullptr) return;
  SolicitNeighbor(interface, neighbor.address, unicast ? &neighbor.mac : nullptr,
                  source->prefix.address);
}

// `to` null: to a group.
void Ip::SendAdvertisement(Interface& interface, const Address& address,
                           const IpAddress& destination, bool solicited, const MacAddress* to) {
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return;
  wire::NeighborMessage message;
  message.advertisement = true;
  message.solicited = solicited;
  // RFC 4429 3.3: who is not sure of its address does not override.
  message.override_flag = address.state != AddressState::kOptimistic;
  message.target = address.prefix.address;
  message.options.has_target_mac = true;
  message.options.target_mac = interface.device.mac;
  uint8_t bytes[wire::kNeighborMessageBytes + wire::kLinkAddressOptionBytes];
  const uint32_t length = wire::WriteNeighborMessage(bytes, message);
  std::memcpy(frame->Append(static_cast<uint16_t>(length)), bytes, length);
  SendNdp(interface, frame, address.prefix.address, destination, to);
}

void Ip::OnRouterSolicitTimer(Interface* interface, Instant now) {
  if (interface->router_solicitations_left == 0) return;
  --interface->router_solicitations_left;
  Frame* frame = core_->frames.Allocate();
  const Address* source = LinkLocalOf(interface->index);
  if (frame != nullptr) {
    const IpAddress from =
        source == nullptr ? IpAddress::Any(Family::kIpv6) : source->prefix.address;
    wire::WriteIcmpHeader(frame->Append(wire::kRouterSolicitationBytes),
                          {wire::kIcmpV6RouterSolicitation, 0, 0, 0});
    if (source != nullptr) {
      uint8_t* option = frame->Append(wire::kLinkAddressOptionBytes);
      option[0] = 1;  // source link-layer address
      option[1] = 1;
      wire::StoreMac(option + 2, interface->device.mac);
    }
    SendNdp(*interface, frame, from, wire::AllRoutersGroup(), nullptr);
  }
  if (interface->router_solicitations_left > 0) {
    core_->timers.Arm(&interface->router_timer, now + kRouterSolicitationInterval);
  }
}

// --- receiving ---

void Ip::InputNdp(const Packet& packet, const wire::IcmpHeader& header, Interface& interface,
                  Instant now) {
  // RFC 4861 6.1.2, 7.1.1, 7.1.2: the common checks.
  const bool valid = packet.ip.ttl == kNdpHopLimit && header.code == 0 && !packet.looped;
  // RFC 6980: never from fragments, whose frames are gone.
  const bool framed = packet.network_offset == packet.link_offset + wire::kEthernetHeaderBytes;
  if (!valid || !framed || packet.contiguous() < packet.length) {
    core_->counters.Add(Counter::kIcmpInErrors);
    return;
  }
  bool parsed = false;
  if (header.type == wire::kIcmpV6RouterAdvertisement) {
    wire::RouterAdvertisement message;
    parsed = wire::ParseRouterAdvertisement(packet.data(), packet.contiguous(), &message) &&
             packet.ip.source.is_link_local();
    if (parsed) InputRouterAdvertisement(packet, message, interface, now);
  } else {
    wire::NeighborMessage message;
    parsed = wire::ParseNeighborMessage(packet.data(), packet.contiguous(), &message);
    if (parsed && message.advertisement) {
      InputNeighborAdvertisement(packet, message, interface, now);
    } else if (parsed) {
      InputNeighborSolicitation(packet, message, interface, now);
    }
  }
  if (!parsed) core_->counters.Add(Counter::kIcmpInErrors);
}

void Ip::HearNeighbor(Interface& interface, const IpAddress& address, const MacAddress& mac,
                      Instant now) {
  if (mac.is_multicast()) return;
  Neighbor* neighbor = neighbors_.Find(interface.index, address);
  if (neighbor == nullptr) {
    neighbor = neighbors_.Create(interface.index, address);
    if (neighbor != nullptr) neighbors_.StartStale(neighbor, mac);
    return;
  }
  Act(neighbor, neighbors_.OnHeard(neighbor, mac), now);
}

void Ip::InputNeighborSolicitation(const Packet& packet, const wire::NeighborMessage& message,
                                   Interface& interface, Instant now) {
  Address* address = addresses_.Find(message.target);
  if (address == nullptr || !address->usable() || address->interface != interface.index) return;
  const IpAddress& source = packet.ip.source;
  if (source.is_unspecified()) {
    // Somebody probes for our address (RFC 4862 5.4.3). Only to the group, and without a link
    // address (RFC 4861 7.1.1).
    if (message.options.has_source_mac || !packet.ip.is_multicast) return;
    if (address->state == AddressState::kOptimistic) {
      OnDuplicate(address);
    } else {
      SendAdvertisement(interface, *address, wire::AllNodesGroup(), false, nullptr);
    }
    return;
  }
  if (message.options.has_source_mac) {
    HearNeighbor(interface, source, message.options.source_mac, now);
  }
  Neighbor* neighbor = neighbors_.Find(interface.index, source);
  if (neighbor != nullptr && neighbor->state != NeighborState::kIncomplete) {
    SendAdvertisement(interface, *address, source, true, &neighbor->mac);
    return;
  }
  // No link address known: the frame's own sender is who wants to know.
  wire::EthernetHeader link;
  const uint8_t* bytes = packet.slices[0].buffer->bytes + packet.link_offset;
  if (!wire::ParseEthernetHeader(bytes, wire::kEthernetHeaderBytes, &link)) return;
  SendAdvertisement(interface, *address, source, true, &link.source);
}

void Ip::InputNeighborAdvertisement(const Packet& packet, const wire::NeighborMessage& message,
                                    Interface& interface, Instant now) {
  if (packet.ip.is_multicast && message.solicited) return;  // RFC 4861 7.1.2
  const MacAddress* mac = message.options.has_target_mac ? &message.options.target_mac : nullptr;
  if (mac != nullptr && mac->is_multicast()) return;
  Address* own = addresses_.Find(message.target);
  if (own != nullptr && own->interface == interface.index && own->usable()) {
    // RFC 4862 5.4.4: a probed address is taken. One that is ours already: count, and keep it.
    if (own->state == AddressState::kOptimistic) {
      OnDuplicate(own);
    } else {
      core_->counters.Add(Counter::kArpConflict);
    }
    return;
  }
  Neighbor* neighbor = neighbors_.Find(interface.index, message.target);
  if (neighbor == nullptr) return;  // RFC 4861 7.2.5: nobody asked
  const bool was_router = neighbor->is_router;
  neighbor->is_router = message.router;
  Act(neighbor,
      neighbors_.OnAnswer(neighbor, interface, mac, message.solicited, message.override_flag, now),
      now);
  if (was_router && !message.router) ForgetRouter(interface, message.target);
}

void Ip::ForgetRouter(const Interface& interface, const IpAddress& router) {
  RouteEntry* entry =
      routes_.FindExact({IpAddress::Any(Family::kIpv6), 0}, router, interface.index);
  if (entry == nullptr || !entry->advertised) return;
  core_->timers.Disarm(&entry->timer);
  routes_.Remove(entry);
  ++route_generation_;
}

void Ip::InputRouterAdvertisement(const Packet& packet, const wire::RouterAdvertisement& message,
                                  Interface& interface, Instant now) {
  interface.router_solicitations_left = 0;
  core_->timers.Disarm(&interface.router_timer);
  if (message.hop_limit != 0) interface.hop_limit = message.hop_limit;
  if (message.reachable_time != 0 && message.reachable_time <= kMaxReachableMilliseconds) {
    interface.reachable_time = Duration::Milliseconds(message.reachable_time);
  }
  if (message.retransmit_timer != 0) {
    interface.retransmit_time = Duration::Milliseconds(std::clamp(
        message.retransmit_timer, kMinRetransmitMilliseconds, kMaxRetransmitMilliseconds));
  }
  const uint32_t mtu = message.options.mtu;
  if (mtu >= wire::kIpv6MinimumMtu && mtu <= interface.device.mtu && mtu != interface.mtu_v6) {
    interface.mtu_v6 = mtu;
    ++route_generation_;
  }
  if (message.options.has_source_mac) {
    HearNeighbor(interface, packet.ip.source, message.options.source_mac, now);
  }
  Neighbor* neighbor = neighbors_.Find(interface.index, packet.ip.source);
  if (neighbor != nullptr) neighbor->is_router = true;
  LearnDefaultRouter(packet.ip.source, message, interface, now);
  for (unsigned i = 0; i < message.options.prefix_count; ++i) {
    const wire::PrefixInformation& prefix = message.options.prefixes[i];
    if (prefix.prefix.address.is_link_local() || prefix.prefix.address.is_multicast()) continue;
    if (prefix.on_link) LearnPrefix(prefix, interface, now);
    if (prefix.autonomous) Autoconfigure(prefix, interface, now);
  }
}

unsigned Ip::CountAdvertised(bool routers) {
  unsigned count = 0;
  routes_.ForEach([&](RouteEntry* e) { count += e->advertised && e->on_link() != routers; });
  return count;
}

void Ip::LearnDefaultRouter(const IpAddress& router, const wire::RouterAdvertisement& message,
                            Interface& interface, Instant now) {
  const Prefix everything{IpAddress::Any(Family::kIpv6), 0};
  RouteEntry* entry = routes_.FindExact(everything, router, interface.index);
  if (message.router_lifetime == 0) {
    ForgetRouter(interface, router);
    return;
  }
  if (entry == nullptr) {
    if (CountAdvertised(true) >= kMaxAdvertisedRouters) return;
    // RFC 4191: a preferred router comes first.
    const uint32_t metric =
        static_cast<uint32_t>(static_cast<int>(kAdvertisedMetric) - message.preference);
    const auto added = routes_.Add(everything, router, interface.index, metric);
    if (!added.ok()) return;
    entry = *added;
    entry->advertised = true;
    ++route_generation_;
  }
  // A route made by hand stays for ever.
  if (!entry->advertised) return;
  core_->timers.Arm(&entry->timer, now + Duration::Seconds(message.router_lifetime));
}

void Ip::LearnPrefix(const wire::PrefixInformation& prefix, Interface& interface, Instant now) {
  RouteEntry* entry =
      routes_.FindExact(prefix.prefix, IpAddress::Any(Family::kIpv6), interface.index);
  if (entry != nullptr && !entry->advertised) return;
  if (prefix.valid_lifetime == 0) {
    if (entry == nullptr) return;
    core_->timers.Disarm(&entry->timer);
    routes_.Remove(entry);
    ++route_generation_;
    return;
  }
  if (entry == nullptr) {
    if (CountAdvertised(false) >= kMaxAdvertisedPrefixes) return;
    const auto added = routes_.Add(prefix.prefix, IpAddress::Any(Family::kIpv6), interface.index,
                                   kAdvertisedMetric);
    if (!added.ok()) return;
    entry = *added;
    entry->advertised = true;
    ++route_generation_;
  }
  core_->timers.Arm(&entry->timer, LifetimeEnd(prefix.valid_lifetime, now));
}

// RFC 4862 5.5.3.
void Ip::Autoconfigure(const wire::PrefixInformation& prefix, Interface& interface, Instant now) {
  if (prefix.prefix.length != 64 || prefix.preferred_lifetime > prefix.valid_lifetime) return;
  uint8_t bytes[16];
  std::memcpy(bytes, prefix.prefix.address.v6_bytes(), 8);
  const IpAddress link_local = wire::LinkLocalAddress(interface.device.ipv6_identifier());
  std::memcpy(bytes + 8, link_local.v6_bytes() + 8, 8);
  const IpAddress wanted = IpAddress::V6FromBytes(bytes);
  if (wanted.is_v4() || wanted.is_loopback()) return;  // prefixes that are none
  Address* address = addresses_.Find(wanted);
  if (address == nullptr) {
    unsigned count = 0;
    for (unsigned i = 0; i < addresses_.size(); ++i) count += addresses_.at(i).autoconfigured;
    if (prefix.valid_lifetime == 0 || count >= kMaxAutoconfigured) return;
    const auto added = InsertAddress(interface, {wanted, 64}, true, now);
    if (!added.ok()) return;
    address = *added;
    address->valid_until = LifetimeEnd(prefix.valid_lifetime, now);
  } else {
    if (!address->autoconfigured || address->state == AddressState::kDuplicate) return;
    // An advertisement cannot shorten a life to less than two hours (5.5.3 e).
    const Instant until = LifetimeEnd(prefix.valid_lifetime, now);
    if (until >= address->valid_until || until >= now + kTwoHours) {
      address->valid_until = until;
    } else if (address->valid_until > now + kTwoHours) {
      address->valid_until = now + kTwoHours;
    }
  }
  address->preferred_until = LifetimeEnd(prefix.preferred_lifetime, now);
  if (address->state != AddressState::kOptimistic) CheckLifetime(address, now);
}

}  // namespace userstack
