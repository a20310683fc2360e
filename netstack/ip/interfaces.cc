// Configuration of Ip: interfaces, addresses, routes by hand; and what getifaddrs asks.
#include <algorithm>
#include <cstring>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

constexpr uint32_t kMinimumMtu = 68;          // RFC 791; below it nothing can be sent
constexpr uint32_t kConnectedMetricV6 = 256;  // Linux: IP6_RT_PRIO_ADDRCONF
constexpr uint32_t kLoopbackMtu = 65536;      // as Linux shows it; packets end at kMaxIpPacket
constexpr uint32_t kAllHosts = 0xe0000001;    // 224.0.0.1

uint8_t HostLength(const IpAddress& address) { return address.is_v4() ? 32 : 128; }

}  // namespace

bool Ip::Initialize(Core* core, Instant now) {
  core_ = core;
  routes_.Initialize(core->arena);
  groups_.Initialize(core->arena);
  if (!path_mtus_.Initialize(core) || !neighbors_.Initialize(core) ||
      !reassembly_.Initialize(core)) {
    return false;
  }
  for (uint32_t& slot : identifications_) slot = static_cast<uint32_t>(core->random.Next());
  DeviceCapabilities loopback;
  loopback.mtu = kLoopbackMtu;
  loopback.transmit_checksum = true;
  loopback.tcp_segmentation_max = kMaxIpPacket;
  if (!AddInterface(kLoopbackInterface, "lo", loopback).ok()) return false;
  Interface& lo = interfaces_[kLoopbackInterface];
  lo.loopback = true;
  lo.has_v6 = true;
  return InsertAddress(lo, {IpAddress::Loopback(Family::kIpv4), 8}, false, now).ok() &&
         InsertAddress(lo, {IpAddress::Loopback(Family::kIpv6), 128}, false, now).ok();
}

Interface* Ip::InterfaceAt(uint16_t index) {
  if (index == 0 || index > kMaxInterfaces || interfaces_[index].index == 0) return nullptr;
  return &interfaces_[index];
}

const Interface* Ip::interface(uint16_t index) const {
  return const_cast<Ip*>(this)->InterfaceAt(index);
}

const DeviceCapabilities* Ip::device(uint16_t index) const {
  const Interface* i = interface(index);
  return i == nullptr ? nullptr : &i->device;
}

uint16_t Ip::InterfaceByName(const char* name) const {
  for (uint16_t i = 1; i <= kMaxInterfaces; ++i) {
    if (interfaces_[i].index != 0 &&
        std::strncmp(interfaces_[i].name, name, kInterfaceNameBytes) == 0) {
      return i;
    }
  }
  return 0;
}

const Address* Ip::AddressAt(unsigned slot) const {
  if (slot >= addresses_.size() || !addresses_.at(slot).usable()) return nullptr;
  return &addresses_.at(slot);
}

size_t Ip::WantedAddresses(uint16_t interface, IpAddress* out, size_t limit) const {
  size_t count = 0;
  for (unsigned i = 0; i < addresses_.size() && count < limit; ++i) {
    const Address& address = addresses_.at(i);
    if (address.usable() && address.interface == interface) out[count++] = address.prefix.address;
  }
  for (const GroupMember* m = groups_.first(); m != nullptr && count < limit; m = groups_.Next(m)) {
    if (m->interface != interface || m->joins == 0 || m->silent) continue;
    const uint8_t* bytes = m->group.v6_bytes();
    const IpAddress solicited = wire::SolicitedNodeGroup(m->group);
    if (m->group.is_v6() && std::memcmp(bytes, solicited.v6_bytes(), 13) == 0) continue;
    out[count++] = m->group;
  }
  return count;
}

Status Ip::AddInterface(uint16_t index, const char* name, const DeviceCapabilities& device) {
  if (index == 0 || index > kMaxInterfaces || device.mtu < kMinimumMtu) return Status(EINVAL);
  const size_t length = strnlen(name, kInterfaceNameBytes);
  if (length == 0 || length == kInterfaceNameBytes) return Status(EINVAL);
  Interface& interface = interfaces_[index];
  if (interface.index != 0 || InterfaceByName(name) != 0) return Status(EEXIST);
  interface.index = index;
  std::memcpy(interface.name, name, length + 1);
  interface.device = device;
  interface.mtu = interface.mtu_v6 = device.mtu;
  (void)JoinGroup(index, IpAddress::V4(kAllHosts), Instant{});  // never reported, so no time
  ++route_generation_;
  return Status::Ok();
}

Status Ip::CheckNewAddress(const Interface* interface, const Prefix& prefix) const {
  const IpAddress& address = prefix.address;
  if (interface == nullptr) return Status(ENODEV);
  if (prefix.length > HostLength(address)) return Status(EINVAL);
  if (address.is_unspecified() || address.is_multicast() || address.is_limited_broadcast()) {
    return Status(EINVAL);
  }
  if (address.is_loopback() && !interface->loopback) return Status(EINVAL);
  if (address.is_v6() && interface->mtu < wire::kIpv6MinimumMtu) return Status(EINVAL);
  return addresses_.Find(address) == nullptr ? Status::Ok() : Status(EEXIST);
}

Status Ip::AddAddress(uint16_t index, const Prefix& prefix, Instant now) {
  Interface* interface = InterfaceAt(index);
  if (Status status = CheckNewAddress(interface, prefix); !status.ok()) return status;
  if (prefix.address.is_v6() && !interface->has_v6) StartV6(*interface, now);
  // StartV6 may have made exactly this address: the link-local one.
  if (addresses_.Find(prefix.address) != nullptr) return Status::Ok();
  return InsertAddress(*interface, prefix, false, now).status();
}

// The first IPv6 address of an interface brings what every IPv6 node has: membership of all-nodes,
// a link-local address (RFC 4862 5.3) and the search for routers (RFC 4861 6.3.7).
void Ip::StartV6(Interface& interface, Instant now) {
  interface.has_v6 = true;
  if (interface.loopback) return;
  (void)JoinGroup(interface.index, wire::AllNodesGroup(), now);
  const Prefix link_local{wire::LinkLocalAddress(interface.device.ipv6_identifier()), 64};
  if (addresses_.Find(link_local.address) == nullptr) {
    (void)InsertAddress(interface, link_local, false, now);
  }
  interface.router_solicitations_left = 3;  // RFC 4861 10
  core_->timers.Arm(&interface.router_timer, now);
}

Result<Address*> Ip::InsertAddress(Interface& interface, const Prefix& prefix, bool autoconfigured,
                                   Instant now) {
  Address* address = addresses_.Add(interface.index, prefix);
  if (address == nullptr) return Status(ENOBUFS);
  address->autoconfigured = autoconfigured;
  // What is on-link beside an autoconfigured address, its router says (LearnPrefix).
  const bool needs_route =
      prefix.length < HostLength(prefix.address) && !interface.loopback && !autoconfigured;
  if (needs_route) {
    const auto route = routes_.Add(prefix, IpAddress::Any(prefix.address.family()), interface.index,
                                   prefix.address.is_v4() ? 0 : kConnectedMetricV6);
    if (route.ok()) {
      (*route)->connected = true;
    } else if (route.error() != EEXIST) {
      addresses_.Remove(address);
      return route.status();
    }
  }
  if (!interface.loopback) {
    if (prefix.address.is_v6()) {
      (void)JoinGroup(interface.index, wire::SolicitedNodeGroup(prefix.address), now);
    }
    StartDetection(address, now);
  }
  ++route_generation_;
  ++local_generation_;
  return address;
}

Status Ip::RemoveAddress(uint16_t index, const IpAddress& which, Instant now) {
  Address* address = addresses_.Find(which);
  if (address == nullptr || address->interface != index) return Status(EADDRNOTAVAIL);
  DropAddress(address, now);
  return Status::Ok();
}

void Ip::DropAddress(Address* address, Instant now) {
  const Prefix prefix = address->prefix;
  const uint16_t index = address->interface;
  core_->timers.Disarm(&address->timer);
  addresses_.Remove(address);
  if (prefix.address.is_v6() && !interfaces_[index].loopback) {
    (void)LeaveGroup(index, wire::SolicitedNodeGroup(prefix.address), now);
  }
  // The connected route stays while another address of the interface is in the same prefix.
  bool still_needed = false;
  for (unsigned i = 0; i < addresses_.size(); ++i) {
    const Address& other = addresses_.at(i);
    still_needed |= other.state != AddressState::kFree && other.interface == index &&
                    other.prefix.length == prefix.length && prefix.Contains(other.prefix.address);
  }
  RouteEntry* route = routes_.FindExact(prefix, IpAddress::Any(prefix.address.family()), index);
  if (!still_needed && route != nullptr && route->connected) routes_.Remove(route);
  ++route_generation_;
  ++local_generation_;
}

Status Ip::AddRoute(const Prefix& destination, const IpAddress& gateway, uint16_t index,
                    uint32_t metric) {
  if (destination.length > HostLength(destination.address)) return Status(EINVAL);
  const bool on_link = gateway.is_unspecified();
  if (!on_link && (gateway.is_v4() != destination.address.is_v4() || gateway.is_multicast() ||
                   IsLocal(gateway) || IsBroadcast(gateway))) {
    return Status(EINVAL);
  }
  if (!on_link) {
    const RouteEntry* way = routes_.Match(gateway, index);
    if (way == nullptr || !way->on_link()) return Status(ENETUNREACH);
    if (index == 0) index = way->interface;
  }
  if (InterfaceAt(index) == nullptr) return Status(ENODEV);
  // What the loopback delivers, is local; a route cannot add to that.
  if (interfaces_[index].loopback) return Status(EINVAL);
  const Status status = routes_.Add(destination, gateway, index, metric).status();
  if (status.ok()) ++route_generation_;
  return status;
}

Status Ip::RemoveRoute(const Prefix& destination, const IpAddress& gateway) {
  RouteEntry* entry = routes_.FindExact(destination, gateway, 0);
  if (entry == nullptr) return Status(ESRCH);
  core_->timers.Disarm(&entry->timer);
  routes_.Remove(entry);
  ++route_generation_;
  return Status::Ok();
}

void Ip::Mend(Instant now) {
  for (uint16_t i = 0; i <= kMaxInterfaces; ++i) interfaces_[i].output.Mend();
  routes_.Mend();
  path_mtus_.Mend(now);
  neighbors_.Mend(now);
  groups_.Mend();
  reassembly_.Mend();
  looped_count_ = 0;
  for (Packet* p = looped_.front(); p != nullptr; p = looped_.Next(p)) ++looped_count_;
  looped_was_congested_ = false;
  looped_drained_ = true;  // who waited for room looks again
  drained_interfaces_ = (2u << kMaxInterfaces) - 2;
  for (AcceptedPair& pair : accepted_) pair = {};
}

void Ip::CheckInvariants() const {
  for (uint16_t i = 0; i <= kMaxInterfaces; ++i) {
    Check(interfaces_[i].index == 0 || interfaces_[i].index == i, "ip: interface index");
    interfaces_[i].output.CheckInvariants();
  }
  addresses_.CheckInvariants();
  routes_.CheckInvariants();
  path_mtus_.CheckInvariants();
  neighbors_.CheckInvariants();
  groups_.CheckInvariants();
  reassembly_.CheckInvariants();
  uint32_t looped = 0;
  for (Packet* p = looped_.front(); p != nullptr; p = looped_.Next(p)) ++looped;
  Check(looped == looped_count_, "ip: looped count");
}

}  // namespace userstack
