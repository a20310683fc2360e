// The way to a destination: own addresses, groups, broadcast, routes; and the source address that
// goes with it (RFC 6724).
#include <algorithm>
#include <bit>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

// RFC 6724 3.1 and RFC 4007: 2 link-local, 14 global. Unique local addresses are of global scope.
int ScopeOf(const IpAddress& address) {
  if (address.is_multicast() && address.is_v6()) return address.v6_bytes()[1] & 0xf;
  if (address.is_loopback() || address.is_link_local()) return 2;
  return 14;
}

// The labels of RFC 6724 2.1's default policy table.
int LabelOf(const IpAddress& address) {
  const uint8_t* b = address.v6_bytes();
  if (address.is_loopback()) return 0;
  if (b[0] == 0x20 && b[1] == 0x02) return 2;
  if (b[0] == 0x20 && b[1] == 0x01 && b[2] == 0 && b[3] == 0) return 5;
  if ((b[0] & 0xfe) == 0xfc) return 13;
  if (b[0] == 0xfe && (b[1] & 0xc0) == 0xc0) return 11;
  if (b[0] == 0x3f && b[1] == 0xfe) return 12;
  return 1;
}

int CommonPrefixLength(const IpAddress& a, const IpAddress& b) {
  const uint64_t high = a.high() ^ b.high();
  if (high != 0) return std::countl_zero(high);
  const uint64_t low = a.low() ^ b.low();
  return low == 0 ? 128 : 64 + std::countl_zero(low);
}

// True when `a` is the better source for `destination` than `b` (RFC 6724 5).
bool IsBetterSource(const Address& a, const Address& b, const IpAddress& destination,
                    uint16_t interface) {
  const IpAddress& sa = a.prefix.address;
  const IpAddress& sb = b.prefix.address;
  // Rule 1: the same address.
  if ((sa == destination) != (sb == destination)) return sa == destination;
  // Rule 2: appropriate scope.
  const int scope_a = ScopeOf(sa);
  const int scope_b = ScopeOf(sb);
  const int wanted = ScopeOf(destination);
  if (scope_a != scope_b) {
    return scope_a < scope_b ? scope_a >= wanted : scope_b < wanted;
  }
  // Rule 3: avoid deprecated addresses.
  const bool deprecated_a = a.state == AddressState::kDeprecated;
  const bool deprecated_b = b.state == AddressState::kDeprecated;
  if (deprecated_a != deprecated_b) return deprecated_b;
  // RFC 4429 3.1: an optimistic address counts as deprecated here, after the real ones.
  const bool optimistic_a = a.state == AddressState::kOptimistic;
  const bool optimistic_b = b.state == AddressState::kOptimistic;
  if (optimistic_a != optimistic_b) return optimistic_b;
  // Rule 5: the outgoing interface.
  const bool here_a = a.interface == interface;
  const bool here_b = b.interface == interface;
  if (here_a != here_b) return here_a;
  // Rule 6: matching label.
  const int label = LabelOf(destination);
  const bool label_a = LabelOf(sa) == label;
  const bool label_b = LabelOf(sb) == label;
  if (label_a != label_b) return label_a;
  // Rule 8: the longest matching prefix.
  const int match_a = std::min<int>(CommonPrefixLength(sa, destination), a.prefix.length);
  const int match_b = std::min<int>(CommonPrefixLength(sb, destination), b.prefix.length);
  return match_a > match_b;
}

// IPv4, as Linux's inet_select_addr: an address of the interface whose subnet has the next hop,
// then the first that the interface has, then any.
int RankV4(const Address& address, const IpAddress& next_hop, uint16_t interface) {
  if (address.interface != interface) return 0;
  return address.prefix.Contains(next_hop) ? 2 : 1;
}

}  // namespace

bool Ip::IsLocal(const IpAddress& address) const {
  const Address* found = addresses_.Find(address);
  if (found != nullptr) return found->usable();
  return address.is_v4() && address.is_loopback();
}

bool Ip::IsBroadcast(const IpAddress& address) const {
  if (!address.is_v4()) return false;
  if (address.is_limited_broadcast()) return true;
  for (unsigned i = 0; i < addresses_.size(); ++i) {
    const Address& own = addresses_.at(i);
    if (!own.usable() || !own.prefix.address.is_v4() || own.prefix.length > 30) continue;
    if (interfaces_[own.interface].loopback) continue;
    const uint32_t host_bits = own.prefix.length == 0 ? ~0u : (1u << (32 - own.prefix.length)) - 1;
    if (address.v4() == (own.prefix.address.v4() | host_bits)) return true;
  }
  return false;
}

const Address* Ip::SelectSource(const IpAddress& destination, const IpAddress& next_hop,
                                uint16_t interface) const {
  const Address* best = nullptr;
  for (unsigned i = 0; i < addresses_.size(); ++i) {
    const Address& candidate = addresses_.at(i);
    if (!candidate.usable() || candidate.prefix.address.is_v4() != destination.is_v4()) continue;
    if (interfaces_[candidate.interface].loopback && interface != kLoopbackInterface) continue;
    const bool better =
        best == nullptr ||
        (destination.is_v4()
             ? RankV4(candidate, next_hop, interface) > RankV4(*best, next_hop, interface)
             : IsBetterSource(candidate, *best, destination, interface));
    if (better) best = &candidate;
  }
  return best;
}

void Ip::FillLimits(Route* route) const {
  const Interface& interface = interfaces_[route->interface];
  const bool v4 = route->destination.is_v4();
  route->interface_mtu = std::min(v4 ? interface.mtu : interface.mtu_v6, kMaxIpPacket);
  route->mtu = route->interface_mtu;
  if (!v4 && interface.hop_limit != 0) route->hop_limit = interface.hop_limit;
  if (route->loopback) return;
  const PathMtuEntry* entry = path_mtus_.Find(route->destination);
  if (entry == nullptr) return;
  route->mtu = std::min(route->mtu, entry->mtu);
  route->mtu_locked = entry->locked;
}

Status Ip::FillSource(const IpAddress& source, Route* route) const {
  if (source.is_unspecified()) {
    const Address* chosen = SelectSource(route->destination, route->next_hop, route->interface);
    if (chosen == nullptr) return Status(EADDRNOTAVAIL);
    route->source = chosen->prefix.address;
    return Status::Ok();
  }
  route->source = source;
  // Linux: a socket bound to 127.0.0.1 does not reach the wire.
  if (source.is_loopback() && route->interface != kLoopbackInterface) return Status(EINVAL);
  return Status::Ok();
}

Result<Route> Ip::RouteToSelf(const IpAddress& source, const IpAddress& destination) const {
  Route route;
  route.destination = route.next_hop = destination;
  route.interface = kLoopbackInterface;
  route.loopback = true;
  route.generation = route_generation_;
  if (!source.is_unspecified()) {
    route.source = source;
  } else if (destination.is_v4() && destination.is_loopback()) {
    route.source = IpAddress::Loopback(Family::kIpv4);
  } else {
    route.source = destination;
  }
  FillLimits(&route);
  return route;
}

// Where groups and the limited broadcast go when nothing else says: by the default route, else (for
// IPv6, where Linux has ff00::/8 on every interface) the first wire.
uint16_t Ip::DefaultInterface(Family family) const {
  const RouteEntry* way = routes_.Match(IpAddress::Any(family), 0);
  if (way != nullptr && way->destination.length == 0) return way->interface;
  if (family == Family::kIpv4) return 0;
  for (uint16_t i = kLoopbackInterface + 1; i <= kMaxInterfaces; ++i) {
    if (interfaces_[i].index != 0 && interfaces_[i].has_v6) return i;
  }
  return 0;
}

Result<Route> Ip::RouteToGroup(const IpAddress& source, const IpAddress& destination,
                               uint16_t interface) const {
  Route route;
  route.destination = route.next_hop = destination;
  route.multicast = destination.is_multicast();
  route.broadcast = !route.multicast;
  route.generation = route_generation_;
  if (interface == 0 && !source.is_unspecified()) {
    // Linux: for groups, the source address names the interface.
    const Address* own = addresses_.Find(source);
    if (own != nullptr) interface = own->interface;
  }
  if (interface == 0) {
    const RouteEntry* way = routes_.Match(destination, 0);
    interface = way != nullptr ? way->interface : DefaultInterface(destination.family());
  }
  if (interface == 0 || interface > kMaxInterfaces || interfaces_[interface].index == 0) {
    return Status(ENETUNREACH);
  }
  route.interface = interface;
  if (Status status = FillSource(source, &route); !status.ok()) return status;
  FillLimits(&route);
  return route;
}

Result<Route> Ip::FindRoute(const IpAddress& source, const IpAddress& to,
                            uint16_t interface) const {
  if (!source.is_unspecified() && !IsLocal(source)) return Status(EADDRNOTAVAIL);
  IpAddress destination = to;
  if (destination.is_unspecified()) {
    // Linux: to connect to "any" is to connect to oneself.
    destination = IpAddress::Loopback(to.family());
    if (!source.is_unspecified() && source.is_v4() == to.is_v4()) destination = source;
  }
  if (IsLocal(destination)) return RouteToSelf(source, destination);
  if (destination.is_multicast() || destination.is_limited_broadcast()) {
    return RouteToGroup(source, destination, interface);
  }
  Route route;
  route.destination = destination;
  const RouteEntry* way = routes_.Match(destination, interface);
  if (way != nullptr) {
    route.interface = way->interface;
    route.next_hop = way->on_link() ? destination : way->gateway;
  } else if (destination.is_v4() && interface != kLoopbackInterface &&
             this->interface(interface) != nullptr) {
    // Linux: bound to a device and no route: the destination is taken to be on the link.
    route.interface = interface;
    route.next_hop = destination;
  } else {
    return Status(ENETUNREACH);
  }
  route.broadcast = IsBroadcast(destination);
  route.generation = route_generation_;
  if (Status status = FillSource(source, &route); !status.ok()) return status;
  FillLimits(&route);
  return route;
}

uint32_t Ip::PathMtu(const IpAddress& destination, uint16_t index, Instant /*now*/) const {
  const Interface* i = interface(index);
  if (i == nullptr) return wire::kIpv4ReassemblyMinimum;
  Route route;
  route.destination = destination;
  route.interface = index;
  route.loopback = i->loopback;
  FillLimits(&route);
  return route.mtu;
}

void Ip::UpdatePathMtu(const IpAddress& destination, uint32_t mtu, Instant now) {
  if (IsLocal(destination)) return;
  if (path_mtus_.Update(destination, mtu, now)) ++route_generation_;
}

uint32_t Ip::LargestForHost(const Route& route) {
  const Interface* i = interface(route.interface);
  if (i == nullptr || i->device.host_segmentation_max == 0 || route.loopback) return 0;
  if (!route.destination.is_v4() || route.next_hop != route.destination) return 0;
  const Neighbor* neighbor = neighbors_.Find(route.interface, route.next_hop);
  if (neighbor == nullptr || neighbor->state == NeighborState::kIncomplete) return 0;
  return neighbor->mac == i->device.host ? i->device.host_segmentation_max : 0;
}

void Ip::ConfirmNeighbor(const Route& route, Instant now) {
  if (route.loopback) return;
  const Interface* i = interface(route.interface);
  Neighbor* neighbor = neighbors_.Find(route.interface, route.next_hop);
  if (i != nullptr && neighbor != nullptr) neighbors_.Confirm(neighbor, *i, now);
}

}  // namespace userstack
