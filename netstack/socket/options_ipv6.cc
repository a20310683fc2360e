// IPPROTO_IPV6, as do_ipv6_setsockopt and do_ipv6_getsockopt of Linux have it.
#include <netinet/in.h>

#include <algorithm>
#include <iterator>

#include "netstack/socket/option_value.h"
#include "netstack/socket/sockets.h"

namespace userstack {
namespace {

constexpr int kFlowInfo = 11;      // IPV6_FLOWINFO
constexpr int kFlowInfoSend = 33;  // IPV6_FLOWINFO_SEND

constexpr FlagOption kFlags[] = {
    {IPV6_RECVPKTINFO, &SocketOptions::packet_info_v6},
    {IPV6_RECVHOPLIMIT, &SocketOptions::receive_hop_limit},
    {IPV6_RECVTCLASS, &SocketOptions::receive_traffic_class},
    {IPV6_RECVERR, &SocketOptions::receive_error_v6},
    {IPV6_DONTFRAG, &SocketOptions::dont_fragment_v6},
    {IPV6_FREEBIND, &SocketOptions::free_bind},
    {IPV6_TRANSPARENT, &SocketOptions::transparent},
    {IPV6_RECVORIGDSTADDR, &SocketOptions::receive_original_destination},
    {IPV6_AUTOFLOWLABEL, &SocketOptions::auto_flow_label},
    {kFlowInfo, &SocketOptions::receive_flow_label},
    {kFlowInfoSend, &SocketOptions::send_flow_label},
    {IPV6_MULTICAST_LOOP, &SocketOptions::multicast_loop_v6},
    {IPV6_MULTICAST_ALL, &SocketOptions::multicast_all_v6},
    // No extension headers are handed up, so these are kept and have nothing to say.
    {IPV6_RECVRTHDR, &SocketOptions::receive_routing_header},
    {IPV6_RECVHOPOPTS, &SocketOptions::receive_hop_options},
    {IPV6_RECVDSTOPTS, &SocketOptions::receive_destination_options},
    {IPV6_RECVPATHMTU, &SocketOptions::receive_path_mtu},
};

// What SetIpv6Integer knows.
bool IsInteger(int name) {
  constexpr int kNames[] = {
      IPV6_V6ONLY,      IPV6_TCLASS,       IPV6_UNICAST_HOPS, IPV6_MULTICAST_HOPS,
      IPV6_MINHOPCOUNT, IPV6_MTU_DISCOVER, IPV6_MTU,          IPV6_MULTICAST_IF,
      IPV6_UNICAST_IF,  IPV6_ADDRFORM,     IPV6_JOIN_ANYCAST, IPV6_LEAVE_ANYCAST};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

int EffectiveHops(int16_t hops, int fallback) { return hops == -1 ? fallback : hops; }

}  // namespace

Status Sockets::SetIpv6Integer(Socket& socket, int name, int v) {
  SocketOptions& o = Options(socket);
  const bool stream = socket.kind == SocketKind::kTcp;
  switch (name) {
    case IPV6_V6ONLY:
      if (Local(socket).port != 0) return Status(EINVAL);
      o.v6_only = v != 0;
      return Status::Ok();
    case IPV6_TCLASS:
      if (v < -1 || v > 0xff) return Status(EINVAL);
      if (v == -1) v = 0;
      if (stream) v = (v & ~3) | (o.traffic_class & 3);
      o.traffic_class = static_cast<uint8_t>(v);
      return Status::Ok();
    case IPV6_UNICAST_HOPS:
      if (v < -1 || v > 255) return Status(EINVAL);
      o.unicast_hops = static_cast<int16_t>(v);
      return Status::Ok();
    case IPV6_MULTICAST_HOPS:
      if (stream) return Status(ENOPROTOOPT);
      if (v < -1 || v > 255) return Status(EINVAL);
      o.multicast_hops = static_cast<int16_t>(v == -1 ? 1 : v);
      return Status::Ok();
    case IPV6_MINHOPCOUNT:
      if (v < 0 || v > 255) return Status(EINVAL);
      o.minimum_hop_limit = static_cast<uint8_t>(v);
      return Status::Ok();
    case IPV6_MTU_DISCOVER:
      if (v < IPV6_PMTUDISC_DONT || v > IPV6_PMTUDISC_OMIT) return Status(EINVAL);
      o.mtu_discover_v6 = static_cast<uint8_t>(v);
      return Status::Ok();
    case IPV6_MTU:
      if (v != 0 && v < 1280) return Status(EINVAL);
      o.mtu_limit_v6 = static_cast<uint32_t>(v);
      return Status::Ok();
    case IPV6_MULTICAST_IF:
    case IPV6_UNICAST_IF: {
      if (stream && name == IPV6_MULTICAST_IF) return Status(ENOPROTOOPT);
      // IPV6_UNICAST_IF is in network order, its sister is not.
      const uint32_t index =
          name == IPV6_UNICAST_IF ? ByteSwap(static_cast<uint32_t>(v)) : static_cast<uint32_t>(v);
      if (index != 0) {
        if (index > kMaxInterfaces || ip_->interface(static_cast<uint16_t>(index)) == nullptr) {
          return Status(name == IPV6_UNICAST_IF ? EADDRNOTAVAIL : ENODEV);
        }
        if (o.bound_interface != 0 && o.bound_interface != index) return Status(EINVAL);
      }
      (name == IPV6_UNICAST_IF ? o.unicast_interface_v6 : o.multicast_interface_v6) =
          static_cast<uint16_t>(index);
      return Status::Ok();
    }
    // Changing a socket's family under its descriptor, anycast groups and flow label leases are
    // refused.
    case IPV6_ADDRFORM:
    case IPV6_JOIN_ANYCAST:
    case IPV6_LEAVE_ANYCAST:
      return Status(EOPNOTSUPP);
  }
  return Status(ENOPROTOOPT);
}

Status Sockets::SetIpv6Option(Socket& socket, int name, const void* value, socklen_t length,
                              Instant now) {
  switch (name) {
    case IPV6_JOIN_GROUP:
    case IPV6_LEAVE_GROUP:
      return ChangeGroupV6(socket, name, value, length, now);
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP:
    case MCAST_JOIN_SOURCE_GROUP:
    case MCAST_LEAVE_SOURCE_GROUP:
    case MCAST_BLOCK_SOURCE:
    case MCAST_UNBLOCK_SOURCE:
      return ChangeGroup(socket, Family::kIpv6, name, value, length, now);
    case IPV6_HOPOPTS:
    case IPV6_RTHDRDSTOPTS:
    case IPV6_RTHDR:
    case IPV6_DSTOPTS:
      // Sticky extension headers: only "none" can be set.
      return Status(length == 0 ? 0 : EOPNOTSUPP);
    case IPV6_PKTINFO: {
      if (length == 0) return Status(EINVAL);
      in6_pktinfo info;
      if (!ReadValue(value, length, &info)) return Status(EINVAL);
      SocketOptions& o = Options(socket);
      if (info.ipi6_ifindex > kMaxInterfaces) return Status(ENODEV);
      if (info.ipi6_ifindex != 0 && o.bound_interface != 0 &&
          o.bound_interface != info.ipi6_ifindex) {
        return Status(EINVAL);
      }
      o.sticky_interface_v6 = static_cast<uint16_t>(info.ipi6_ifindex);
      o.sticky_source_v6 = IpAddress::V6FromBytes(info.ipi6_addr.s6_addr);
      return Status::Ok();
    }
  }
  int v = 0;
  if (!ReadValue(value, length, &v)) {
    // An option that nobody knows is ENOPROTOOPT whatever its length.
    return Status(FindFlag(kFlags, name) != nullptr || IsInteger(name) ? EINVAL : ENOPROTOOPT);
  }
  if (const FlagOption* flag = FindFlag(kFlags, name)) {
    if ((name == IPV6_MULTICAST_LOOP || name == IPV6_MULTICAST_ALL) && v != 0 && v != 1) {
      return Status(EINVAL);
    }
    Options(socket).*flag->member = v != 0;
    return Status::Ok();
  }
  return SetIpv6Integer(socket, name, v);
}

Status Sockets::GetIpv6Option(Socket& socket, int name, void* value, socklen_t* length) {
  const SocketOptions& o = Options(socket);
  if (const FlagOption* flag = FindFlag(kFlags, name)) {
    return WriteValue(o.*flag->member ? 1 : 0, value, length);
  }
  int v = 0;
  switch (name) {
    case IPV6_V6ONLY:
      v = o.v6_only;
      break;
    case IPV6_TCLASS:
      v = o.traffic_class;
      break;
    case IPV6_UNICAST_HOPS:
      v = EffectiveHops(o.unicast_hops, kDefaultHopLimit);
      break;
    case IPV6_MULTICAST_HOPS:
      v = EffectiveHops(o.multicast_hops, 1);
      break;
    case IPV6_MINHOPCOUNT:
      v = o.minimum_hop_limit;
      break;
    case IPV6_MTU_DISCOVER:
      v = o.mtu_discover_v6;
      break;
    case IPV6_MTU:
      v = static_cast<int>(PathMtu(socket));
      if (v == 0) return Status(ENOTCONN);
      break;
    case IPV6_PATHMTU: {
      ip6_mtuinfo info{};
      info.ip6m_mtu = PathMtu(socket);
      if (info.ip6m_mtu == 0) return Status(ENOTCONN);
      if (*length < sizeof info) return Status(EINVAL);
      return WriteValue(info, value, length);
    }
    case IPV6_MULTICAST_IF:
      v = o.multicast_interface_v6;
      break;
    case IPV6_UNICAST_IF:
      v = static_cast<int>(ByteSwap(uint32_t{o.unicast_interface_v6}));
      break;
    case IPV6_ADDRFORM:
      if (PathMtu(socket) == 0) return Status(ENOTCONN);
      v = AF_INET6;
      break;
    case IPV6_HOPOPTS:
    case IPV6_RTHDRDSTOPTS:
    case IPV6_RTHDR:
    case IPV6_DSTOPTS:
      *length = 0;
      return Status::Ok();
    default:
      return Status(ENOPROTOOPT);
  }
  return WriteValue(v, value, length);
}

}  // namespace userstack
