// Stray: sockets of the stack in SCM_RIGHTS messages that no process of the stack took: the message
// was dropped unread, or its receiver is not of the stack. The message's reference is given back
// when the placeholder no longer exists: the kernel lists every AF_UNIX socket, with its inode, in
// /proc/net/unix for as long as anybody holds it, a message in a queue included.
//
// Owner: the pump. Invariant: only descriptions without a slot are looked for, so that a
// placeholder that is not listed is gone for good.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr unsigned kMaxStray = 64;  // at a time
constexpr int kScans = 2;           // the list is no snapshot: a line may be passed over

struct Stray {
  Description* description;
  uint64_t inode;
  bool listed;
};

bool IsStray(const Description& d) { return d.references == 0 && d.pins == 0; }

unsigned Collect(Stray* strays) {
  unsigned count = 0;
  if (!EnterStack()) return 0;
  for (Description* d = g_shared->in_flight.front(); d != nullptr && count < kMaxStray;
       d = g_shared->in_flight.Next(d)) {
    if (IsStray(*d)) strays[count++] = {d, d->inode, false};
  }
  LeaveStack();
  return count;
}

// "Num RefCount Protocol Flags Type St Inode Path": the seventh field. 0: not a line of a socket.
uint64_t InodeOf(const char* line) {
  for (int field = 1; field < 7; ++field) {
    line += strspn(line, " ");
    line += strcspn(line, " ");
  }
  return strtoull(line, nullptr, 10);
}

// Calls `visit(inode)` for each socket on the list.
template <typename Visit>
void ForEachUnixSocket(Visit visit) {
  const long fd = RawSyscall(SYS_open, Word("/proc/thread-self/net/unix"), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  char buffer[8192];
  size_t filled = 0;
  for (;;) {
    const long n =
        RawSyscall(SYS_read, fd, Word(buffer + filled), static_cast<long>(sizeof(buffer) - filled));
    if (n <= 0) break;
    filled += static_cast<size_t>(n);
    char* line = buffer;
    while (auto* end = static_cast<char*>(memchr(line, '\n', buffer + filled - line))) {
      *end = '\0';
      visit(InodeOf(line));
      line = end + 1;
    }
    filled = static_cast<size_t>(buffer + filled - line);
    memmove(buffer, line, filled);
    if (filled == sizeof(buffer)) filled = 0;  // no line is that long
  }
  RawSyscall(SYS_close, fd);
}

// One look at the list. False: it is not ours, or cannot be read (a socket that lives is not on
// it).
bool Scan(Stray* strays, unsigned count) {
  struct stat own;
  if (RawSyscall(SYS_fstat, g_local.ringer_descriptor, Word(&own)) != 0) return false;
  bool found_own = false;
  ForEachUnixSocket([&](uint64_t inode) {
    found_own |= inode == own.st_ino;
    for (unsigned i = 0; i < count; ++i) strays[i].listed |= strays[i].inode == inode;
  });
  return found_own;
}

// Descriptions may have gone meanwhile, and others may have their place: asked by inode again.
void Release(const Stray* strays, unsigned count) {
  if (!EnterStack()) return;
  const Instant now = MonotonicNow();
  for (unsigned i = 0; i < count; ++i) {
    if (strays[i].listed) continue;
    for (Description* d = g_shared->in_flight.front(); d != nullptr;
         d = g_shared->in_flight.Next(d)) {
      if (d != strays[i].description || d->inode != strays[i].inode || !IsStray(*d)) continue;
      Log(LogLevel::kInfo, "a socket in a message that nobody of this stack took is closed");
      DropFlight(d, now);
      break;
    }
  }
  Drain(now);
  LeaveStack();
}

}  // namespace

void ReleaseStrayRights() {
  if (g_shared->in_flight.empty()) return;  // without the lock: the next time will do
  Stray strays[kMaxStray];
  const unsigned count = Collect(strays);
  if (count == 0) return;
  for (int scan = 0; scan < kScans; ++scan) {
    if (!Scan(strays, count)) return;
  }
  Release(strays, count);
}

}  // namespace userstack::shim
