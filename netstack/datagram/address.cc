// Names of datagram sockets: what bind may name, and what connect fixes.
#include "netstack/base/check.h"
#include "netstack/datagram/datagram.h"

namespace userstack {
namespace {

// Linux: __ipv6_addr_needs_scope_id: link-local unicast, interface-local and link-local groups.
bool NeedsScope(const IpAddress& address) {
  if (address.is_v4()) return false;
  if (address.is_link_local()) return true;
  const uint8_t scope = address.v6_bytes()[1] & 0x0f;
  return address.is_multicast() && (scope == 1 || scope == 2);
}

}  // namespace

// Linux: __inet_bind, __inet6_bind.
Status Datagrams::CheckBindAddress(const DatagramSocket& socket, const Endpoint& wanted) const {
  const IpAddress& address = wanted.address;
  const SocketOptions& o = socket.options;
  if (address.is_v4() && socket.family == Family::kIpv6 && o.v6_only) return Status(EINVAL);
  if (address.is_v6() && socket.family == Family::kIpv4) return Status(EAFNOSUPPORT);
  if (NeedsScope(address)) {
    const uint16_t scope = wanted.interface != 0 ? wanted.interface : o.bound_interface;
    if (scope == 0) return Status(EINVAL);
    if (ip_->interface(scope) == nullptr) return Status(ENODEV);
  }
  if (address.is_unspecified() || address.is_multicast() || ip_->IsBroadcast(address) ||
      ip_->IsLocal(address) || o.free_bind || o.transparent) {
    return Status::Ok();
  }
  return Status(EADDRNOTAVAIL);
}

void Datagrams::SetLocal(DatagramSocket& socket, const Endpoint& local) {
  socket.local = local;
  socket.address_chosen = !local.address.is_unspecified();
  socket.local_is_broadcast = ip_->IsBroadcast(local.address);
  if (!NeedsScope(local.address)) {
    socket.local.interface = 0;
    return;
  }
  if (local.interface != 0) socket.options.bound_interface = local.interface;
  socket.local.interface = socket.options.bound_interface;
}

// Linux: __ip4_datagram_connect, __ip6_datagram_connect.
Status Datagrams::PlanConnection(const DatagramSocket& socket, const Endpoint& remote,
                                 SendPlan* plan) const {
  if (NeedsScope(remote.address) && remote.interface == 0 && socket.options.bound_interface == 0) {
    const bool chosen = remote.address.is_multicast() && socket.options.multicast_interface_v6 != 0;
    if (!chosen) return Status(EINVAL);
  }
  return Plan(socket, remote, nullptr, plan);
}

void Datagrams::SetRemote(DatagramSocket& socket, const SendPlan& plan) {
  socket.remote = plan.destination;
  socket.connected = true;
  const uint16_t interface = plan.route.interface;
  if (NeedsScope(plan.destination.address)) {
    socket.remote.interface = interface;
    socket.options.bound_interface = interface;
  } else {
    socket.remote.interface = 0;
  }
  if (!socket.local.address.is_unspecified()) return;
  socket.local.address = plan.source;
  socket.local.interface = NeedsScope(plan.source) ? interface : 0;
}

// Linux: __udp_disconnect.
void Datagrams::ForgetRemote(DatagramSocket& socket) {
  socket.remote = {};
  socket.connected = false;
  socket.options.bound_interface = 0;
  if (!socket.address_chosen) {
    socket.local.address = IpAddress::Any(socket.family);
    socket.local.interface = 0;
  }
  if (!socket.port_chosen) socket.local.port = 0;
}

void Datagrams::OnOptionsChanged(DatagramSocket& socket) {
  if (!socket.options.receive_error && !socket.options.receive_error_v6) DropErrors(socket);
  Announce(socket, 0);
}

// After a death in the middle of a change.
void Datagrams::Mend(DatagramSocket& socket) {
  socket.receive_charge = 0;
  for (const Packet* p = socket.receive.front(); p != nullptr; p = socket.receive.Next(p)) {
    socket.receive_charge += ReceiveCharge(*p);
  }
  socket.error_count = socket.group_count = 0;
  for (auto* e = socket.errors.front(); e != nullptr; e = socket.errors.Next(e)) {
    ++socket.error_count;
  }
  for (auto* g = socket.groups.front(); g != nullptr; g = socket.groups.Next(g)) {
    ++socket.group_count;
  }
  if (!socket.closed()) Announce(socket, ~EventMask{0});
}

void Datagrams::CheckInvariants(const DatagramSocket& socket) const {
  uint64_t charge = 0;
  for (const Packet* p = socket.receive.front(); p != nullptr; p = socket.receive.Next(p)) {
    charge += ReceiveCharge(*p);
  }
  Check(charge == socket.receive_charge, "datagram: receive charge");
  uint32_t errors = 0;
  for (auto* e = socket.errors.front(); e != nullptr; e = socket.errors.Next(e)) ++errors;
  Check(errors == socket.error_count, "datagram: error count");
  uint32_t groups = 0;
  for (auto* g = socket.groups.front(); g != nullptr; g = socket.groups.Next(g)) ++groups;
  Check(groups == socket.group_count, "datagram: group count");
  // Told of frames that left at the next Advance or NextFrame.
  if (socket.closed() || socket.drained_node.linked()) return;
  Check(socket.pollable->level == Level(socket), "datagram: readiness not announced");
}

}  // namespace userstack
