// Address limit: RLIMIT_AS (ulimit -v) counts a stack's memory at the full size of its map, though
// it is taken as needed and is not the program's. So the kernel's limit is the program's plus what
// the library maps, and the program is told its own.
//
// Owner: the process; what was added is inherited by fork. After exec it is not known any more: a
// program that asks then is told the kernel's limit, the library's share included.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

// Beside the arena: the pump's stack and heap, trampolines, the library itself.
constexpr uint64_t kBeside = uint64_t{128} << 20;
constexpr uint64_t kLeastMemory = uint64_t{16} << 20;

constinit std::atomic<uint64_t> g_soft_added{0};
constinit std::atomic<uint64_t> g_hard_added{0};

long Limit(const rlimit* set, rlimit* get) {
  return RawSyscall(SYS_prlimit64, 0, RLIMIT_AS, Word(set), Word(get));
}

uint64_t OwnShare() { return CurrentConfig().memory + kBeside; }

rlim_t WithOwnShare(rlim_t limit) {
  return limit > RLIM_INFINITY - OwnShare() ? RLIM_INFINITY : limit + OwnShare();
}

rlim_t Without(rlim_t limit, uint64_t added) {
  return limit == RLIM_INFINITY || limit < added ? limit : limit - added;
}

// Sets `raised`, in which `limit` is the program's.
long SetRaised(const rlimit& raised, const rlimit& limit) {
  const long result = Limit(&raised, nullptr);
  if (result == 0) {
    g_soft_added.store(raised.rlim_cur == RLIM_INFINITY ? 0 : raised.rlim_cur - limit.rlim_cur);
    g_hard_added.store(raised.rlim_max == RLIM_INFINITY ? 0 : raised.rlim_max - limit.rlim_max);
  }
  return result;
}

// A stack is there or may come. Asking the mode of a program without configuration would make it
// speak.
bool HasStack() {
  if (IsAttached()) return true;
  const bool named = getenv("USERSTACK_DEV") != nullptr || getenv("USERSTACK_CONFIG") != nullptr;
  return named && CurrentMode() == Mode::kStack;
}

}  // namespace

long SetAddressLimit(const rlimit& limit) {
  if (!HasStack() || limit.rlim_cur > limit.rlim_max) return Limit(&limit, nullptr);
  rlimit raised{WithOwnShare(limit.rlim_cur), WithOwnShare(limit.rlim_max)};
  const long result = SetRaised(raised, limit);
  if (result != -EPERM) return result;
  // Without CAP_SYS_RESOURCE the hard limit only falls; a program that stays below its own may.
  rlimit now{};
  if (Limit(nullptr, &now) != 0 || limit.rlim_max > Without(now.rlim_max, g_hard_added.load())) {
    return result;
  }
  raised.rlim_max = now.rlim_max;
  raised.rlim_cur = std::min(raised.rlim_cur, raised.rlim_max);
  return SetRaised(raised, limit);
}

void DiscountAddressLimit(rlimit* limit) {
  limit->rlim_cur = Without(limit->rlim_cur, g_soft_added.load());
  limit->rlim_max = Without(limit->rlim_max, g_hard_added.load());
}

void MakeAddressRoom() {
  rlimit now{};
  if (g_soft_added.load() != 0 || Limit(nullptr, &now) != 0) return;
  if (now.rlim_cur == RLIM_INFINITY) return;
  const rlim_t wanted = WithOwnShare(now.rlim_cur);
  if (SetRaised({wanted, WithOwnShare(now.rlim_max)}, now) == 0) return;
  SetRaised({std::min(wanted, now.rlim_max), now.rlim_max}, now);
}

uint64_t MemoryWithinLimit(uint64_t memory) {
  rlimit now{};
  if (g_soft_added.load() >= memory || Limit(nullptr, &now) != 0) return memory;
  if (now.rlim_cur == RLIM_INFINITY) return memory;
  constexpr uint64_t kMebibyte = uint64_t{1} << 20;
  const uint64_t half = now.rlim_cur / 2 / kMebibyte * kMebibyte;
  return std::clamp(half, std::min(kLeastMemory, memory), memory);
}

}  // namespace userstack::shim
