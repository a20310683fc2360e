// Hooks: socket, bind, connect and their relatives.
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

constinit Original<int(int, int, int)> real_socket("socket");
constinit Original<int(int, const sockaddr*, socklen_t)> real_bind("bind");
constinit Original<int(int, int)> real_listen("listen");
constinit Original<int(int, sockaddr*, socklen_t*)> real_accept("accept");
constinit Original<int(int, sockaddr*, socklen_t*, int)> real_accept4("accept4");
constinit Original<int(int, const sockaddr*, socklen_t)> real_connect("connect");
constinit Original<int(int, int)> real_shutdown("shutdown");
constinit Original<int(int, sockaddr*, socklen_t*)> real_getsockname("getsockname");
constinit Original<int(int, sockaddr*, socklen_t*)> real_getpeername("getpeername");
constinit Original<int(int, int, int, void*, socklen_t*)> real_getsockopt("getsockopt");
constinit Original<int(int, int, int, const void*, socklen_t)> real_setsockopt("setsockopt");
constinit Original<int(int)> real_sockatmark("sockatmark");

[[gnu::constructor]] void BindAll() {
  Bind(real_socket, real_bind, real_listen, real_accept, real_accept4, real_connect, real_shutdown,
       real_getsockname, real_getpeername, real_getsockopt, real_setsockopt, real_sockatmark);
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int socket(int domain, int type, int protocol) noexcept {
  const bool internet = domain == AF_INET || domain == AF_INET6;
  if (internet && CurrentMode() != Mode::kKernel) {
    return ReturnInt(sys_socket(domain, type, protocol));
  }
  const int fd = real_socket(domain, type, protocol);
  OnNewNumber(fd);
  return fd;
}

int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  if (!IsOurs(fd)) return real_bind(fd, address, length);
  return ReturnInt(sys_bind(fd, address, length));
}

int listen(int fd, int backlog) noexcept {
  if (!IsOurs(fd)) return real_listen(fd, backlog);
  return ReturnInt(sys_listen(fd, backlog));
}

int accept(int fd, sockaddr* address, socklen_t* length) {
  if (IsOurs(fd)) return ReturnInt(CancellationPoint<sys_accept4>(fd, address, length, 0));
  const int accepted = real_accept(fd, address, length);
  OnNewNumber(accepted);
  return accepted;
}

int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  if (IsOurs(fd)) return ReturnInt(CancellationPoint<sys_accept4>(fd, address, length, flags));
  const int accepted = real_accept4(fd, address, length, flags);
  OnNewNumber(accepted);
  return accepted;
}

int connect(int fd, const sockaddr* address, socklen_t length) {
  if (!IsOurs(fd)) return real_connect(fd, address, length);
  return ReturnInt(CancellationPoint<sys_connect>(fd, address, length));
}
[[gnu::alias("connect")]] int __connect(int fd, const sockaddr* address, socklen_t length);

int shutdown(int fd, int how) noexcept {
  if (!IsOurs(fd)) return real_shutdown(fd, how);
  return ReturnInt(sys_shutdown(fd, how));
}

int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (!IsOurs(fd)) return real_getsockname(fd, address, length);
  return ReturnInt(sys_getsockname(fd, address, length));
}

int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (!IsOurs(fd)) return real_getpeername(fd, address, length);
  return ReturnInt(sys_getpeername(fd, address, length));
}

int getsockopt(int fd, int level, int name, void* value, socklen_t* length) noexcept {
  if (!IsOurs(fd)) return real_getsockopt(fd, level, name, value, length);
  return ReturnInt(sys_getsockopt(fd, level, name, value, length));
}

int setsockopt(int fd, int level, int name, const void* value, socklen_t length) noexcept {
  if (!IsOurs(fd)) return real_setsockopt(fd, level, name, value, length);
  return ReturnInt(sys_setsockopt(fd, level, name, value, length));
}

int sockatmark(int fd) noexcept {
  if (!IsOurs(fd)) return real_sockatmark(fd);
  int mark = 0;
  const int result = ReturnInt(sys_ioctl(fd, SIOCATMARK, &mark));
  return result < 0 ? result : mark;
}

}  // extern "C"
