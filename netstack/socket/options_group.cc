// Options that name multicast groups: IP_ADD_MEMBERSHIP and its kin, IPV6_JOIN_GROUP, MCAST_*.
#include <netinet/in.h>

#include "netstack/socket/option_value.h"
#include "netstack/socket/sockets.h"

namespace userstack {
namespace {

IpAddress From(const in_addr& a) {
  return IpAddress::V4FromBytes(reinterpret_cast<const uint8_t*>(&a));
}

using FilterChange = Datagrams::FilterChange;

FilterChange ChangeOf(int name) {
  switch (name) {
    case IP_ADD_SOURCE_MEMBERSHIP:
    case MCAST_JOIN_SOURCE_GROUP:
      return FilterChange::kInclude;
    case IP_DROP_SOURCE_MEMBERSHIP:
    case MCAST_LEAVE_SOURCE_GROUP:
      return FilterChange::kDropInclude;
    case IP_BLOCK_SOURCE:
    case MCAST_BLOCK_SOURCE:
      return FilterChange::kBlock;
    default:
      return FilterChange::kUnblock;
  }
}

// Interface numbers come from the program; what is not ours finds no interface.
uint16_t Narrow(uint32_t index) {
  return index > kMaxInterfaces ? uint16_t{0xffff} : static_cast<uint16_t>(index);
}

}  // namespace

// The interface that has this address.
Result<uint16_t> Sockets::InterfaceOf(const IpAddress& address) const {
  for (unsigned slot = 0; slot < kMaxAddresses; ++slot) {
    const Address* own = ip_->AddressAt(slot);
    if (own != nullptr && own->prefix.address == address) return own->interface;
  }
  return Result<uint16_t>::Error(ENODEV);
}

Status Sockets::SetMulticastInterface(Socket& socket, const void* value, socklen_t length) {
  if (socket.kind == SocketKind::kTcp) return Status(EINVAL);
  SocketOptions& o = Options(socket);
  ip_mreqn request{};
  if (!ReadValue(value, length, &request)) {
    ip_mreq half;
    if (ReadValue(value, length, &half)) {
      request.imr_address = half.imr_interface;
    } else if (!ReadValue(value, length, &request.imr_address)) {
      return Status(EINVAL);
    }
  }
  const IpAddress address = From(request.imr_address);
  uint16_t index = 0;
  if (request.imr_ifindex == 0) {
    if (address.is_unspecified()) {
      o.multicast_interface = 0;
      o.multicast_source = IpAddress::V4(0);
      return Status::Ok();
    }
    const Result<uint16_t> found = InterfaceOf(address);
    if (!found.ok()) return Status(EADDRNOTAVAIL);
    index = *found;
  } else {
    index = Narrow(static_cast<uint32_t>(request.imr_ifindex));
    if (ip_->interface(index) == nullptr) return Status(EADDRNOTAVAIL);
  }
  if (o.bound_interface != 0 && o.bound_interface != index) return Status(EINVAL);
  o.multicast_interface = index;
  o.multicast_source = address;
  return Status::Ok();
}

Status Sockets::ChangeGroupV4(Socket& socket, int name, const void* value, socklen_t length,
                              Instant now) {
  DatagramSocket* datagram = Datagram(socket);
  if (datagram == nullptr) return Status(EPROTO);  // Linux: is_icsk
  ip_mreqn request{};
  if (!ReadValue(value, length, &request)) {
    ip_mreq half;
    if (!ReadValue(value, length, &half)) return Status(EINVAL);
    request.imr_multiaddr = half.imr_multiaddr;
    request.imr_address = half.imr_interface;
  }
  const IpAddress group = From(request.imr_multiaddr);
  const IpAddress address = From(request.imr_address);
  uint16_t index = Narrow(static_cast<uint32_t>(request.imr_ifindex));
  if (index == 0 && !address.is_unspecified()) {
    const Result<uint16_t> found = InterfaceOf(address);
    if (!found.ok()) return Status(name == IP_ADD_MEMBERSHIP ? ENODEV : EADDRNOTAVAIL);
    index = *found;
  }
  if (name == IP_ADD_MEMBERSHIP) return datagrams_->Join(*datagram, group, index, false, now);
  return datagrams_->Leave(*datagram, group, index, now);
}

Status Sockets::ChangeSourceV4(Socket& socket, int name, const void* value, socklen_t length,
                               Instant now) {
  ip_mreq_source request;
  if (length != sizeof request || !ReadValue(value, length, &request)) return Status(EINVAL);
  DatagramSocket* datagram = Datagram(socket);
  if (datagram == nullptr) return Status(EPROTO);
  const IpAddress address = From(request.imr_interface);
  uint16_t index = 0;
  if (!address.is_unspecified()) {
    const Result<uint16_t> found = InterfaceOf(address);
    if (!found.ok()) return found.status();
    index = *found;
  }
  return datagrams_->ChangeFilter(*datagram, From(request.imr_multiaddr), index,
                                  From(request.imr_sourceaddr), ChangeOf(name), now);
}

Status Sockets::ChangeGroupV6(Socket& socket, int name, const void* value, socklen_t length,
                              Instant now) {
  ipv6_mreq request;
  if (!ReadValue(value, length, &request)) return Status(EINVAL);
  DatagramSocket* datagram = Datagram(socket);
  if (datagram == nullptr) return Status(EPROTO);
  const IpAddress group = IpAddress::V6FromBytes(request.ipv6mr_multiaddr.s6_addr);
  if (group.is_v4()) return Status(EINVAL);
  const uint16_t index = Narrow(request.ipv6mr_interface);
  if (name == IPV6_JOIN_GROUP) return datagrams_->Join(*datagram, group, index, false, now);
  return datagrams_->Leave(*datagram, group, index, now);
}

Status Sockets::ChangeGroup(Socket& socket, Family family, int name, const void* value,
                            socklen_t length, Instant now) {
  DatagramSocket* datagram = Datagram(socket);
  if (datagram == nullptr) return Status(EPROTO);
  const auto decode = [family](const sockaddr_storage& storage) -> Result<IpAddress> {
    const auto endpoint =
        DecodeSockaddr(reinterpret_cast<const sockaddr*>(&storage), sizeof storage);
    if (!endpoint.ok() || endpoint.value().address.family() != family) {
      return Result<IpAddress>::Error(EADDRNOTAVAIL);
    }
    return endpoint.value().address;
  };
  if (name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP) {
    group_req request;
    if (!ReadValue(value, length, &request)) return Status(EINVAL);
    const Result<IpAddress> group = decode(request.gr_group);
    if (!group.ok()) return Status(EINVAL);
    const uint16_t index = Narrow(request.gr_interface);
    if (name == MCAST_JOIN_GROUP) return datagrams_->Join(*datagram, *group, index, false, now);
    return datagrams_->Leave(*datagram, *group, index, now);
  }
  group_source_req request;
  if (!ReadValue(value, length, &request)) return Status(EINVAL);
  const Result<IpAddress> group = decode(request.gsr_group);
  const Result<IpAddress> source = decode(request.gsr_source);
  if (!group.ok()) return group.status();
  if (!source.ok()) return source.status();
  return datagrams_->ChangeFilter(*datagram, *group, Narrow(request.gsr_interface), *source,
                                  ChangeOf(name), now);
}

}  // namespace userstack
