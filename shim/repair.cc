// Repair: mends the one list that a process may have left torn when it died (see arena/list.h). The
// node is marked, and nobody knows where it is, so the arena's memory is searched for it: an odd
// pointer into the arena, followed by a pointer into the arena (or none), whose neighbours answer
// as those of a torn node do. That takes milliseconds, and happens only after such a death.
//
// Owner: the lock. Holes of the arena's file are skipped: reading them would fill them.
#include <unistd.h>

#include "netstack/arena/list.h"
#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr uintptr_t kAlign = 7;

bool IsNode(const ListNode* n) {
  const auto address = reinterpret_cast<uintptr_t>(n);
  const uintptr_t end = kArenaAddress + g_shared->arena->used();
  return address >= kArenaAddress && address + sizeof(ListNode) <= end && (address & kAlign) == 0;
}

// Whether `n` is a node in the middle of a change, and not bytes that look like one.
bool IsTorn(ListNode* n) {
  if (!n->is_marked()) return false;
  const ListNode* before = ListNode::Unmarked(n->previous);
  const ListNode* after = n->next;
  if (!IsNode(before) || before == n) return false;
  if (after == nullptr) return false;  // not linked: its next insertion unmarks it
  if (!IsNode(after) || after == n) return false;
  const bool reachable = before->next == n;
  const bool skipped = before->next == after;
  return (reachable || skipped) && (after->previous == n || after->previous == before);
}

unsigned RepairRange(uintptr_t begin, uintptr_t end) {
  unsigned mended = 0;
  for (uintptr_t address = begin; address + sizeof(ListNode) <= end; address += sizeof(void*)) {
    auto* node = reinterpret_cast<ListNode*>(address);
    if (!IsTorn(node)) continue;
    RepairNode(node);
    ++mended;
  }
  return mended;
}

long Seek(long offset, int whence) {
  return RawSyscall(SYS_lseek, g_local.arena_descriptor, offset, whence);
}

}  // namespace

unsigned RepairLists() {
  const auto used = static_cast<long>(g_shared->arena->used());
  unsigned mended = 0;
  for (long data = Seek(0, SEEK_DATA); data >= 0 && data < used;) {
    long hole = Seek(data, SEEK_HOLE);
    if (hole < 0 || hole > used) hole = used;
    mended += RepairRange(kArenaAddress + static_cast<uintptr_t>(data),
                          kArenaAddress + static_cast<uintptr_t>(hole));
    data = Seek(hole, SEEK_DATA);
  }
  return mended;
}

}  // namespace userstack::shim
