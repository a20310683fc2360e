// Lock: the robust process-shared mutex around the stack. The kernel marks it when its owner dies
// (at any instruction); the next owner audits before it goes on. A short spin comes before the
// sleep: sessions last microseconds.
#include <linux/futex.h>

#include <cerrno>
#include <ctime>

#include "netstack/base/check.h"
#include "shim/internal.h"
#include "shim/lock_statistics.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr int kSpins = 200;
constexpr bool kMeasured = USERSTACK_LOCK_STATISTICS != 0;

// The longest sleep at a time. A wake-up may go to a thread that is killed before it takes the
// lock; when another took it on its way, its word says no more that somebody sleeps (the woken one
// would have said it again), and the kernel's care for robust mutexes ends at a word of 0.
constexpr Duration kLongestSleep = Duration::Milliseconds(10);

// Of this thread's latest acquisition.
constinit thread_local LockWatch t_watch __attribute__((tls_model("initial-exec")));

// One sleep. The thread sanitizer (GCC 12) knows only the form with the clock that may be set.
int LockFor(pthread_mutex_t* mutex, Duration patience) {
#ifdef __SANITIZE_THREAD__
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t until = now.tv_sec * 1'000'000'000 + now.tv_nsec + patience.nanoseconds;
  const timespec deadline{until / 1'000'000'000, until % 1'000'000'000};
  return pthread_mutex_timedlock(mutex, &deadline);
#else
  const Instant until = MonotonicNow() + patience;
  const timespec deadline{until.nanoseconds / 1'000'000'000, until.nanoseconds % 1'000'000'000};
  return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &deadline);
#endif
}

int Lock(pthread_mutex_t* mutex) {
  for (;;) {
    const int result = LockFor(mutex, kLongestSleep);
    if (result != ETIMEDOUT) return result;
  }
}

// *slept: others kept it for longer than the spin.
int LockWithSpin(pthread_mutex_t* mutex, bool* slept) {
  // glibc: __lock is 0 when free; looking before trying keeps the cache line shared.
  const int* word = &mutex->__data.__lock;
  if constexpr (kMeasured) {
    t_watch.Ask();
    t_watch.Found(__atomic_load_n(word, __ATOMIC_RELAXED) == 0);
  }
  for (int i = 0; i < kSpins; ++i) {
    if (__atomic_load_n(word, __ATOMIC_RELAXED) == 0) {
      const int result = pthread_mutex_trylock(mutex);
      if (result != EBUSY) return result;
    }
    __builtin_ia32_pause();
  }
  if constexpr (kMeasured) t_watch.Slept();
  *slept = true;
  return Lock(mutex);
}

}  // namespace

void InitializeLock(pthread_mutex_t* mutex) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  Check(pthread_mutex_init(mutex, &attributes) == 0, "lock: no robust mutexes");
  pthread_mutexattr_destroy(&attributes);
}

bool LockShared() {
  bool slept = false;
  const int result = LockWithSpin(&g_shared->lock, &slept);
  if (result == EOWNERDEAD) {
    if (!AuditAfterDeath()) __atomic_store_n(&g_shared->failed, true, __ATOMIC_RELEASE);
    pthread_mutex_consistent(&g_shared->lock);
  } else if (result != 0) {
    return false;
  }
  if (slept) g_shared->contended_at = MonotonicNow().nanoseconds;
  if constexpr (kMeasured) t_watch.Got();
  if (!__atomic_load_n(&g_shared->failed, __ATOMIC_ACQUIRE)) return true;
  pthread_mutex_unlock(&g_shared->lock);
  BreakMode();
  return false;
}

void UnlockShared() {
  if constexpr (kMeasured) t_watch.Release(t_state.is_pump);
  pthread_mutex_unlock(&g_shared->lock);
}

bool IsLockTaken() {
  const int word = __atomic_load_n(&g_shared->lock.__data.__lock, __ATOMIC_RELAXED);
  return (static_cast<unsigned>(word) & FUTEX_TID_MASK) != 0;
}

bool LockRobust(pthread_mutex_t* mutex, Duration patience, bool* got) {
  const Instant until = MonotonicNow() + patience;
  const timespec deadline{until.nanoseconds / 1'000'000'000, until.nanoseconds % 1'000'000'000};
  const int result = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &deadline);
  if (result == EOWNERDEAD) pthread_mutex_consistent(mutex);
  *got = result == 0 || result == EOWNERDEAD;
  return result == EOWNERDEAD;
}

}  // namespace userstack::shim
