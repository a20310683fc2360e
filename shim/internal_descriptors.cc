// Our own descriptors: the arena, the device, doorbells. They live above the program's numbers and
// are known by a bitmap, so that close, close_range and dup2 can be kept off them.
//
// Owner: the bitmap's words are atomic; a descriptor belongs to whoever moved it here.
#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr unsigned kTracked = 1u << 20;  // Linux's default fs.nr_open
constexpr rlim_t kRoom = 512;            // numbers above the program's limit that we may use
// With a large limit the numbers start here: a kernel table up to the limit would cost megabytes.
// The program sees a gap in its numbers, nothing else.
constexpr rlim_t kHighest = 8192;

constinit std::atomic<uint64_t> g_bits[kTracked / 64] = {};

long Limit(const rlimit* set, rlimit* get) {
  return RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, Word(set), Word(get));
}

long Duplicate(int fd, rlim_t lowest) {
  return RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, static_cast<long>(lowest));
}

// A number at or above the soft limit needs the limit raised for a moment. Another thread that runs
// out of descriptors in that moment gets one more than it should: harmless.
long DuplicateAboveLimit(int fd, const rlimit& limit) {
  rlimit raised = limit;
  raised.rlim_cur =
      limit.rlim_max - limit.rlim_cur < kRoom ? limit.rlim_max : limit.rlim_cur + kRoom;
  if (raised.rlim_cur <= limit.rlim_cur || Limit(&raised, nullptr) != 0) return -EINVAL;
  const long result = Duplicate(fd, limit.rlim_cur);
  Limit(&limit, nullptr);
  return result;
}

long DuplicateHigh(int fd) {
  rlimit limit{};
  if (Limit(nullptr, &limit) != 0) return Duplicate(fd, 64);
  if (limit.rlim_cur > kHighest) return Duplicate(fd, kHighest);
  const long above = DuplicateAboveLimit(fd, limit);
  if (above >= 0) return above;
  // The highest quarter of what the program may have; 64 numbers at most.
  const rlim_t room = limit.rlim_cur / 4 < 64 ? limit.rlim_cur / 4 : 64;
  const long high = Duplicate(fd, limit.rlim_cur - room);
  return high >= 0 ? high : Duplicate(fd, 3);
}

}  // namespace

void MarkInternal(int fd) {
  const auto number = static_cast<unsigned>(fd);
  if (number < kTracked) g_bits[number / 64].fetch_or(uint64_t{1} << (number % 64));
}

int MoveInternal(int fd) {
  const long moved = DuplicateHigh(fd);
  RawSyscall(SYS_close, fd);
  if (moved >= 0) MarkInternal(static_cast<int>(moved));
  return static_cast<int>(moved);
}

void CloseInternal(int fd) {
  const auto number = static_cast<unsigned>(fd);
  if (number < kTracked) g_bits[number / 64].fetch_and(~(uint64_t{1} << (number % 64)));
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
