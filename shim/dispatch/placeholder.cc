// Placeholder: see placeholder.h.
#include "shim/dispatch/placeholder.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>

#include "shim/real.h"
#include "shim/spares.h"

namespace userstack::shim {

Placeholder MakePlaceholder(SocketKind kind, int flags) {
  if (kind == SocketKind::kTcp) {
    const SparePlacement placement = TakeSpare(flags);
    if (placement.number != -1) return {placement.number, placement.spare, flags};
  }
  const int type = kind == SocketKind::kTcp ? SOCK_STREAM : SOCK_DGRAM;
  const Placeholder made{RawSyscall(SYS_socket, AF_UNIX, type | flags, 0), -1, flags};
  if (made.number < static_cast<long>(kMaxDescriptors)) return made;
  ClosePlaceholder(made);
  return {-EMFILE};
}

void ClosePlaceholder(const Placeholder& placeholder) {
  RawSyscall(SYS_close, placeholder.number);
  if (placeholder.spare >= 0) PutBack(placeholder.spare, placeholder.flags);
}

long Publish(Session& session, Socket* socket, const Placeholder& placeholder) {
  struct stat status {};
  if (placeholder.spare < 0) RawSyscall(SYS_fstat, placeholder.number, Word(&status));
  Description* description = NewDescription(socket, status.st_ino);
  if (description == nullptr) {
    session.stack().DestroySocket(socket, session.now());
    ClosePlaceholder(placeholder);
    return -ENFILE;
  }
  description->nonblocking = (placeholder.flags & SOCK_NONBLOCK) != 0;
  if (placeholder.spare >= 0) Use(placeholder.spare, *description, session.now());
  Install(CurrentProcess(), static_cast<int>(placeholder.number), description);
  return placeholder.number;
}

}  // namespace userstack::shim
