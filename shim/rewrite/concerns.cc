// Concerns: may this system call be the stack's? Asked at every rewritten site, before anything is
// saved but the general registers; compiled without vector registers, so nothing here may call what
// is not (CMakeLists.txt). A yes that turns out to be a no costs time only; a no is final.
#include <sys/epoll.h>
#include <sys/select.h>

#include "shim/descriptors.h"
#include "shim/internal.h"
#include "shim/rewrite/entry.h"
#include "shim/rewrite/numbers.h"
#include "shim/rewrite/watch.h"

namespace userstack::shim {
namespace {

using rewrite::Concern;

// The kernel's answer to these is EFAULT; see IsBadAddress in dispatch/call.h.
constexpr long kLowestAddress = 4096;

bool AnyPolled(const long* a) {
  if (static_cast<unsigned long>(a[0]) < kLowestAddress) return false;
  const auto* entries = reinterpret_cast<const pollfd*>(a[0]);
  const auto count = static_cast<unsigned long>(a[1]);
  for (unsigned long i = 0; i < count && i < kMaxDescriptors; ++i) {
    if (IsOurs(entries[i].fd)) return true;
  }
  return false;
}

bool Number(long argument) { return IsOurs(static_cast<int>(argument)); }

// dup2 and close must not take a descriptor that the library itself uses.
bool Protected(long argument) {
  return Number(argument) || IsInternalDescriptor(static_cast<int>(argument));
}

bool Attached(Concern concern, const long* a) {
  switch (concern) {
    case Concern::kFirst:
    case Concern::kWait:
      return Number(a[0]);
    case Concern::kClose:
      return Protected(a[0]);
    case Concern::kDuplicateTo:
      return Number(a[0]) || Protected(a[1]);
    case Concern::kFirstThree:
      return Number(a[0]) || Number(a[1]) || Number(a[2]);
    case Concern::kFirstAndThird:
      return Number(a[0]) || Number(a[2]);
    case Concern::kPolled:
      return AnyPolled(a);
    case Concern::kAlways:
    case Concern::kEnd:
      return true;
    case Concern::kNever:
    case Concern::kSocket:
    case Concern::kRing:
    case Concern::kFile:
    case Concern::kSignals:
    case Concern::kChild:
      return false;
  }
  return false;
}

}  // namespace
}  // namespace userstack::shim

extern "C" bool userstack_rewrite_concerns(long number, const long* arguments) {
  using namespace userstack::shim;  // NOLINT: this is the dispatcher's other front end
  const bool small_stack = (number & rewrite::kFromSmallStack) != 0;
  number &= ~rewrite::kFromSmallStack;
  const Concern concern = rewrite::ConcernOf(number);
  // These two make descriptors: they concern a process that is not attached yet.
  if (concern == Concern::kSocket) return arguments[0] == AF_INET || arguments[0] == AF_INET6;
  if (concern == Concern::kRing) return true;
  if (concern == Concern::kFile) return g_replaces_files;
  // Go's runtime waits past libc's hooks: the instance may become the stack's while it sleeps.
  if (small_stack && concern == Concern::kWait) return true;
  if (g_watching.load(std::memory_order_relaxed)) {
    if (concern == Concern::kSignals || concern == Concern::kChild) return true;
    if (rewrite::WaitsWithMask(number)) return true;
  }
  return g_slots != nullptr && Attached(concern, arguments);
}
