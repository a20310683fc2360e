// Placeholder: see placeholder.h.
#include "shim/dispatch/placeholder.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>

#include "shim/real.h"

namespace userstack::shim {

long MakePlaceholder(SocketKind kind, int flags) {
  const int type = kind == SocketKind::kTcp ? SOCK_STREAM : SOCK_DGRAM;
  const long fd = RawSyscall(SYS_socket, AF_UNIX, type | flags, 0);
  if (fd < static_cast<long>(kMaxDescriptors)) return fd;
  ClosePlaceholder(fd);
  return -EMFILE;
}

void ClosePlaceholder(long fd) { RawSyscall(SYS_close, fd); }

long Publish(Session& session, Socket* socket, long fd, int flags) {
  struct stat status;
  RawSyscall(SYS_fstat, fd, Word(&status));
  Description* description = NewDescription(socket, status.st_ino);
  if (description == nullptr) {
    session.stack().DestroySocket(socket, session.now());
    ClosePlaceholder(fd);
    return -ENFILE;
  }
  description->nonblocking = (flags & SOCK_NONBLOCK) != 0;
  Install(CurrentProcess(), static_cast<int>(fd), description);
  return 0;
}

}  // namespace userstack::shim
