// Placeholder: the real kernel descriptor that stands for a socket of the stack: an unconnected
// AF_UNIX socket, so that fstat says socket, its inode is unique, and the number is the lowest free
// one.
#pragma once

#include "shim/descriptors.h"
#include "shim/runtime.h"

namespace userstack::shim {

// A number, or -errno (EMFILE also when it is beyond what the table holds). `flags`: SOCK_CLOEXEC,
// SOCK_NONBLOCK.
long MakePlaceholder(SocketKind kind, int flags);
void ClosePlaceholder(long fd);

// Gives `socket` the number `fd` in this process, with the lock held. 0 or -ENFILE; after a failure
// the number is closed and the socket destroyed.
long Publish(Session& session, Socket* socket, long fd, int flags);

}  // namespace userstack::shim
