// Selecting: select and pselect, on top of poll.
#include "shim/dispatch/selecting.h"

#include "shim/descriptors.h"
#include "shim/dispatch/call.h"
#include "shim/dispatch/scratch.h"

namespace userstack::shim {
namespace {

constexpr int kBits = 8 * sizeof(fd_mask);

fd_mask Word(const fd_set* set, int index) {
  return set == nullptr ? 0 : reinterpret_cast<const fd_mask*>(set)[index];
}

}  // namespace

bool AnyOurs(int count, const fd_set* read, const fd_set* write, const fd_set* except) {
  if (g_slots == nullptr) return false;
  for (int base = 0; base < count; base += kBits) {
    const int index = base / kBits;
    fd_mask word = Word(read, index) | Word(write, index) | Word(except, index);
    for (; word != 0; word &= word - 1) {
      const int fd = base + __builtin_ctzl(static_cast<unsigned long>(word));
      if (fd < count && IsOurs(fd)) return true;
    }
  }
  return false;
}

long sys_pselect6(int count, fd_set* read, fd_set* write, fd_set* except, const timespec* timeout,
                  const sigset_t* mask, Duration* remaining) {
  const size_t entry_count = EntriesFromSets(count, read, write, except, nullptr);
  Scratch<pollfd, 64> entries(entry_count);
  if (!entries.ok()) return -ENOMEM;
  EntriesFromSets(count, read, write, except, entries.data());
  timespec left{};
  Duration rest;
  while (true) {
    const long polled = sys_ppoll(entries.data(), entry_count, timeout, mask, &rest);
    if (remaining != nullptr) *remaining = rest;
    if (polled < 0) return polled;
    const bool timed_out = polled == 0;
    const long bits = SetsFromEntries(entries.data(), entry_count, count, read, write, except);
    if (bits != 0 || timed_out) return bits;
    // Poll reports ends and errors that select does not care for in these sets: leave those entries
    // out.
    for (size_t i = 0; i < entry_count; ++i) {
      if (entries[i].revents != 0) entries[i].fd = -1;
    }
    if (timeout != nullptr) {
      left = {rest.seconds(), rest.nanoseconds % 1'000'000'000};
      timeout = &left;
    }
  }
}

}  // namespace userstack::shim
