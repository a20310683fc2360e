// Kernel route: sockets that turn out to be the kernel's. A program makes its socket before it says
// where to; when the first address it names is one of USERSTACK_KERNEL, the socket becomes a kernel
// socket of the same type under the same numbers, with the options, flags and epoll registrations
// it had. Unless a socket of this stack listens (TCP) or is bound (UDP) there, as one at the
// wildcard is under 127.0.0.1 too: then the conversation is the stack's own. Either way one line at
// level info says so.
//
// Owner: the stack's lock during the move. Invariant: afterwards no slot of this process names the
// old description.
#pragma once

#include <sys/socket.h>

namespace userstack::shim {

// 1: `fd` is the kernel's now; 0: it stays with the stack; -errno: it should have moved and could
// not.
long RouteBind(int fd, const sockaddr* address, socklen_t length);
long RouteConnect(int fd, const sockaddr* address, socklen_t length);
long RouteSend(int fd, const sockaddr* address, socklen_t length);

}  // namespace userstack::shim
