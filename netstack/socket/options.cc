// The switch over option levels, and what all levels need.
#include <netinet/in.h>

#include "netstack/socket/option_value.h"
#include "netstack/socket/sockets.h"

namespace userstack {

DatagramSocket* Sockets::Datagram(const Socket& socket) const {
  switch (socket.kind) {
    case SocketKind::kTcp:
      return nullptr;
    case SocketKind::kUdp:
      return socket.udp;
    case SocketKind::kPing:
    case SocketKind::kRaw:
      return socket.raw;
  }
  return nullptr;
}

SocketOptions& Sockets::Options(Socket& socket) {
  DatagramSocket* datagram = Datagram(socket);
  return datagram != nullptr ? datagram->options : tcp_->options(*socket.tcp);
}

const SocketOptions& Sockets::Options(const Socket& socket) const {
  const DatagramSocket* datagram = Datagram(socket);
  return datagram != nullptr ? datagram->options : tcp_->options(*socket.tcp);
}

void Sockets::OptionsChanged(Socket& socket, Instant now) {
  if (DatagramSocket* datagram = Datagram(socket)) {
    datagrams_->OnOptionsChanged(*datagram);
  } else {
    tcp_->OptionsChanged(*socket.tcp, now);
  }
}

int Sockets::TakeError(Socket& socket) {
  if (DatagramSocket* datagram = Datagram(socket)) return datagrams_->TakeError(*datagram);
  return tcp_->TakeError(*socket.tcp);
}

// 0 when the socket is not connected.
uint32_t Sockets::PathMtu(const Socket& socket) const {
  const DatagramSocket* datagram = Datagram(socket);
  const bool connected = datagram != nullptr ? datagram->connected : tcp_->IsConnected(*socket.tcp);
  if (!connected) return 0;
  const Endpoint remote = datagram != nullptr ? datagram->remote : tcp_->remote(*socket.tcp);
  const IpAddress any = IpAddress::Any(remote.address.family());
  const Result<Route> route = ip_->FindRoute(any, remote.address, Options(socket).bound_interface);
  return route.ok() ? route.value().mtu : 0;
}

Status Sockets::SetOption(Socket& socket, int level, int name, const void* value, socklen_t length,
                          Instant now) {
  if (length > INT32_MAX) return Status(EINVAL);
  Status status(ENOPROTOOPT);
  if (socket.raw != nullptr) {
    // What only raw sockets know comes first; the rest is common.
    status = raw_->SetOption(*socket.raw, level, name, value, length);
    if (status.error() != ENOPROTOOPT) return status;
  }
  switch (level) {
    case SOL_SOCKET:
      status = SetSocketOption(socket, name, value, length);
      break;
    case IPPROTO_IP:
      status = SetIpOption(socket, name, value, length, now);
      break;
    case IPPROTO_IPV6:
      if (socket.family == Family::kIpv6) status = SetIpv6Option(socket, name, value, length, now);
      break;
    case IPPROTO_TCP:
      if (socket.kind != SocketKind::kTcp) break;
      return tcp_->SetOption(*socket.tcp, name, value, length, now);
    case IPPROTO_UDP:
      if (socket.kind != SocketKind::kUdp) break;
      return udp_->SetOption(*socket.udp, name, value, length, now);
  }
  if (status.ok()) OptionsChanged(socket, now);
  return status;
}

Status Sockets::GetOption(Socket& socket, int level, int name, void* value, socklen_t* length,
                          Instant now) {
  if (*length > INT32_MAX) return Status(EINVAL);
  if (socket.raw != nullptr) {
    const Status status = raw_->GetOption(*socket.raw, level, name, value, length);
    if (status.error() != ENOPROTOOPT) return status;
  }
  switch (level) {
    case SOL_SOCKET:
      return GetSocketOption(socket, name, value, length);
    case IPPROTO_IP:
      return GetIpOption(socket, name, value, length);
    case IPPROTO_IPV6:
      if (socket.family != Family::kIpv6) break;
      return GetIpv6Option(socket, name, value, length);
    case IPPROTO_TCP:
      if (socket.kind != SocketKind::kTcp) break;
      return tcp_->GetOption(*socket.tcp, name, value, length, now);
    case IPPROTO_UDP:
      if (socket.kind != SocketKind::kUdp) break;
      return udp_->GetOption(*socket.udp, name, value, length);
  }
  // Linux: ip_getsockopt and ipv6_getsockopt differ in what they say to a level they do not know.
  return Status(socket.family == Family::kIpv4 ? EOPNOTSUPP : ENOPROTOOPT);
}

}  // namespace userstack
