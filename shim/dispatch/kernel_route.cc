// Kernel route: see kernel_route.h.
#include "shim/dispatch/kernel_route.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <cstring>

#include "shim/dispatch/call.h"
#include "shim/dispatch/epoll.h"

namespace userstack::shim {
namespace {

struct Option {
  int level;
  int name;
  bool doubled;  // getsockopt says twice what setsockopt took
};

// What a program may have set before it named an address. Those of the other family fail on both
// sides and are passed over.
constexpr Option kOptions[] = {
    {SOL_SOCKET, SO_REUSEADDR, false},
    {SOL_SOCKET, SO_REUSEPORT, false},
    {SOL_SOCKET, SO_KEEPALIVE, false},
    {SOL_SOCKET, SO_BROADCAST, false},
    {SOL_SOCKET, SO_OOBINLINE, false},
    {SOL_SOCKET, SO_LINGER, false},
    {SOL_SOCKET, SO_SNDBUF, true},
    {SOL_SOCKET, SO_RCVBUF, true},
    {SOL_SOCKET, SO_RCVLOWAT, false},
    {SOL_SOCKET, SO_PRIORITY, false},
    {SOL_SOCKET, SO_MARK, false},
    {SOL_SOCKET, SO_TIMESTAMP, false},
    {SOL_SOCKET, SO_TIMESTAMPNS, false},
    {IPPROTO_IP, IP_TOS, false},
    {IPPROTO_IP, IP_TTL, false},
    {IPPROTO_IP, IP_PKTINFO, false},
    {IPPROTO_IP, IP_RECVERR, false},
    {IPPROTO_IP, IP_RECVTTL, false},
    {IPPROTO_IP, IP_RECVTOS, false},
    {IPPROTO_IP, IP_MTU_DISCOVER, false},
    {IPPROTO_IP, IP_FREEBIND, false},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, false},
    {IPPROTO_IP, IP_MULTICAST_TTL, false},
    {IPPROTO_IP, IP_MULTICAST_LOOP, false},
    {IPPROTO_IPV6, IPV6_V6ONLY, false},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, false},
    {IPPROTO_IPV6, IPV6_TCLASS, false},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, false},
    {IPPROTO_IPV6, IPV6_RECVERR, false},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, false},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, false},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, false},
    {IPPROTO_TCP, TCP_NODELAY, false},
    {IPPROTO_TCP, TCP_CORK, false},
    {IPPROTO_TCP, TCP_KEEPIDLE, false},
    {IPPROTO_TCP, TCP_KEEPINTVL, false},
    {IPPROTO_TCP, TCP_KEEPCNT, false},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, false},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, false},
    {IPPROTO_TCP, TCP_CONGESTION, false},
};

struct Registration {
  int epoll;
  int descriptor;
  epoll_event event;
};
constexpr size_t kMaxRegistrations = 64;

int TypeOf(SocketKind kind) {
  switch (kind) {
    case SocketKind::kTcp:
      return SOCK_STREAM;
    case SocketKind::kUdp:
    case SocketKind::kPing:
      return SOCK_DGRAM;
    case SocketKind::kRaw:
      return SOCK_RAW;
  }
  return SOCK_STREAM;
}

// Sets on `kernel` what differs in `socket` from a socket that nobody has touched: defaults of the
// two sides may differ without the program having asked for it.
void ReplayOptions(SocketCall& call, const Socket& untouched, long kernel) {
  for (const Option& option : kOptions) {
    uint8_t ours[64] = {};
    uint8_t fresh[64] = {};
    socklen_t ours_length = sizeof ours;
    socklen_t fresh_length = sizeof fresh;
    Stack& stack = call.stack();
    if (!stack.GetOption(call.socket(), option.level, option.name, ours, &ours_length, call.now())
             .ok() ||
        !stack
             .GetOption(const_cast<Socket&>(untouched), option.level, option.name, fresh,
                        &fresh_length, call.now())
             .ok()) {
      continue;
    }
    if (ours_length == fresh_length && std::memcmp(ours, fresh, ours_length) == 0) continue;
    if (option.doubled) {
      int value = 0;
      std::memcpy(&value, ours, sizeof value);
      value /= 2;
      std::memcpy(ours, &value, sizeof value);
    }
    RawSyscall(SYS_setsockopt, kernel, option.level, option.name, Word(ours), ours_length);
  }
}

void ReplayTimeouts(const Description& description, long kernel) {
  const auto replay = [kernel](int name, Duration timeout) {
    if (timeout == Duration::Infinite()) return;
    const timeval time{timeout.seconds(), timeout.microseconds() % 1'000'000};
    RawSyscall(SYS_setsockopt, kernel, SOL_SOCKET, name, Word(&time), sizeof time);
  };
  replay(SO_RCVTIMEO, description.receive_timeout);
  replay(SO_SNDTIMEO, description.send_timeout);
}

// The name it was bound to, if any. 0 or -errno of the kernel's bind.
long ReplayName(SocketCall& call, long kernel) {
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  auto* address = reinterpret_cast<sockaddr*>(&name);
  if (!call.stack().LocalName(call.socket(), address, &length).ok()) return 0;
  const Result<Endpoint> local = DecodeSockaddr(address, length);
  if (!local.ok() || ((*local).port == 0 && (*local).address.is_unspecified())) return 0;
  return RawSyscall(SYS_bind, kernel, Word(&name), length);
}

size_t CollectRegistrations(const Description& description, Registration* out) {
  size_t count = 0;
  auto& watches = description.socket->pollable.watches;
  for (Watch* watch = watches.front(); watch != nullptr; watch = watches.Next(watch)) {
    if (watch->descriptor < 0 || count == kMaxRegistrations) continue;
    const int epoll = FindEpollDescriptor(*watch->set);
    if (epoll < 0) continue;
    out[count++] = {epoll, watch->descriptor, EventOf(*watch)};
  }
  return count;
}

// Puts the kernel's socket under every number that this process has for `description`, which the
// caller keeps alive.
void Replace(Session& session, Description* description, long kernel) {
  Process& process = CurrentProcess();
  for (unsigned fd = 0; fd < process.slot_limit; ++fd) {
    if (process.slots[fd].description.load(std::memory_order_relaxed) != description) continue;
    const long flags = RawSyscall(SYS_fcntl, fd, F_GETFD);
    Remove(process, static_cast<int>(fd), session.now());
    RawSyscall(SYS_dup3, kernel, fd, flags > 0 && (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
  }
}

long MoveToKernel(int fd) {
  SocketCall call(fd);
  if (call.status() == kNotOurs) return 1;
  if (call.status() != 0) return call.status();
  Description& description = call.description();
  const Socket& socket = call.socket();
  const int domain = socket.family == Family::kIpv4 ? AF_INET : AF_INET6;
  const int type = TypeOf(socket.kind);
  const int flags = SOCK_CLOEXEC | (description.nonblocking ? SOCK_NONBLOCK : 0);
  const long kernel = RawSyscall(SYS_socket, domain, type | flags, socket.protocol);
  if (kernel < 0) return kernel;
  const Result<Socket*> untouched = call.stack().CreateSocket(domain, type, socket.protocol);
  if (untouched.ok()) {
    ReplayOptions(call, **untouched, kernel);
    call.stack().DestroySocket(*untouched, call.now());
  }
  ReplayTimeouts(description, kernel);
  const long bound = ReplayName(call, kernel);
  if (bound < 0) {
    RawSyscall(SYS_close, kernel);
    return bound;
  }
  Registration registrations[kMaxRegistrations];
  const size_t count = CollectRegistrations(description, registrations);
  AddReference(&description);
  Replace(call.session(), &description, kernel);
  DropReference(&description, call.now());
  RawSyscall(SYS_close, kernel);
  for (size_t i = 0; i < count; ++i) {
    AddKernelItem(call.session(), registrations[i].epoll, registrations[i].descriptor,
                  registrations[i].event);
  }
  return 1;
}

bool IsKernelAddress(const sockaddr* address, socklen_t length) {
  const Result<Endpoint> endpoint = DecodeSockaddr(address, length);
  return endpoint.ok() && IsKernelDestination(*endpoint);
}

// Has the program tied this socket to the stack already?
bool IsInUse(SocketCall& call, bool carried_counts) {
  sockaddr_storage name{};
  auto* address = reinterpret_cast<sockaddr*>(&name);
  socklen_t length = sizeof name;
  if (call.stack().IsConnecting(call.socket())) return true;
  if (call.socket().kind == SocketKind::kTcp &&
      call.stack().PeerName(call.socket(), address, &length).ok()) {
    return true;
  }
  int listening = 0;
  length = sizeof listening;
  const Status status = call.stack().GetOption(call.socket(), SOL_SOCKET, SO_ACCEPTCONN, &listening,
                                               &length, call.now());
  if (status.ok() && listening != 0) return true;
  if (carried_counts && call.description().carried) return true;
  length = sizeof name;
  if (!call.stack().LocalName(call.socket(), address, &length).ok()) return false;
  const Result<Endpoint> local = DecodeSockaddr(address, length);
  return local.ok() && !(*local).address.is_unspecified();
}

// A conversation of programs of one stack: whoever listens at the wildcard does so on the stack,
// and is found there under every address that the stack has, those left to the kernel included.
bool IsServedHere(SocketCall& call, const sockaddr* address, socklen_t length) {
  const Result<Endpoint> endpoint = DecodeSockaddr(address, length);
  return endpoint.ok() && call.stack().IsServed(call.socket().kind, *endpoint);
}

// Does the stack keep this socket although the rules leave `address` to the kernel?
bool StaysHere(int fd, const char* call_name, const sockaddr* address, socklen_t length,
               bool carried_counts) {
  {
    SocketCall call(fd);
    if (call.status() != 0 || IsInUse(call, carried_counts)) return true;
    if (!IsServedHere(call, address, length)) return false;
  }
  Log(LogLevel::kInfo, "descriptor %d: %s names a socket of this stack: it stays on the stack", fd,
      call_name);
  return true;
}

long Move(int fd, const char* call_name) {
  const long moved = MoveToKernel(fd);
  if (moved > 0) {
    Log(LogLevel::kInfo, "descriptor %d: %s names a kernel destination: a kernel socket now", fd,
        call_name);
  }
  return moved;
}

}  // namespace

long RouteBind(int fd, const sockaddr* address, socklen_t length) {
  return IsKernelAddress(address, length) ? Move(fd, "bind") : 0;
}

long RouteConnect(int fd, const sockaddr* address, socklen_t length) {
  if (!IsKernelAddress(address, length)) return 0;
  return StaysHere(fd, "connect", address, length, false) ? 0 : Move(fd, "connect");
}

long RouteSend(int fd, const sockaddr* address, socklen_t length) {
  if (!IsKernelAddress(address, length)) return 0;
  return StaysHere(fd, "sendto", address, length, true) ? 0 : Move(fd, "sendto");
}

}  // namespace userstack::shim
