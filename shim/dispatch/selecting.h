// Selecting: select's three sets as poll's entries and back. Pure; tested as a table.
#pragma once

#include <poll.h>
#include <sys/select.h>

#include <cstddef>

namespace userstack::shim {

// One entry for each number below `count` that is in a set; null sets are empty. Returns how many.
// `out` may be null: only count.
size_t EntriesFromSets(int count, const fd_set* read, const fd_set* write, const fd_set* except,
                       pollfd* out);
// What select returns for these entries: the number of bits set, or -EBADF when one is not open.
// The sets are overwritten (their first `count` bits) unless it fails. Linux: an end or an error
// makes a number readable, an error makes it writable, neither makes it exceptional.
long SetsFromEntries(const pollfd* entries, size_t entry_count, int count, fd_set* read,
                     fd_set* write, fd_set* except);

}  // namespace userstack::shim
