#include "netstack/socket/sockets.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

#include "netstack/base/check.h"

namespace userstack {
namespace {

Status WriteName(const Endpoint& endpoint, Family domain, sockaddr* address, socklen_t* length) {
  sockaddr_storage storage;
  const socklen_t full = EncodeSockaddr(endpoint, domain, &storage);
  std::memcpy(address, &storage, std::min(*length, full));
  *length = full;
  return Status::Ok();
}

}  // namespace

void Sockets::Initialize(Core* core, Ip* ip, tcp::Tcp* tcp, Udp* udp, Raw* raw,
                         Datagrams* datagrams) {
  core_ = core;
  ip_ = ip;
  tcp_ = tcp;
  udp_ = udp;
  raw_ = raw;
  datagrams_ = datagrams;
  const uint64_t limit =
      std::clamp<uint64_t>(core->arena->size() / 32 / sizeof(Socket), 64, uint64_t{1} << 20);
  pool_.Initialize(core->arena, static_cast<uint32_t>(limit), 32);
}

Socket* Sockets::New(SocketKind kind, Family family, int protocol) {
  Socket* socket = pool_.New();
  if (socket == nullptr) return nullptr;
  socket->kind = kind;
  socket->family = family;
  socket->protocol = protocol;
  socket->id = next_id_++;
  all_.PushBack(socket);
  return socket;
}

void Sockets::Delete(Socket* socket) {
  while (Watch* watch = socket->pollable.watches.front()) Detach(*watch, core_->wakes);
  socket->node.Unlink();
  pool_.Delete(socket);
}

Status Sockets::MakeTransport(Socket* socket) {
  switch (socket->kind) {
    case SocketKind::kTcp: {
      const auto made = tcp_->Create(socket->family, &socket->pollable);
      socket->tcp = made.ok() ? *made : nullptr;
      return made.status();
    }
    case SocketKind::kUdp: {
      const auto made = udp_->Create(socket->family, &socket->pollable);
      socket->udp = made.ok() ? *made : nullptr;
      return made.status();
    }
    case SocketKind::kPing:
    case SocketKind::kRaw: {
      const auto made = raw_->Create(socket->family, static_cast<uint8_t>(socket->protocol),
                                     socket->kind == SocketKind::kPing, &socket->pollable);
      socket->raw = made.ok() ? *made : nullptr;
      return made.status();
    }
  }
  return Status(ESOCKTNOSUPPORT);
}

// Linux: inet_create. The order of the checks decides between the errors.
Result<Socket*> Sockets::Create(int domain, int type, int protocol) {
  using Error = Result<Socket*>;
  if (domain != AF_INET && domain != AF_INET6) return Error::Error(EAFNOSUPPORT);
  if (protocol < 0 || protocol > 255) return Error::Error(EINVAL);
  const Family family = domain == AF_INET ? Family::kIpv4 : Family::kIpv6;
  const int echo = domain == AF_INET ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6};
  SocketKind kind;
  if (type == SOCK_STREAM) {
    if (protocol != 0 && protocol != IPPROTO_TCP) return Error::Error(EPROTONOSUPPORT);
    kind = SocketKind::kTcp;
    protocol = IPPROTO_TCP;
  } else if (type == SOCK_DGRAM && protocol == echo) {
    kind = SocketKind::kPing;
  } else if (type == SOCK_DGRAM) {
    if (protocol != 0 && protocol != IPPROTO_UDP) return Error::Error(EPROTONOSUPPORT);
    kind = SocketKind::kUdp;
    protocol = IPPROTO_UDP;
  } else if (type == SOCK_RAW) {
    if (protocol == 0) return Error::Error(EPROTONOSUPPORT);
    kind = SocketKind::kRaw;
  } else {
    return Error::Error(ESOCKTNOSUPPORT);
  }
  Socket* socket = New(kind, family, protocol);
  if (socket == nullptr) return Error::Error(ENOBUFS);
  if (const Status status = MakeTransport(socket); !status.ok()) {
    Delete(socket);
    return status;
  }
  return socket;
}

void Sockets::Destroy(Socket* socket, Instant now) {
  switch (socket->kind) {
    case SocketKind::kTcp:
      tcp_->Close(socket->tcp, now);
      break;
    case SocketKind::kUdp:
      udp_->Close(socket->udp, now);
      break;
    case SocketKind::kPing:
    case SocketKind::kRaw:
      raw_->Close(socket->raw, now);
      break;
  }
  Delete(socket);
}

Status Sockets::Listen(Socket& socket, int backlog, Instant now) {
  if (socket.kind != SocketKind::kTcp) return Status(EOPNOTSUPP);
  return tcp_->Listen(*socket.tcp, backlog, now);
}

Result<Socket*> Sockets::Accept(Socket& listener, Instant now) {
  using Error = Result<Socket*>;
  if (listener.kind != SocketKind::kTcp) return Error::Error(EOPNOTSUPP);
  if (!tcp_->IsListening(*listener.tcp)) return Error::Error(EINVAL);
  Socket* socket = New(SocketKind::kTcp, listener.family, listener.protocol);
  if (socket == nullptr) return Error::Error(ENOBUFS);
  const auto accepted = tcp_->Accept(*listener.tcp, &socket->pollable, now);
  if (!accepted.ok()) {
    Delete(socket);
    return accepted.status();
  }
  socket->tcp = *accepted;
  return socket;
}

Status Sockets::Shutdown(Socket& socket, int how, Instant now) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Status(EINVAL);
  switch (socket.kind) {
    case SocketKind::kTcp:
      return tcp_->Shutdown(*socket.tcp, how, now);
    case SocketKind::kUdp:
      return udp_->Shutdown(*socket.udp, how);
    case SocketKind::kPing:
    case SocketKind::kRaw:
      return raw_->Shutdown(*socket.raw, how);
  }
  return Status(EOPNOTSUPP);
}

Status Sockets::Receive(Socket& socket, const IoVector& data, int flags, ReceivedMessage* message,
                        Instant now) {
  *message = ReceivedMessage{};
  switch (socket.kind) {
    case SocketKind::kTcp: {
      const Result<size_t> got = tcp_->Receive(*socket.tcp, data, flags, &message->flags, now);
      if (!got.ok()) return got.status();
      message->has_source = false;
      message->length = message->copied = *got;
      return Status::Ok();
    }
    case SocketKind::kUdp:
      return udp_->Receive(*socket.udp, data, flags, message);
    case SocketKind::kPing:
    case SocketKind::kRaw:
      return raw_->Receive(*socket.raw, data, flags, message);
  }
  return Status(EOPNOTSUPP);
}

Endpoint Sockets::Local(const Socket& socket) const {
  switch (socket.kind) {
    case SocketKind::kTcp:
      return tcp_->local(*socket.tcp);
    case SocketKind::kUdp:
      return udp_->local(*socket.udp);
    case SocketKind::kPing:
    case SocketKind::kRaw:
      return raw_->local(*socket.raw);
  }
  return {};
}

Status Sockets::LocalName(const Socket& socket, sockaddr* address, socklen_t* length) const {
  return WriteName(Local(socket), socket.family, address, length);
}

Status Sockets::PeerName(const Socket& socket, sockaddr* address, socklen_t* length) const {
  const DatagramSocket* datagram = Datagram(socket);
  if (datagram == nullptr) {
    if (!tcp_->IsConnected(*socket.tcp)) return Status(ENOTCONN);
    return WriteName(tcp_->remote(*socket.tcp), socket.family, address, length);
  }
  // Linux: inet_getname asks for the port, so a peer with port 0 is none.
  if (!datagram->connected || datagram->remote.port == 0) return Status(ENOTCONN);
  return WriteName(datagram->remote, socket.family, address, length);
}

bool Sockets::HasUnacknowledged(const Socket& socket) const {
  return socket.kind == SocketKind::kTcp && tcp_->HasUnsentOrUnacknowledged(*socket.tcp);
}

bool Sockets::IsServed(SocketKind kind, const Endpoint& local) const {
  if (!ip_->IsLocal(local.address)) return false;
  switch (kind) {
    case SocketKind::kTcp:
      return tcp_->HasListener(local);
    case SocketKind::kUdp:
      return udp_->HasEndpoint(local);
    case SocketKind::kPing:
    case SocketKind::kRaw:
      return false;
  }
  return false;
}

bool Sockets::IsConnecting(const Socket& socket) const {
  if (socket.kind != SocketKind::kTcp) return false;
  const tcp::State state = socket.tcp->state;
  return state == tcp::State::kSynSent || state == tcp::State::kSynReceived;
}

Result<int> Sockets::Ioctl(Socket& socket, unsigned long request, Instant) {
  if (const DatagramSocket* datagram = Datagram(socket)) {
    const Packet* next = datagram->receive.front();
    switch (request) {
      case FIONREAD:  // SIOCINQ
        if (next == nullptr) return 0;
        return static_cast<int>(Datagrams::DatagramLength(*datagram, *next));
      case TIOCOUTQ:  // SIOCOUTQ
        return static_cast<int>(std::min<uint64_t>(datagram->bytes, INT32_MAX));
    }
    return Result<int>::Error(ENOTTY);
  }
  switch (request) {
    case FIONREAD:
    case TIOCOUTQ:
    case SIOCOUTQNSD:
      if (tcp_->IsListening(*socket.tcp)) return Result<int>::Error(EINVAL);
      break;
    case SIOCATMARK:
      return tcp_->AtUrgentMark(*socket.tcp) ? 1 : 0;
    default:
      return Result<int>::Error(ENOTTY);
  }
  if (request == FIONREAD) return static_cast<int>(tcp_->BytesReadable(*socket.tcp));
  return static_cast<int>(request == TIOCOUTQ ? tcp_->BytesInSendQueue(*socket.tcp)
                                              : tcp_->BytesUnsent(*socket.tcp));
}

// One without its transport has no descriptor yet, and one whose transport is closed has none any
// more: nobody knows of it.
void Sockets::Mend() {
  uint32_t count = 0;
  for (Socket* s = all_.front(); s != nullptr;) {
    Socket* const next = all_.Next(s);
    const DatagramSocket* datagram = Datagram(*s);
    const bool is_closed = datagram != nullptr && datagram->pollable != &s->pollable;
    if ((s->tcp == nullptr && s->udp == nullptr && s->raw == nullptr) || is_closed) {
      s->node.Unlink();
    } else {
      ++count;
    }
    s = next;
  }
  pool_.set_live(count);
}

void Sockets::CheckInvariants() const {
  uint32_t count = 0;
  for (const Socket* s = all_.front(); s != nullptr; s = all_.Next(s)) {
    ++count;
    Check((s->tcp != nullptr) == (s->kind == SocketKind::kTcp), "socket: transport of its kind");
    Check((s->udp != nullptr) == (s->kind == SocketKind::kUdp), "socket: transport of its kind");
    const bool raw = s->kind == SocketKind::kPing || s->kind == SocketKind::kRaw;
    Check((s->raw != nullptr) == raw, "socket: transport of its kind");
    const DatagramSocket* datagram = Datagram(*s);
    Check(datagram == nullptr || datagram->pollable == &s->pollable, "socket: readiness");
  }
  Check(count == pool_.live(), "socket: all are listed");
}

}  // namespace userstack
