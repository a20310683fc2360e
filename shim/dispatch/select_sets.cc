// Selecting: the translation between select's sets and poll's entries. See selecting.h.
#include <cerrno>

#include "shim/dispatch/selecting.h"

namespace userstack::shim {
namespace {

// fd_set is an array of words; programs allocate larger ones than FD_SETSIZE, and the kernel takes
// them, so that FD_ISSET's check must not be in the way.
constexpr int kBits = 8 * sizeof(fd_mask);

const fd_mask* Words(const fd_set* set) { return reinterpret_cast<const fd_mask*>(set); }
fd_mask* Words(fd_set* set) { return reinterpret_cast<fd_mask*>(set); }

bool Has(const fd_set* set, int fd) {
  return set != nullptr && ((Words(set)[fd / kBits] >> (fd % kBits)) & 1) != 0;
}
void Add(fd_set* set, int fd) { Words(set)[fd / kBits] |= fd_mask{1} << (fd % kBits); }
void Clear(fd_set* set, int count) {
  for (int i = 0; set != nullptr && i * kBits < count; ++i) Words(set)[i] = 0;
}

constexpr short kReadEvents = POLLIN | POLLRDNORM | POLLRDBAND;
constexpr short kWriteEvents = POLLOUT | POLLWRNORM | POLLWRBAND;
constexpr short kReadResult = kReadEvents | POLLHUP | POLLERR;
constexpr short kWriteResult = kWriteEvents | POLLERR;

}  // namespace

size_t EntriesFromSets(int count, const fd_set* read, const fd_set* write, const fd_set* except,
                       pollfd* out) {
  size_t entries = 0;
  for (int fd = 0; fd < count; ++fd) {
    short events = 0;
    if (Has(read, fd)) events |= kReadEvents;
    if (Has(write, fd)) events |= kWriteEvents;
    if (Has(except, fd)) events |= POLLPRI;
    if (events == 0) continue;
    if (out != nullptr) out[entries] = {fd, events, 0};
    ++entries;
  }
  return entries;
}

long SetsFromEntries(const pollfd* entries, size_t entry_count, int count, fd_set* read,
                     fd_set* write, fd_set* except) {
  for (size_t i = 0; i < entry_count; ++i) {
    if ((entries[i].revents & POLLNVAL) != 0) return -EBADF;
  }
  Clear(read, count);
  Clear(write, count);
  Clear(except, count);
  long bits = 0;
  const auto report = [&bits](fd_set* set, int fd) {
    Add(set, fd);
    ++bits;
  };
  for (size_t i = 0; i < entry_count; ++i) {
    const pollfd& entry = entries[i];
    if ((entry.events & kReadEvents) != 0 && (entry.revents & kReadResult) != 0) {
      report(read, entry.fd);
    }
    if ((entry.events & kWriteEvents) != 0 && (entry.revents & kWriteResult) != 0) {
      report(write, entry.fd);
    }
    if ((entry.events & POLLPRI) != 0 && (entry.revents & POLLPRI) != 0) report(except, entry.fd);
  }
  return bits;
}

}  // namespace userstack::shim
