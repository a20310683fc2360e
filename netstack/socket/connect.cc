// The calls that take addresses: bind, connect, send.
#include <netinet/in.h>

#include "netstack/socket/sockets.h"

namespace userstack {

// Linux: inet_bind takes AF_UNSPEC for the wildcard, because old programs say it so.
Result<Endpoint> Sockets::DecodeForBind(const Socket& socket, const sockaddr* address,
                                        socklen_t length) const {
  using Error = Result<Endpoint>;
  const Result<int> family = SockaddrFamily(address, length);
  if (!family.ok()) return family.status();
  if (socket.family == Family::kIpv6) {
    if (length < 24) return Error::Error(EINVAL);  // SIN6_LEN_RFC2133
    if (*family != AF_INET6) return Error::Error(EAFNOSUPPORT);
    return DecodeSockaddr(address, length);
  }
  if (length < sizeof(sockaddr_in)) return Error::Error(EINVAL);
  if (*family == AF_INET) return DecodeSockaddr(address, length);
  if (*family != AF_UNSPEC) return Error::Error(EAFNOSUPPORT);
  sockaddr_in in;
  std::memcpy(&in, address, sizeof in);
  if (in.sin_addr.s_addr != INADDR_ANY) return Error::Error(EAFNOSUPPORT);
  return Endpoint{IpAddress::V4(0), ByteSwap(in.sin_port), 0};
}

Status Sockets::Bind(Socket& socket, const sockaddr* address, socklen_t length) {
  const Result<Endpoint> local = DecodeForBind(socket, address, length);
  if (!local.ok()) return local.status();
  switch (socket.kind) {
    case SocketKind::kTcp:
      return tcp_->Bind(*socket.tcp, *local);
    case SocketKind::kUdp:
      return udp_->Bind(*socket.udp, *local);
    case SocketKind::kPing:
    case SocketKind::kRaw:
      return raw_->Bind(*socket.raw, *local);
  }
  return Status(EOPNOTSUPP);
}

// Linux: tcp_v4_connect, tcp_v6_connect, ip4_datagram_connect, ip6_datagram_connect.
Result<Endpoint> Sockets::DecodeForConnect(const Socket& socket, const sockaddr* address,
                                           socklen_t length) const {
  using Error = Result<Endpoint>;
  const Result<int> family = SockaddrFamily(address, length);
  if (!family.ok()) return family.status();
  const bool v6 = socket.family == Family::kIpv6;
  if (*family == AF_INET && v6 && socket.kind != SocketKind::kTcp) {
    // A datagram socket takes an IPv4 address as it is.
    if (Options(socket).v6_only) return Error::Error(EAFNOSUPPORT);
    return DecodeSockaddr(address, length);
  }
  if (length < (v6 ? 24 : sizeof(sockaddr_in))) return Error::Error(EINVAL);
  if (*family != (v6 ? AF_INET6 : AF_INET)) return Error::Error(EAFNOSUPPORT);
  const Result<Endpoint> remote = DecodeSockaddr(address, length);
  if (!remote.ok()) return remote;
  if (v6 && remote.value().address.is_v4() && Options(socket).v6_only) {
    return Error::Error(ENETUNREACH);
  }
  return remote;
}

Status Sockets::Connect(Socket& socket, const sockaddr* address, socklen_t length, Instant now) {
  const Result<int> family = SockaddrFamily(address, length);
  if (!family.ok()) return family.status();
  if (socket.kind == SocketKind::kTcp) return ConnectTcp(socket, address, length, now);
  const bool udp = socket.kind == SocketKind::kUdp;
  if (*family == AF_UNSPEC) {
    if (udp) {
      udp_->Disconnect(*socket.udp);
    } else {
      raw_->Disconnect(*socket.raw);
    }
    return Status::Ok();
  }
  const Result<Endpoint> remote = DecodeForConnect(socket, address, length);
  if (!remote.ok()) return remote.status();
  return udp ? udp_->Connect(*socket.udp, *remote) : raw_->Connect(*socket.raw, *remote);
}

Status Sockets::ConnectTcp(Socket& socket, const sockaddr* address, socklen_t length, Instant now) {
  if (SockaddrFamily(address, length).value() == AF_UNSPEC) return DisconnectTcp(socket, now);
  const Result<Endpoint> remote = DecodeForConnect(socket, address, length);
  const tcp::Connection& c = *socket.tcp;
  const bool fresh =
      c.state == tcp::State::kClosed && !c.connecting && !c.connected && !c.disconnecting;
  // Linux (__inet_stream_connect): an earlier call's outcome comes before the look at the address.
  if (!remote.ok() && !fresh) return tcp_->Connect(*socket.tcp, {}, now);
  if (!remote.ok()) return remote.status();
  Endpoint to = *remote;
  // Linux: tcp_v6_connect, a link-local peer needs a scope, and fixes the socket's.
  if (to.address.is_v6() && to.address.is_link_local()) {
    SocketOptions& options = Options(socket);
    if (to.interface == 0) to.interface = options.bound_interface;
    if (to.interface == 0) return Status(EINVAL);
    if (options.bound_interface != 0 && options.bound_interface != to.interface) {
      return Status(EINVAL);
    }
    options.bound_interface = to.interface;
  }
  return tcp_->Connect(*socket.tcp, to, now);
}

// connect(AF_UNSPEC) makes a new beginning: what was is reset (Linux: tcp_disconnect), the options
// stay.
Status Sockets::DisconnectTcp(Socket& socket, Instant now) {
  return tcp_->Disconnect(*socket.tcp, now);
}

// Linux: udp_sendmsg, udpv6_sendmsg, raw_sendmsg.
Result<const Endpoint*> Sockets::DecodeDestination(const Socket& socket,
                                                   const sockaddr* destination, socklen_t length,
                                                   Endpoint* to) const {
  using Error = Result<const Endpoint*>;
  if (destination == nullptr || length == 0) return Error(nullptr);
  const Result<int> family = SockaddrFamily(destination, length);
  if (!family.ok()) return family.status();
  if (socket.family == Family::kIpv4) {
    if (length < sizeof(sockaddr_in)) return Error::Error(EINVAL);
    if (*family != AF_INET && *family != AF_UNSPEC) return Error::Error(EAFNOSUPPORT);
    // AF_UNSPEC counts as AF_INET here.
    sockaddr_in in;
    std::memcpy(&in, destination, sizeof in);
    *to = {IpAddress::V4FromBytes(reinterpret_cast<const uint8_t*>(&in.sin_addr)),
           ByteSwap(in.sin_port), 0};
    return Error(to);
  }
  if (*family == AF_UNSPEC) return Error(nullptr);
  if (*family != AF_INET && *family != AF_INET6) return Error::Error(EINVAL);
  const Result<Endpoint> decoded = DecodeSockaddr(destination, length);
  if (!decoded.ok()) return decoded.status();
  if (decoded.value().address.is_v4()) {
    if (Options(socket).v6_only) return Error::Error(ENETUNREACH);
    if (socket.kind != SocketKind::kUdp) return Error::Error(EINVAL);
  }
  *to = *decoded;
  return Error(to);
}

Result<size_t> Sockets::Send(Socket& socket, const IoVector& data, int flags,
                             const sockaddr* destination, socklen_t destination_length,
                             const Ancillary* ancillary, Instant now) {
  // Linux: a stream's destination is ignored.
  if (socket.kind == SocketKind::kTcp) return tcp_->Send(*socket.tcp, data, flags, now);
  Endpoint storage;
  const Result<const Endpoint*> to =
      DecodeDestination(socket, destination, destination_length, &storage);
  if (!to.ok()) return to.status();
  if (socket.kind == SocketKind::kUdp) {
    return udp_->Send(*socket.udp, data, *to, ancillary, flags, now);
  }
  return raw_->Send(*socket.raw, data, *to, ancillary, flags, now);
}

}  // namespace userstack
