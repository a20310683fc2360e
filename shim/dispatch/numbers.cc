// Numbers: close, dup and fcntl. The kernel's table and ours change together, with the lock held,
// so that a number is never somebody else's in one of them.
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <climits>

#include "shim/dispatch/call.h"
#include "shim/dispatch/epoll.h"
#include "shim/spares.h"

namespace userstack::shim {
namespace {

// SO_LINGER's wait in close(): until the FIN, and with it all data, is acknowledged or the time is
// over (Linux: sk_stream_wait_close). A signal ends it, too.
class LingeringClose {
 public:
  explicit LingeringClose(SocketCall& call) : call_(call) {}

  void Wait() {
    if (!Applies()) return;
    const Instant deadline = call_.now() + Duration::Seconds(seconds_);
    if (!call_.stack().Shutdown(call_.socket(), SHUT_WR, call_.now()).ok()) return;
    while (call_.stack().HasUnacknowledged(call_.socket())) {
      // Nothing can be written any more: kEventOut comes when the FIN is acknowledged.
      if (call_.Block(kWaitWritable, deadline) != 0) return;
    }
  }

 private:
  bool Applies() {
    const Description& description = call_.description();
    if (description.references != 1 || description.pins != 0) return false;
    if (call_.socket().kind != SocketKind::kTcp) return false;
    linger value{};
    socklen_t length = sizeof value;
    const Status status = call_.stack().GetOption(call_.socket(), SOL_SOCKET, SO_LINGER, &value,
                                                  &length, call_.now());
    if (!status.ok() || value.l_onoff == 0 || value.l_linger <= 0) return false;
    seconds_ = value.l_linger;
    // Unread data makes close() a reset, at once (RFC 2525 2.17).
    const Result<int> unread = call_.stack().Ioctl(call_.socket(), SIOCINQ, call_.now());
    return unread.ok() && *unread == 0;
  }

  SocketCall& call_;
  int seconds_ = 0;
};

void Forget(int fd) {
  {
    SocketCall call(fd);
    if (call.status() == -ENETDOWN) return;
    if (call.status() == 0) {
      call.session().NoteClose(call.description());
      LingeringClose(call).Wait();
      if (call.session().failed()) return;
      KeepPlaceholder(fd, call.description(), call.now());
      Remove(CurrentProcess(), fd, call.now());
      return;
    }
  }
  Session session;
  if (!session.failed() && Lookup(fd) != nullptr) Remove(CurrentProcess(), fd, session.now());
}

// The kernel made `copy` of `fd`: ours follows.
long InstallCopy(Description* description, int fd, long copy) {
  if (copy < 0) return copy;
  if (copy >= static_cast<long>(kMaxDescriptors)) {
    RawSyscall(SYS_close, copy);
    return -EMFILE;
  }
  if (description != nullptr) {
    Install(CurrentProcess(), static_cast<int>(copy), description);
  } else {
    NoteDuplicated(fd, static_cast<int>(copy));
  }
  return copy;
}

long DuplicateOver(int fd, int target, long flags, bool dup3) {
  Session session;
  if (session.failed()) return -ENETDOWN;
  if (target >= static_cast<int>(kMaxDescriptors) && Lookup(fd) != nullptr) return -EBADF;
  const long copy =
      dup3 ? RawSyscall(SYS_dup3, fd, target, flags) : RawSyscall(SYS_dup2, fd, target);
  if (copy < 0 || fd == target) return copy;
  Description* description = Lookup(fd);
  if (description == nullptr) {
    if (Lookup(target) != nullptr) Remove(CurrentProcess(), target, session.now());
    NoteDuplicated(fd, target);
    return copy;
  }
  Install(CurrentProcess(), target, description);
  return copy;
}

// Commands that leave nothing behind in the placeholder.
bool IsHarmless(int command) {
  return command == F_GETFD || command == F_SETFD || command == F_GETFL || command == F_SETFL;
}

void NoteChanged(int fd) {
  Session session;
  Description* description = session.failed() ? nullptr : Lookup(fd);
  if (description != nullptr) description->unfit = true;
}

void SetStatusFlags(int fd, long flags) {
  Session session;
  if (session.failed()) return;
  Description* description = Lookup(fd);
  if (description == nullptr) return;
  description->nonblocking = (flags & O_NONBLOCK) != 0;
  if ((flags & (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME)) != 0) description->unfit = true;
  description->async = (flags & O_ASYNC) != 0;
}

// The kernel's close_range around what is the library's own.
long CloseAround(unsigned first, unsigned last, unsigned flags) {
  while (first <= last) {
    const int own = NextInternalDescriptor(static_cast<int>(std::min<unsigned>(first, INT_MAX)));
    if (own < 0 || static_cast<unsigned>(own) > last) {
      return RawSyscall(SYS_close_range, first, last, flags);
    }
    if (static_cast<unsigned>(own) > first) {
      const long result = RawSyscall(SYS_close_range, first, own - 1, flags);
      if (result < 0) return result;
    }
    first = static_cast<unsigned>(own) + 1;
  }
  return 0;
}

}  // namespace

long sys_close(int fd) {
  if (IsInternalDescriptor(fd)) return -EBADF;
  if (IsOurs(fd)) Forget(fd);
  return RawSyscall(SYS_close, fd);
}

long sys_close_range(unsigned first, unsigned last, unsigned flags) {
  if (first > last || g_slots == nullptr || (flags & CLOSE_RANGE_CLOEXEC) != 0) {
    return RawSyscall(SYS_close_range, first, last, flags);
  }
  {
    Session session;
    if (!session.failed()) {
      Process& process = CurrentProcess();
      for (unsigned fd = first; fd <= last && fd < process.slot_limit; ++fd) {
        if (IsOurs(static_cast<int>(fd))) {
          Remove(process, static_cast<int>(fd), session.now());
        }
      }
    }
  }
  return CloseAround(first, last, flags);
}

long sys_dup(int fd) {
  if (!IsOurs(fd)) return RawSyscall(SYS_dup, fd);
  Session session;
  if (session.failed()) return -ENETDOWN;
  return InstallCopy(Lookup(fd), fd, RawSyscall(SYS_dup, fd));
}

long sys_dup2(int fd, int target) {
  if (IsInternalDescriptor(target)) return -EBADF;
  if (!IsOurs(fd) && !IsOurs(target)) return RawSyscall(SYS_dup2, fd, target);
  return DuplicateOver(fd, target, 0, false);
}

long sys_dup3(int fd, int target, int flags) {
  if (IsInternalDescriptor(target)) return -EBADF;
  if (!IsOurs(fd) && !IsOurs(target)) return RawSyscall(SYS_dup3, fd, target, flags);
  return DuplicateOver(fd, target, flags, true);
}

long sys_fcntl(int fd, int command, long argument) {
  if (!IsOurs(fd)) return RawSyscall(SYS_fcntl, fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
    Session session;
    if (session.failed()) return -ENETDOWN;
    return InstallCopy(Lookup(fd), fd, RawSyscall(SYS_fcntl, fd, command, argument));
  }
  if (!IsHarmless(command)) NoteChanged(fd);
  // The placeholder keeps every flag, so that F_GETFL, /proc and a program after exec see them.
  const long result = RawSyscall(SYS_fcntl, fd, command, argument);
  if (command == F_SETFL && result == 0) SetStatusFlags(fd, argument);
  return result;
}

}  // namespace userstack::shim
