// Group membership of sockets: joins, leaves and source filters (RFC 3678). The stack's own
// membership, which IGMP and MLD speak for, is counted by Ip.
#include <algorithm>

#include "netstack/datagram/datagram.h"

namespace userstack {

SocketMembership* Datagrams::FindMembership(const DatagramSocket& socket, const IpAddress& group,
                                            uint16_t interface) const {
  for (SocketMembership* m = socket.groups.front(); m != nullptr; m = socket.groups.Next(m)) {
    if (m->group == group && (interface == 0 || m->interface == interface)) return m;
  }
  return nullptr;
}

// Linux: ip_mc_find_dev. Without an interface, the one that a route to the group would take.
Result<uint16_t> Datagrams::GroupInterface(const IpAddress& group, uint16_t interface) const {
  if (interface != 0) {
    if (ip_->interface(interface) == nullptr) return Result<uint16_t>::Error(ENODEV);
    return interface;
  }
  const Result<Route> route = ip_->FindRoute(IpAddress::Any(group.family()), group, 0);
  if (!route.ok()) return Result<uint16_t>::Error(ENODEV);
  return route.value().interface;
}

Status Datagrams::Join(DatagramSocket& socket, const IpAddress& group, uint16_t interface,
                       bool include, Instant now) {
  if (!group.is_multicast()) return Status(EINVAL);
  const Result<uint16_t> index = GroupInterface(group, interface);
  if (!index.ok()) return index.status();
  if (FindMembership(socket, group, *index) != nullptr) return Status(EADDRINUSE);
  if (socket.group_count >= kMaxMemberships) return Status(ENOBUFS);
  SocketMembership* membership = membership_pool_.New();
  if (membership == nullptr) return Status(ENOBUFS);
  if (const Status status = ip_->JoinGroup(*index, group, now); !status.ok()) {
    membership_pool_.Delete(membership);
    return status;
  }
  membership->group = group;
  membership->interface = *index;
  membership->include = include;
  socket.groups.PushBack(membership);
  ++socket.group_count;
  return Status::Ok();
}

Status Datagrams::Leave(DatagramSocket& socket, const IpAddress& group, uint16_t interface,
                        Instant now) {
  if (!group.is_multicast()) return Status(EINVAL);
  SocketMembership* membership = FindMembership(socket, group, interface);
  if (membership == nullptr) return Status(EADDRNOTAVAIL);
  RemoveMembership(socket, membership, now);
  return Status::Ok();
}

void Datagrams::RemoveMembership(DatagramSocket& socket, SocketMembership* membership,
                                 Instant now) {
  // Ip refuses only when it has forgotten the interface, and the group with it.
  (void)ip_->LeaveGroup(membership->interface, membership->group, now);
  membership->node.Unlink();
  membership_pool_.Delete(membership);
  --socket.group_count;
}

void Datagrams::LeaveAll(DatagramSocket& socket, Instant now) {
  while (SocketMembership* m = socket.groups.front()) RemoveMembership(socket, m, now);
}

// Linux: ip_mc_source.
Status Datagrams::ChangeFilter(DatagramSocket& socket, const IpAddress& group, uint16_t interface,
                               const IpAddress& source, FilterChange change, Instant now) {
  if (!group.is_multicast()) return Status(EINVAL);
  const bool add = change == FilterChange::kInclude || change == FilterChange::kBlock;
  const bool include = change == FilterChange::kInclude || change == FilterChange::kDropInclude;
  SocketMembership* m = FindMembership(socket, group, interface);
  if (m == nullptr) {
    if (change != FilterChange::kInclude) {
      return Status(change == FilterChange::kDropInclude ? EADDRNOTAVAIL : EINVAL);
    }
    if (const Status joined = Join(socket, group, interface, true, now); !joined.ok()) {
      return joined;
    }
    m = socket.groups.back();
  }
  if (m->include != include) {
    if (m->source_count > 0 || include) return Status(EINVAL);
    m->include = false;
  }
  IpAddress* end = m->sources + m->source_count;
  IpAddress* found = std::find(m->sources, end, source);
  if (add) {
    if (found != end) return Status(EADDRNOTAVAIL);
    if (m->source_count == kMaxFilterSources) return Status(ENOBUFS);
    *end = source;
    ++m->source_count;
    return Status::Ok();
  }
  if (found == end) return Status(EADDRNOTAVAIL);
  std::copy(found + 1, end, found);
  --m->source_count;
  // Linux: dropping the last source of an include list leaves the group.
  if (include && m->source_count == 0) RemoveMembership(socket, m, now);
  return Status::Ok();
}

// Linux: ip_mc_sf_allow compares the interface too, inet6_mc_check does not.
bool Datagrams::WantsGroup(const DatagramSocket& socket, const IpInfo& ip) const {
  const bool v4 = ip.destination.is_v4();
  const SocketMembership* m = FindMembership(socket, ip.destination, v4 ? ip.interface : 0);
  if (m == nullptr) return v4 ? socket.options.multicast_all : socket.options.multicast_all_v6;
  const IpAddress* end = m->sources + m->source_count;
  const bool listed = std::find(m->sources, end, ip.source) != end;
  return listed == m->include;
}

}  // namespace userstack
