// IPPROTO_IP, as do_ip_setsockopt and do_ip_getsockopt of Linux have it.
#include <netinet/in.h>

#include "netstack/socket/option_value.h"
#include "netstack/socket/sockets.h"

namespace userstack {
namespace {

constexpr int kIpProtocol = 52;  // IP_PROTOCOL, newer than some headers

constexpr FlagOption kFlags[] = {
    {IP_PKTINFO, &SocketOptions::packet_info},
    {IP_RECVTTL, &SocketOptions::receive_ttl},
    {IP_RECVTOS, &SocketOptions::receive_tos},
    {IP_RECVERR, &SocketOptions::receive_error},
    {IP_FREEBIND, &SocketOptions::free_bind},
    {IP_TRANSPARENT, &SocketOptions::transparent},
    {IP_RECVORIGDSTADDR, &SocketOptions::receive_original_destination},
    {IP_BIND_ADDRESS_NO_PORT, &SocketOptions::bind_address_no_port},
    {IP_MULTICAST_LOOP, &SocketOptions::multicast_loop},
    {IP_MULTICAST_ALL, &SocketOptions::multicast_all},
    {IP_RECVOPTS, &SocketOptions::receive_ip_options},
    {IP_RETOPTS, &SocketOptions::receive_ip_options_raw},
    {IP_PASSSEC, &SocketOptions::pass_security},
};

// Linux insists on a value for these, where the others read an empty one as 0.
bool NeedsValue(int name) {
  switch (name) {
    case IP_TTL:
    case IP_MULTICAST_TTL:
    case IP_MULTICAST_LOOP:
    case IP_MULTICAST_ALL:
    case IP_FREEBIND:
    case IP_MINTTL:
      return true;
  }
  return false;
}

// Options of this level may be given as one byte.
int ReadIntOrByte(const void* value, socklen_t length) {
  int v = 0;
  if (ReadValue(value, length, &v)) return v;
  uint8_t byte = 0;
  return ReadValue(value, length, &byte) ? byte : 0;
}

// And are given back as one byte when that is all the room there is.
Status WriteIntOrByte(int v, void* value, socklen_t* length) {
  if (*length<sizeof v&& * length> 0 && v >= 0 && v <= 255) {
    return WriteValue(static_cast<uint8_t>(v), value, length);
  }
  return WriteValue(v, value, length);
}

}  // namespace

Status Sockets::SetIpInteger(Socket& socket, int name, int v, socklen_t length) {
  SocketOptions& o = Options(socket);
  const bool stream = socket.kind == SocketKind::kTcp;
  switch (name) {
    case IP_TOS:
      // Linux: the ECN bits of a stream belong to TCP (__ip_sock_set_tos).
      if (stream) v = (v & ~3) | (o.tos & 3);
      o.tos = static_cast<uint8_t>(v);
      return Status::Ok();
    case IP_TTL:
      if (v != -1 && (v < 1 || v > 255)) return Status(EINVAL);
      o.ttl = static_cast<int16_t>(v);
      return Status::Ok();
    case IP_MINTTL:
      if (v < 0 || v > 255) return Status(EINVAL);
      o.minimum_ttl = static_cast<uint8_t>(v);
      return Status::Ok();
    case IP_MTU_DISCOVER:
      if (v < IP_PMTUDISC_DONT || v > IP_PMTUDISC_OMIT) return Status(EINVAL);
      o.mtu_discover = static_cast<uint8_t>(v);
      return Status::Ok();
    case IP_MULTICAST_TTL:
      if (stream) return Status(EINVAL);
      if (v == -1) v = 1;
      if (v < 0 || v > 255) return Status(EINVAL);
      o.multicast_ttl = static_cast<int16_t>(v);
      return Status::Ok();
    case IP_UNICAST_IF: {
      if (length != sizeof(int)) return Status(EINVAL);
      const uint32_t index = ByteSwap(static_cast<uint32_t>(v));
      if (index != 0 &&
          (index > kMaxInterfaces || ip_->interface(static_cast<uint16_t>(index)) == nullptr)) {
        return Status(EADDRNOTAVAIL);
      }
      if (index != 0 && o.bound_interface != 0 && o.bound_interface != index) {
        return Status(EINVAL);
      }
      o.unicast_interface = static_cast<uint16_t>(index);
      return Status::Ok();
    }
    // No packet of ours carries options, so an empty list is all that can be set.
    case IP_OPTIONS:
      return Status(length == 0 ? 0 : EOPNOTSUPP);
  }
  return Status(ENOPROTOOPT);
}

Status Sockets::SetIpOption(Socket& socket, int name, const void* value, socklen_t length,
                            Instant now) {
  switch (name) {
    case IP_MULTICAST_IF:
      return SetMulticastInterface(socket, value, length);
    case IP_ADD_MEMBERSHIP:
    case IP_DROP_MEMBERSHIP:
      return ChangeGroupV4(socket, name, value, length, now);
    case IP_ADD_SOURCE_MEMBERSHIP:
    case IP_DROP_SOURCE_MEMBERSHIP:
    case IP_BLOCK_SOURCE:
    case IP_UNBLOCK_SOURCE:
      return ChangeSourceV4(socket, name, value, length, now);
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP:
    case MCAST_JOIN_SOURCE_GROUP:
    case MCAST_LEAVE_SOURCE_GROUP:
    case MCAST_BLOCK_SOURCE:
    case MCAST_UNBLOCK_SOURCE:
      return ChangeGroup(socket, Family::kIpv4, name, value, length, now);
  }
  if (NeedsValue(name) && length < 1) return Status(EINVAL);
  const int v = ReadIntOrByte(value, length);
  if (const FlagOption* flag = FindFlag(kFlags, name)) {
    if (name == IP_MULTICAST_ALL && v != 0 && v != 1) return Status(EINVAL);
    Options(socket).*flag->member = v != 0;
    return Status::Ok();
  }
  return SetIpInteger(socket, name, v, length);
}

Status Sockets::GetIpOption(Socket& socket, int name, void* value, socklen_t* length) {
  const SocketOptions& o = Options(socket);
  if (const FlagOption* flag = FindFlag(kFlags, name)) {
    return WriteIntOrByte(o.*flag->member ? 1 : 0, value, length);
  }
  int v = 0;
  switch (name) {
    case IP_TOS:
      v = o.tos;
      break;
    case IP_TTL:
      v = o.ttl == -1 ? kDefaultHopLimit : o.ttl;
      break;
    case IP_MINTTL:
      v = o.minimum_ttl;
      break;
    case IP_MTU_DISCOVER:
      v = o.mtu_discover;
      break;
    case IP_MTU:
      v = static_cast<int>(PathMtu(socket));
      if (v == 0) return Status(ENOTCONN);
      break;
    case IP_MULTICAST_TTL:
      v = o.multicast_ttl;
      break;
    case IP_UNICAST_IF:
      v = static_cast<int>(ByteSwap(uint32_t{o.unicast_interface}));
      break;
    case IP_MULTICAST_IF: {
      in_addr address;
      std::memcpy(&address, o.multicast_source.v4_bytes(), 4);
      return WriteValue(address, value, length);
    }
    case IP_OPTIONS:
      *length = 0;
      return Status::Ok();
    case kIpProtocol:
      v = socket.protocol;
      break;
    default:
      return Status(ENOPROTOOPT);
  }
  return WriteIntOrByte(v, value, length);
}

}  // namespace userstack
