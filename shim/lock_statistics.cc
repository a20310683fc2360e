#include "shim/lock_statistics.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

// Of this process. A forked child has the same mapping.
constinit LockStatistics* g_statistics = nullptr;
constinit bool g_looked = false;

uint64_t TicksPerMicrosecond() {
  const Instant began = MonotonicNow();
  const uint64_t first = __rdtsc();
  while (MonotonicNow() - began < Duration::Milliseconds(5)) {
  }
  const uint64_t ticks = __rdtsc() - first;
  return ticks * 1000 / static_cast<uint64_t>((MonotonicNow() - began).nanoseconds);
}

// With the lock.
LockStatistics* Statistics() {
  if (g_looked) return g_statistics;
  g_looked = true;
  const char* name = std::getenv("LOCK_STATISTICS_FILE");
  if (name == nullptr) return nullptr;
  const long fd = RawSyscall(SYS_open, Word(name), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return nullptr;
  RawSyscall(SYS_ftruncate, fd, sizeof(LockStatistics));
  const long memory =
      RawSyscall(SYS_mmap, 0, sizeof(LockStatistics), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  RawSyscall(SYS_close, fd);
  if (memory < 0 && memory > -4096) return nullptr;
  g_statistics = reinterpret_cast<LockStatistics*>(memory);
  if (g_statistics->ticks_per_microsecond == 0) {
    g_statistics->ticks_per_microsecond = TicksPerMicrosecond();
  }
  return g_statistics;
}

unsigned BucketOf(uint64_t ticks) {
  if (ticks < 4) return 0;
  const unsigned octave = 63 - static_cast<unsigned>(std::countl_zero(ticks));
  return octave * 4 + (static_cast<unsigned>(ticks >> (octave - 2)) & 3);
}

}  // namespace

void LockWatch::Ask() {
  contended_ = slept_ = false;
  asked_ = __rdtsc();
}

void LockWatch::Found(bool free) { contended_ = !free; }

void LockWatch::Slept() { slept_ = true; }

void LockWatch::Got() {
  statistics_ = Statistics();
  got_ = __rdtsc();
}

void LockWatch::Release(bool pump) {
  if (statistics_ == nullptr) return;
  LockStatistics& s = *statistics_;
  const uint64_t held = __rdtsc() - got_;
  ++s.acquisitions;
  s.held += held;
  if (pump) s.held_by_pump += held;
  s.longest_hold = std::max(s.longest_hold, held);
  ++s.holds[BucketOf(held)];
  if (!contended_) return;
  const uint64_t waited = got_ - asked_;
  ++s.contended;
  if (slept_) ++s.slept;
  s.waited += waited;
  s.longest_wait = std::max(s.longest_wait, waited);
  ++s.waits[BucketOf(waited)];
}

}  // namespace userstack::shim
