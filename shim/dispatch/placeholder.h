// Placeholder: the real kernel descriptor that stands for a socket of the stack: an unconnected
// AF_UNIX socket, so that fstat says socket, its inode is unique, and the number is the lowest free
// one. With the lock held.
#pragma once

#include "shim/descriptors.h"
#include "shim/runtime.h"

namespace userstack::shim {

struct Placeholder {
  long number = -1;  // or -errno
  int spare = -1;    // what it is a copy of (spares.h); -1: a socket of its own
  int flags = 0;
  bool ok() const { return number >= 0; }
};

// A number, or -errno (EMFILE also when it is beyond what the table holds). `flags`: SOCK_CLOEXEC,
// SOCK_NONBLOCK.
Placeholder MakePlaceholder(SocketKind kind, int flags);
void ClosePlaceholder(const Placeholder& placeholder);

// Gives `socket` the number in this process. The number, or -ENFILE; after a failure it is closed
// and the socket destroyed.
long Publish(Session& session, Socket* socket, const Placeholder& placeholder);

}  // namespace userstack::shim
