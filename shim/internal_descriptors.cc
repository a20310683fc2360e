// Our own descriptors: the arena, the device, doorbells. They live above the program's numbers and
// are known by a bitmap, so that close, close_range and dup2 can be kept off them.
//
// Owner: the bitmap's words are atomic; a descriptor belongs to whoever moved it here.
#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr unsigned kTracked = 1u << 20;  // Linux's default fs.nr_open
constexpr rlim_t kRoom = 1024;           // numbers above the program's limit that we may use
// With a large limit the numbers start here: a kernel table up to the limit would cost megabytes.
// The program sees a gap in its numbers, nothing else.
constexpr rlim_t kHighest = 8192;

constinit std::atomic<uint64_t> g_bits[kTracked / 64] = {};

long Limit(const rlimit* set, rlimit* get) {
  return RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, Word(set), Word(get));
}

// Who holds the limit: process and thread, because a forked child inherits the word. 0: nobody.
constinit std::atomic<uint64_t> g_limit_holder{0};

// False: this thread holds it already.
bool HoldLimit() {
  const auto pid = static_cast<uint64_t>(RawSyscall(SYS_getpid));
  const uint64_t self = pid << 32 | static_cast<uint64_t>(RawSyscall(SYS_gettid));
  for (uint64_t holder = 0; !g_limit_holder.compare_exchange_strong(holder, self);) {
    if (holder == self) return false;
    if (holder >> 32 != pid) continue;  // a thread of the parent's: taken from it
    RawSyscall(SYS_sched_yield);
    holder = 0;
  }
  return true;
}

long Duplicate(int fd, int lowest) { return RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest); }

}  // namespace

NumberLimit::NumberLimit() : holds_(HoldLimit()) {}
NumberLimit::~NumberLimit() {
  if (holds_) g_limit_holder.store(0);
}

// A number at or above the soft limit needs the limit raised for a moment. Another thread that runs
// out of descriptors in that moment gets one more than it should: harmless. One that asks for the
// limit, or sets it, waits.
HighNumbers::HighNumbers() {
  rlimit limit{};
  if (Limit(nullptr, &limit) != 0) return;
  soft_ = limit.rlim_cur;
  hard_ = limit.rlim_max;
  if (soft_ > kHighest) {
    floor_ = static_cast<int>(kHighest);
    beyond_ = true;
    return;
  }
  const rlimit raised{hard_ - soft_ < kRoom ? hard_ : soft_ + kRoom, hard_};
  raised_ = raised.rlim_cur > soft_ && Limit(&raised, nullptr) == 0;
  beyond_ = raised_;
  // Otherwise the highest quarter of what the program may have; 64 numbers at most.
  const rlim_t room = soft_ / 4 < 64 ? soft_ / 4 : 64;
  floor_ = static_cast<int>(raised_ ? soft_ : soft_ - room);
}

HighNumbers::~HighNumbers() {
  if (!raised_) return;
  const rlimit limit{soft_, hard_};
  Limit(&limit, nullptr);
}

void MarkInternal(int fd) {
  const auto number = static_cast<unsigned>(fd);
  if (number < kTracked) g_bits[number / 64].fetch_or(uint64_t{1} << (number % 64));
}

bool CloseAllButInternal(bool unshare) {
  constexpr long kCloseRange = 436;
  constexpr long kUnshare = 2;  // CLOSE_RANGE_UNSHARE
  long flags = unshare ? kUnshare : 0;
  unsigned from = 0;
  for (int ours = NextInternalDescriptor(0); ours >= 0; ours = NextInternalDescriptor(ours + 1)) {
    const auto number = static_cast<unsigned>(ours);
    if (number > from) {
      if (RawSyscall(kCloseRange, from, number - 1, flags) != 0 && flags != 0) return false;
      flags = 0;
    }
    from = number + 1;
  }
  return RawSyscall(kCloseRange, from, ~0u, flags) == 0;
}

int MoveInternal(int fd) {
  if (t_state.own_files) return fd;
  const HighNumbers numbers;
  long moved = Duplicate(fd, numbers.floor());
  if (moved < 0) moved = Duplicate(fd, 3);
  RawSyscall(SYS_close, fd);
  if (moved >= 0) MarkInternal(static_cast<int>(moved));
  return static_cast<int>(moved);
}

long DuplicateBeyond(int fd) {
  const HighNumbers numbers;
  if (!numbers.beyond()) return -EMFILE;
  // The arena's number tells where the program's ended when there was no stack: it may have lowered
  // its limit meanwhile, to raise it again.
  const long copy = Duplicate(fd, std::max(numbers.floor(), g_local.arena_descriptor));
  if (copy >= 0) MarkInternal(static_cast<int>(copy));
  return copy;
}

void CloseInternal(int fd) {
  const auto number = static_cast<unsigned>(fd);
  if (number < kTracked && !t_state.own_files)
    g_bits[number / 64].fetch_and(~(uint64_t{1} << (number % 64)));
  RawSyscall(SYS_close, fd);
}

bool IsInternalDescriptor(int fd) {
  const auto number = static_cast<unsigned>(fd);
  if (number >= kTracked) return false;
  return (g_bits[number / 64].load(std::memory_order_relaxed) >> (number % 64)) & 1;
}

int NextInternalDescriptor(int from) {
  for (auto number = static_cast<unsigned>(from < 0 ? 0 : from); number < kTracked;) {
    const uint64_t word = g_bits[number / 64].load(std::memory_order_relaxed) >> (number % 64);
    if (word != 0) return static_cast<int>(number + static_cast<unsigned>(__builtin_ctzll(word)));
    number = (number / 64 + 1) * 64;
  }
  return -1;
}

}  // namespace userstack::shim
