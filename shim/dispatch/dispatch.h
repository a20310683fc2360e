// Dispatch: the system calls as the stack's descriptors answer them. Kernel semantics: a value, or
// -errno; errno is never touched. A number that is not the stack's goes to the kernel as it is, so
// that every front end (exported symbols now, rewritten call sites later) may call these for any
// descriptor; the exported symbols ask IsOurs first and call libc's original, which keeps
// cancellation and costs nothing.
//
// Rooms by noun: sockets.cc, options.cc, io.cc, message.cc (control data: control.h), polling.cc,
// selecting.cc, epoll*.cc, numbers.cc (close, dup, fcntl), ioctl.cc, transfer.cc (sendfile,
// splice), kernel_route.cc (sockets that turn out to be the kernel's), interfaces.cc.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <ctime>
#include <limits>

#include "netstack/base/time.h"

namespace userstack::shim {

// An answer of the functions behind sys_*: the descriptor is not a stack's; ask the kernel.
inline constexpr long kNotOurs = std::numeric_limits<long>::min();

// --- sockets.cc ---
long sys_socket(int domain, int type, int protocol);
long sys_bind(int fd, const sockaddr* address, socklen_t length);
long sys_listen(int fd, int backlog);
long sys_accept4(int fd, sockaddr* address, socklen_t* length, int flags);
long sys_connect(int fd, const sockaddr* address, socklen_t length);
long sys_shutdown(int fd, int how);
long sys_getsockname(int fd, sockaddr* address, socklen_t* length);
long sys_getpeername(int fd, sockaddr* address, socklen_t* length);
// --- options.cc ---
long sys_getsockopt(int fd, int level, int name, void* value, socklen_t* length);
long sys_setsockopt(int fd, int level, int name, const void* value, socklen_t length);
// --- io.cc ---
long sys_read(int fd, void* buffer, size_t size);
long sys_write(int fd, const void* buffer, size_t size);
long sys_readv(int fd, const iovec* entries, int count);
long sys_writev(int fd, const iovec* entries, int count);
long sys_preadv2(int fd, const iovec* entries, int count, off_t offset, int flags);
long sys_pwritev2(int fd, const iovec* entries, int count, off_t offset, int flags);
long sys_recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                  socklen_t* length);
long sys_sendto(int fd, const void* buffer, size_t size, int flags, const sockaddr* address,
                socklen_t length);
// --- message.cc ---
long sys_recvmsg(int fd, msghdr* message, int flags);
long sys_sendmsg(int fd, const msghdr* message, int flags);
long sys_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout);
long sys_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags);
// --- polling.cc, selecting.cc ---
// `timeout` null: for ever. `remaining` may be null; it gets what is left of the timeout.
long sys_ppoll(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* mask,
               Duration* remaining);
long sys_pselect6(int count, fd_set* read, fd_set* write, fd_set* except, const timespec* timeout,
                  const sigset_t* mask, Duration* remaining);
bool AnyOurs(const pollfd* entries, nfds_t count);
bool AnyOurs(int count, const fd_set* read, const fd_set* write, const fd_set* except);
// --- epoll.cc ---
long sys_epoll_ctl(int epoll, int operation, int fd, epoll_event* event);
// `timeout` null: for ever.
long sys_epoll_pwait2(int epoll, epoll_event* events, int limit, const timespec* timeout,
                      const sigset_t* mask);
// --- numbers.cc ---
long sys_close(int fd);
long sys_close_range(unsigned first, unsigned last, unsigned flags);
long sys_dup(int fd);
long sys_dup2(int fd, int target);
long sys_dup3(int fd, int target, int flags);
long sys_fcntl(int fd, int command, long argument);
// --- ioctl.cc ---
long sys_ioctl(int fd, unsigned long request, void* argument);
// --- transfer.cc ---
long sys_sendfile(int out, int in, off_t* offset, size_t count);
long sys_splice(int in, off_t* in_offset, int out, off_t* out_offset, size_t size, unsigned flags);

// `timeout` as ppoll takes it; false when it is not valid.
bool ParseTimeout(const timespec* timeout, Instant* deadline, bool* at_once);

// --- by_number.cc ---
// One system call by number, as libc's syscall() passes it: *handled says whether it concerned the
// stack; if not, the caller makes it. Processes and their ends are the caller's too.
long DispatchByNumber(long number, const long* arguments, bool* handled);

}  // namespace userstack::shim
