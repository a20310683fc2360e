// Sockets: their life from socket() to shutdown().
#include <netinet/in.h>

#include <algorithm>

#include "shim/dispatch/call.h"
#include "shim/dispatch/kernel_route.h"
#include "shim/dispatch/placeholder.h"

namespace userstack::shim {
namespace {

constexpr int kTypeFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;
constexpr int kTypeMask = 0xf;  // SOCK_TYPE_MASK
constexpr int kTypes = 11;      // SOCK_MAX

long CreateOnStack(int domain, int type, int protocol) {
  const long attached = Attach();
  if (attached < 0) return attached;
  Session session;
  if (session.failed()) return -ENETDOWN;
  const Result<Socket*> socket = session.stack().CreateSocket(domain, type & ~kTypeFlags, protocol);
  if (!socket.ok()) return -socket.error();
  const Placeholder placeholder = MakePlaceholder((*socket)->kind, type & kTypeFlags);
  if (!placeholder.ok()) {
    session.stack().DestroySocket(*socket, session.now());
    return placeholder.number;
  }
  return Publish(session, *socket, placeholder);
}

// One look at the listener's queue. The number is made before the connection is taken, so that
// EMFILE leaves it in the queue, as on Linux.
long TryAccept(SocketCall& call, int flags, Socket** accepted) {
  Socket& listener = call.socket();
  Placeholder placeholder;
  if ((listener.pollable.level & kEventIn) != 0) {
    placeholder = MakePlaceholder(listener.kind, flags);
    if (!placeholder.ok()) return placeholder.number;
  }
  const Result<Socket*> result = call.stack().Accept(listener, call.now());
  if (!result.ok()) {
    if (placeholder.ok()) ClosePlaceholder(placeholder);
    return -result.error();
  }
  if (!placeholder.ok()) placeholder = MakePlaceholder(listener.kind, flags);
  if (!placeholder.ok()) {
    call.stack().DestroySocket(*result, call.now());
    return placeholder.number;
  }
  const long fd = Publish(call.session(), *result, placeholder);
  if (fd < 0) return fd;
  // Linux (sk_clone): timeouts are inherited; O_NONBLOCK is not.
  Description* description = Lookup(static_cast<int>(fd));
  description->receive_timeout = call.description().receive_timeout;
  description->send_timeout = call.description().send_timeout;
  *accepted = *result;
  return fd;
}

long Accept(int fd, sockaddr* address, socklen_t* length, int flags) {
  SocketCall call(fd);
  if (call.status() != 0) return call.status();
  call.WaitExclusively();
  Socket* accepted = nullptr;
  const Description& listener = call.description();
  const long result = Repeat(call, kWaitReadable, listener.nonblocking, listener.receive_timeout,
                             [&] { return TryAccept(call, flags, &accepted); });
  if (result >= 0 && !call.session().failed()) call.TookEvent();
  if (result < 0 || address == nullptr) return result;
  const Status named = call.stack().PeerName(*accepted, address, length);
  // Linux: a connection that was reset in the queue is still handed out, without an address.
  if (!named.ok()) *length = 0;
  return result;
}

// The outcome of a connect that was begun: 0, -errno, or -EAGAIN while it is in progress. Asking
// the stack again is what takes the outcome, so that the next connect finds none.
long ConnectOutcome(SocketCall& call, const sockaddr* address, socklen_t length) {
  if (call.stack().IsConnecting(call.socket())) return -EAGAIN;
  return -call.stack().Connect(call.socket(), address, length, call.now()).error();
}

long ConnectOnStack(int fd, const sockaddr* address, socklen_t length) {
  SocketCall call(fd);
  if (call.status() != 0) return call.status();
  const Status begun = call.stack().Connect(call.socket(), address, length, call.now());
  const int error = begun.error();
  if (error != EINPROGRESS && error != EALREADY) return -error;
  if (call.description().nonblocking) return -error;
  const long result = Repeat(call, kWaitWritable, false, call.description().send_timeout,
                             [&] { return ConnectOutcome(call, address, length); });
  return result == -EAGAIN ? -error : result;
}

enum class Side : uint8_t { kLocal, kPeer };

long Name(int fd, Side side, sockaddr* address, socklen_t* length) {
  if (!IsOurs(fd)) return kNotOurs;
  SocketCall call(fd);
  if (call.status() != 0) return call.status();
  if (IsBadAddress(length)) return -EFAULT;
  if (static_cast<int>(*length) < 0) return -EINVAL;
  if (*length != 0 && IsBadAddress(address)) return -EFAULT;
  const Status status = side == Side::kLocal
                            ? call.stack().LocalName(call.socket(), address, length)
                            : call.stack().PeerName(call.socket(), address, length);
  return -status.error();
}

long CheckAddress(const sockaddr* address, socklen_t length) {
  if (length > sizeof(sockaddr_storage)) return -EINVAL;
  return length != 0 && IsBadAddress(address) ? -EFAULT : 0;
}

}  // namespace

long sys_socket(int domain, int type, int protocol) {
  const bool internet = domain == AF_INET || domain == AF_INET6;
  if (internet) {
    switch (CurrentMode()) {
      case Mode::kKernel:
        break;
      case Mode::kStack:
        // Linux (__sys_socket, __sock_create): before the family has a say.
        if ((type & ~(kTypeMask | kTypeFlags)) != 0 || (type & kTypeMask) >= kTypes) return -EINVAL;
        return CreateOnStack(domain, type, protocol);
      case Mode::kBroken:
        return -ENETDOWN;
    }
  }
  return RawSyscall(SYS_socket, domain, type, protocol);
}

long sys_bind(int fd, const sockaddr* address, socklen_t length) {
  if (IsOurs(fd)) {
    const long bad = CheckAddress(address, length);
    if (bad != 0) return bad;
    const long moved = RouteBind(fd, address, length);
    if (moved < 0) return moved;
  }
  if (IsOurs(fd)) {
    SocketCall call(fd);
    if (call.status() == 0) return -call.stack().Bind(call.socket(), address, length).error();
    if (call.status() != kNotOurs) return call.status();
  }
  return RawSyscall(SYS_bind, fd, Word(address), length);
}

long sys_listen(int fd, int backlog) {
  if (IsOurs(fd)) {
    SocketCall call(fd);
    if (call.status() == 0) return -call.stack().Listen(call.socket(), backlog, call.now()).error();
    if (call.status() != kNotOurs) return call.status();
  }
  return RawSyscall(SYS_listen, fd, backlog);
}

long sys_accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  if (IsOurs(fd)) {
    if ((flags & ~kTypeFlags) != 0) return -EINVAL;
    if (address != nullptr && IsBadAddress(length)) return -EFAULT;
    if (address != nullptr && static_cast<int>(*length) < 0) return -EINVAL;
    const long result = Accept(fd, address, length, flags);
    if (result != kNotOurs) return result;
  }
  return RawSyscall(SYS_accept4, fd, Word(address), Word(length), flags);
}

long sys_connect(int fd, const sockaddr* address, socklen_t length) {
  if (IsOurs(fd)) {
    const long bad = CheckAddress(address, length);
    if (bad != 0) return bad;
    const long moved = RouteConnect(fd, address, length);
    if (moved < 0) return moved;
  }
  if (IsOurs(fd)) {
    const long result = ConnectOnStack(fd, address, length);
    if (result != kNotOurs) return result;
  }
  return RawSyscall(SYS_connect, fd, Word(address), length);
}

long sys_shutdown(int fd, int how) {
  if (IsOurs(fd)) {
    SocketCall call(fd);
    if (call.status() == 0) {
      if (how == SHUT_WR) call.session().NoteClose(call.description());
      return -call.stack().Shutdown(call.socket(), how, call.now()).error();
    }
    if (call.status() != kNotOurs) return call.status();
  }
  return RawSyscall(SYS_shutdown, fd, how);
}

long sys_getsockname(int fd, sockaddr* address, socklen_t* length) {
  const long result = Name(fd, Side::kLocal, address, length);
  return result != kNotOurs ? result : RawSyscall(SYS_getsockname, fd, Word(address), Word(length));
}

long sys_getpeername(int fd, sockaddr* address, socklen_t* length) {
  const long result = Name(fd, Side::kPeer, address, length);
  return result != kNotOurs ? result : RawSyscall(SYS_getpeername, fd, Word(address), Word(length));
}

}  // namespace userstack::shim
