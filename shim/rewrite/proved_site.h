// Proved site: rewriting one `syscall` that a trap has proved, of which nothing else is known:
// neither what leads to the bytes behind it nor who runs there. So only the instruction itself
// changes, and what follows it becomes the displacement of a jump:
//
//   0f 05 n1 n2 n3      ->  e9 05 n1 n2 n3       one byte: any thread sees one or the other
//   0f 05 n1 n2 n3 n4   ->  48 e9 n1 n2 n3 n4    two bytes: while there is one thread only
//
// Where such a jump leads is given, not chosen: if that page is free it is mapped, and holds a jump
// to the site's stub. Otherwise the site goes on trapping.
//
// Owner: one caller at a time, with every signal blocked that may be. No libc, no memory.
#pragma once

#include <cstdint>

namespace userstack::shim::rewrite {

// `target`: where its calls are to go. False: it is left as it is. The caller has seen to it that
// no byte of [site, site + kProvedSiteBytes) belongs to a jump that was made earlier.
inline constexpr uint64_t kProvedSiteBytes = 6;
bool RewriteProvedSite(uint64_t site, uint64_t target);

}  // namespace userstack::shim::rewrite
