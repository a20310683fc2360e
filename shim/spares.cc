// Spares: see spares.h.
#include "shim/spares.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr unsigned kSpares = 32;  // as bits of a word
// Making one beyond the program's numbers may need its limit raised for a moment: not more often
// than this, and not for one of the connections that come and go while all spares do too.
constexpr Duration kMakeInterval = Duration::Milliseconds(1);
constexpr Duration kLongLived = Duration::Milliseconds(100);

struct Spare {
  int number = -1;
  uint64_t inode = 0;
  const Description* user = nullptr;
  Instant used;
};

struct Spares {
  Spare table[kSpares];
  // Disjoint: free with O_NONBLOCK clear and set, and those to be closed. The rest is in use, or
  // was never made.
  uint32_t free[2] = {};
  uint32_t stale = 0;
  unsigned made = 0;
  unsigned next_victim = 0;
  Instant last_made;
  uint32_t newest_placed = 0;
};
constinit Spares g_spares;

unsigned FirstOf(uint32_t set) { return static_cast<unsigned>(__builtin_ctz(set)); }
uint32_t Bit(unsigned index) { return uint32_t{1} << index; }

// Not where the lock is held by a thread with a descriptor table of its own.
void CloseStale() {
  while (g_spares.stale != 0) {
    const unsigned index = FirstOf(g_spares.stale);
    g_spares.stale &= ~Bit(index);
    CloseInternal(g_spares.table[index].number);
    g_spares.table[index] = {};
  }
}

void Drop(unsigned index) {
  g_spares.free[0] &= ~Bit(index);
  g_spares.free[1] &= ~Bit(index);
  CloseInternal(g_spares.table[index].number);
  g_spares.table[index] = {};
}

bool IsUser(const Spare& spare, const Description& description) {
  return spare.user == &description;
}

// An entry without a number: a new one, or that of a connection that has lasted.
int Room(Instant now) {
  for (unsigned i = 0; i < kSpares; ++i) {
    if (g_spares.table[i].number < 0) return static_cast<int>(i);
  }
  const unsigned index = g_spares.next_victim++ % kSpares;
  const Spare& spare = g_spares.table[index];
  if (spare.user == nullptr || now - spare.used < kLongLived) return -1;
  Drop(index);
  return static_cast<int>(index);
}

}  // namespace

SparePlacement TakeSpare(int flags) {
  if (g_spares.stale != 0) [[unlikely]]
    CloseStale();
  const bool nonblocking = (flags & SOCK_NONBLOCK) != 0;
  for (;;) {
    const bool matches = g_spares.free[nonblocking] != 0;
    const uint32_t set = matches ? g_spares.free[nonblocking] : g_spares.free[!nonblocking];
    if (set == 0) return {};
    const unsigned index = FirstOf(set);
    const long command = (flags & SOCK_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD;
    const long number = RawSyscall(SYS_fcntl, g_spares.table[index].number, command, 0);
    if (number == -EBADF) {  // closed where no hook sees it
      Drop(index);
      continue;
    }
    if (number < 0) return {number, -1};
    if (number >= static_cast<long>(kMaxDescriptors)) {
      RawSyscall(SYS_close, number);
      return {-EMFILE, -1};
    }
    if (!matches) RawSyscall(SYS_fcntl, number, F_SETFL, nonblocking ? O_NONBLOCK : 0);
    g_spares.free[matches ? nonblocking : !nonblocking] &= ~Bit(index);
    return {number, static_cast<int>(index)};
  }
}

void PutBack(int spare, int flags) {
  g_spares.free[(flags & SOCK_NONBLOCK) != 0] |= Bit(static_cast<unsigned>(spare));
}

void Use(int spare, Description& description, Instant now) {
  Spare& used = g_spares.table[spare];
  used.user = &description;
  used.used = now;
  description.inode = used.inode;
  description.spare = static_cast<int8_t>(spare);
  uint32_t& placements = g_shared->placements;
  if (++placements == 0) ++placements;
  description.placed = placements;
}

void KeepPlaceholder(int fd, Description& description, Instant now) {
  if (description.spare >= 0 && IsUser(g_spares.table[description.spare], description)) return;
  if (description.unfit || description.references != 1 || description.pins != 0) return;
  if (description.socket == nullptr || description.socket->kind != SocketKind::kTcp) return;
  if (t_state.own_files || now - g_spares.last_made < kMakeInterval) return;
  CloseStale();
  const int index = Room(now);
  if (index < 0) return;
  g_spares.last_made = now;
  if (!IsGenuine(fd, description)) return;  // closed behind our back, and somebody else's now
  const long number = DuplicateBeyond(fd);
  if (number < 0) return;
  g_spares.table[index] = {static_cast<int>(number), description.inode, &description, now};
  description.spare = static_cast<int8_t>(index);
}

void ReleaseSpare(const Description& description) {
  if (description.spare < 0) return;
  const auto index = static_cast<unsigned>(description.spare);
  Spare& spare = g_spares.table[index];
  if (!IsUser(spare, description)) return;
  spare.user = nullptr;
  if (description.unfit) {
    g_spares.stale |= Bit(index);
  } else {
    g_spares.free[description.nonblocking] |= Bit(index);
  }
}

void NotePlaced(const Description& description) {
  if (IsPlacedSince(description)) g_spares.newest_placed = description.placed;
}

bool IsPlacedSince(const Description& description) {
  if (description.placed == 0) return false;  // not from a spare: its inode was never another's
  return static_cast<int32_t>(description.placed - g_spares.newest_placed) > 0;
}

uint32_t NewestPlaced() { return g_spares.newest_placed; }
void SetNewestPlaced(uint32_t placed) { g_spares.newest_placed = placed; }

void ForgetSpares() {
  const uint32_t newest = g_spares.newest_placed;
  g_spares = {};
  g_spares.newest_placed = newest;
}

}  // namespace userstack::shim
