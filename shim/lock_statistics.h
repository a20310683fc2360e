// Lock statistics: how long the stack's lock is waited for and held. Compiled in only where
// USERSTACK_LOCK_STATISTICS is 1 (the library `userstack_measured`, for bench/lock); elsewhere
// nothing is left of it.
//
// LOCK_STATISTICS_FILE names a file that every process of the stack maps. All of it is written by
// whoever holds the lock, so no field is atomic. Times are ticks of the time stamp counter, which
// x86-64 processors of this century keep in step; the file says how many make a microsecond.
#pragma once

#include <cstdint>

namespace userstack::shim {

// Four buckets an octave: bucket 4 * log2(ticks) + the next two bits.
inline constexpr unsigned kLockBuckets = 256;

struct LockStatistics {
  uint64_t ticks_per_microsecond = 0;
  uint64_t acquisitions = 0;
  uint64_t contended = 0;  // it was taken when it was asked for
  uint64_t slept = 0;      // and not free after the spin
  uint64_t waited = 0;     // ticks
  uint64_t held = 0;       // ticks
  uint64_t held_by_pump = 0;
  uint64_t longest_hold = 0;
  uint64_t longest_wait = 0;
  uint64_t holds[kLockBuckets] = {};
  uint64_t waits[kLockBuckets] = {};  // of the contended ones
};

// What one acquisition was like, until it is released.
class LockWatch {
 public:
  void Ask();               // about to ask for the lock
  void Found(bool free);    // it was free, or not, when it was looked at first
  void Slept();             // the spin did not suffice
  void Got();               // with the lock
  void Release(bool pump);  // still with it

 private:
  LockStatistics* statistics_ = nullptr;
  bool contended_ = false;
  bool slept_ = false;
  uint64_t asked_ = 0;
  uint64_t got_ = 0;
};

}  // namespace userstack::shim
