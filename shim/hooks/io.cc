// Hooks: read, write, recv, send and their relatives.
#include <sys/uio.h>
#include <unistd.h>

#include "shim/dispatch/rights.h"
#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

constinit Original<ssize_t(int, void*, size_t)> real_read("read");
constinit Original<ssize_t(int, const void*, size_t)> real_write("write");
constinit Original<ssize_t(int, const iovec*, int)> real_readv("readv");
constinit Original<ssize_t(int, const iovec*, int)> real_writev("writev");
constinit Original<ssize_t(int, const iovec*, int, off_t)> real_preadv("preadv");
constinit Original<ssize_t(int, const iovec*, int, off_t)> real_pwritev("pwritev");
constinit Original<ssize_t(int, const iovec*, int, off_t, int)> real_preadv2("preadv2");
constinit Original<ssize_t(int, const iovec*, int, off_t, int)> real_pwritev2("pwritev2");
constinit Original<ssize_t(int, void*, size_t, int)> real_recv("recv");
constinit Original<ssize_t(int, const void*, size_t, int)> real_send("send");
constinit Original<ssize_t(int, void*, size_t, int, sockaddr*, socklen_t*)> real_recvfrom(
    "recvfrom");
constinit Original<ssize_t(int, const void*, size_t, int, const sockaddr*, socklen_t)> real_sendto(
    "sendto");
constinit Original<ssize_t(int, msghdr*, int)> real_recvmsg("recvmsg");
constinit Original<ssize_t(int, const msghdr*, int)> real_sendmsg("sendmsg");
constinit Original<int(int, mmsghdr*, unsigned, int, timespec*)> real_recvmmsg("recvmmsg");
constinit Original<int(int, mmsghdr*, unsigned, int)> real_sendmmsg("sendmmsg");
constinit Original<ssize_t(int, void*, size_t, size_t)> real_read_chk("__read_chk");
constinit Original<ssize_t(int, void*, size_t, size_t, int)> real_recv_chk("__recv_chk");
constinit Original<ssize_t(int, void*, size_t, size_t, int, sockaddr*, socklen_t*)>
    real_recvfrom_chk("__recvfrom_chk");
constinit Original<ssize_t(int, int, off_t*, size_t)> real_sendfile("sendfile");
constinit Original<ssize_t(int, off_t*, int, off_t*, size_t, unsigned)> real_splice("splice");
constinit Original<void()> real_chk_fail("__chk_fail");

[[gnu::constructor]] void BindAll() {
  Bind(real_read, real_write, real_readv, real_writev, real_preadv, real_pwritev, real_preadv2,
       real_pwritev2, real_recv, real_send, real_recvfrom, real_sendto, real_recvmsg, real_sendmsg,
       real_recvmmsg, real_sendmmsg, real_read_chk, real_recv_chk, real_recvfrom_chk, real_sendfile,
       real_splice, real_chk_fail);
}

// FORTIFY: a read of more than the buffer holds ends the program, before anything is read.
void CheckSize(size_t size, size_t buffer_size) {
  if (size > buffer_size) [[unlikely]]
    real_chk_fail();
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

ssize_t read(int fd, void* buffer, size_t size) {
  if (!IsOurs(fd)) [[likely]]
    return real_read(fd, buffer, size);
  return Return(CancellationPoint<sys_read>(fd, buffer, size));
}
[[gnu::alias("read")]] ssize_t __read(int fd, void* buffer, size_t size);

ssize_t __read_chk(int fd, void* buffer, size_t size, size_t buffer_size) {
  if (!IsOurs(fd)) [[likely]]
    return real_read_chk(fd, buffer, size, buffer_size);
  CheckSize(size, buffer_size);
  return Return(CancellationPoint<sys_read>(fd, buffer, size));
}

ssize_t write(int fd, const void* buffer, size_t size) {
  if (!IsOurs(fd)) [[likely]]
    return real_write(fd, buffer, size);
  return Return(CancellationPoint<sys_write>(fd, buffer, size));
}
[[gnu::alias("write")]] ssize_t __write(int fd, const void* buffer, size_t size);

ssize_t readv(int fd, const iovec* entries, int count) {
  if (!IsOurs(fd)) [[likely]]
    return real_readv(fd, entries, count);
  return Return(CancellationPoint<sys_readv>(fd, entries, count));
}

ssize_t writev(int fd, const iovec* entries, int count) {
  if (!IsOurs(fd)) [[likely]]
    return real_writev(fd, entries, count);
  return Return(CancellationPoint<sys_writev>(fd, entries, count));
}

// A socket has no position: the kernel says ESPIPE of the placeholder as it does of any socket.
ssize_t preadv(int fd, const iovec* entries, int count, off_t offset) {
  return real_preadv(fd, entries, count, offset);
}
[[gnu::alias("preadv")]] ssize_t preadv64(int fd, const iovec* entries, int count, off64_t offset);

ssize_t pwritev(int fd, const iovec* entries, int count, off_t offset) {
  return real_pwritev(fd, entries, count, offset);
}
[[gnu::alias("pwritev")]] ssize_t pwritev64(int fd, const iovec* entries, int count,
                                            off64_t offset);

ssize_t preadv2(int fd, const iovec* entries, int count, off_t offset, int flags) {
  if (!IsOurs(fd)) [[likely]]
    return real_preadv2(fd, entries, count, offset, flags);
  return Return(CancellationPoint<sys_preadv2>(fd, entries, count, offset, flags));
}
[[gnu::alias("preadv2")]] ssize_t preadv64v2(int fd, const iovec* entries, int count,
                                             off64_t offset, int flags);

ssize_t pwritev2(int fd, const iovec* entries, int count, off_t offset, int flags) {
  if (!IsOurs(fd)) [[likely]]
    return real_pwritev2(fd, entries, count, offset, flags);
  return Return(CancellationPoint<sys_pwritev2>(fd, entries, count, offset, flags));
}
[[gnu::alias("pwritev2")]] ssize_t pwritev64v2(int fd, const iovec* entries, int count,
                                               off64_t offset, int flags);

ssize_t recv(int fd, void* buffer, size_t size, int flags) {
  if (!IsOurs(fd)) [[likely]]
    return real_recv(fd, buffer, size, flags);
  return Return(CancellationPoint<sys_recvfrom>(fd, buffer, size, flags, nullptr, nullptr));
}

ssize_t __recv_chk(int fd, void* buffer, size_t size, size_t buffer_size, int flags) {
  if (!IsOurs(fd)) [[likely]]
    return real_recv_chk(fd, buffer, size, buffer_size, flags);
  CheckSize(size, buffer_size);
  return Return(CancellationPoint<sys_recvfrom>(fd, buffer, size, flags, nullptr, nullptr));
}

ssize_t recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                 socklen_t* length) {
  if (!IsOurs(fd)) [[likely]]
    return real_recvfrom(fd, buffer, size, flags, address, length);
  return Return(CancellationPoint<sys_recvfrom>(fd, buffer, size, flags, address, length));
}

ssize_t __recvfrom_chk(int fd, void* buffer, size_t size, size_t buffer_size, int flags,
                       sockaddr* address, socklen_t* length) {
  if (!IsOurs(fd)) [[likely]] {
    return real_recvfrom_chk(fd, buffer, size, buffer_size, flags, address, length);
  }
  CheckSize(size, buffer_size);
  return Return(CancellationPoint<sys_recvfrom>(fd, buffer, size, flags, address, length));
}

ssize_t send(int fd, const void* buffer, size_t size, int flags) {
  if (!IsOurs(fd)) [[likely]]
    return real_send(fd, buffer, size, flags);
  return Return(CancellationPoint<sys_sendto>(fd, buffer, size, flags, nullptr, 0));
}
[[gnu::alias("send")]] ssize_t __send(int fd, const void* buffer, size_t size, int flags);

ssize_t sendto(int fd, const void* buffer, size_t size, int flags, const sockaddr* address,
               socklen_t length) {
  if (!IsOurs(fd)) [[likely]]
    return real_sendto(fd, buffer, size, flags, address, length);
  return Return(CancellationPoint<sys_sendto>(fd, buffer, size, flags, address, length));
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  if (IsOurs(fd)) return Return(CancellationPoint<sys_recvmsg>(fd, message, flags));
  const ssize_t result = real_recvmsg(fd, message, flags);
  if (result >= 0) AdoptReceivedRights(message, flags);
  return result;
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (IsOurs(fd) || CarriesOurs(message))
    return Return(CancellationPoint<sys_sendmsg>(fd, message, flags));
  return real_sendmsg(fd, message, flags);
}

int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!IsOurs(fd)) [[likely]]
    return real_recvmmsg(fd, messages, count, flags, timeout);
  return ReturnInt(CancellationPoint<sys_recvmmsg>(fd, messages, count, flags, timeout));
}

int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (!IsOurs(fd)) [[likely]]
    return real_sendmmsg(fd, messages, count, flags);
  return ReturnInt(CancellationPoint<sys_sendmmsg>(fd, messages, count, flags));
}

ssize_t sendfile(int out, int in, off_t* offset, size_t count) noexcept {
  if (!IsOurs(out)) [[likely]]
    return real_sendfile(out, in, offset, count);
  return Return(sys_sendfile(out, in, offset, count));
}
[[gnu::alias("sendfile")]] ssize_t sendfile64(int out, int in, off64_t* offset,
                                              size_t count) noexcept;

ssize_t splice(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size,
               unsigned flags) {
  if (!IsOurs(in) && !IsOurs(out)) [[likely]] {
    return real_splice(in, in_offset, out, out_offset, size, flags);
  }
  return Return(CancellationPoint<sys_splice>(in, in_offset, out, out_offset, size, flags));
}

}  // extern "C"
