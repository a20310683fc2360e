// Hooks: the functions of libc that programs call, exported by libuserstack.so in front of libc's.
// A descriptor that is not the stack's goes to libc's original with its arguments untouched: errno,
// cancellation and restarting are libc's own, and the price is IsOurs. The stack's go to dispatch/.
//
// The list of exports is shim/exports.map; a hook that is not there is not seen by anyone.
// Originals are bound when the library is loaded, or at their first call when something calls
// earlier (another library's constructor, an allocator).
#pragma once

#include <pthread.h>

#include <cerrno>

#include "shim/descriptors.h"
#include "shim/dispatch/dispatch.h"
#include "shim/real.h"
#include "shim/runtime.h"

namespace userstack::shim {

// A kernel-style result as libc returns it. errno changes on failure only.
inline long Return(long result) {
  if (result < 0 && result > -4096) [[unlikely]] {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}

inline int ReturnInt(long result) { return static_cast<int>(Return(result)); }

// Calls that POSIX makes cancellation points act on a pending pthread_cancel before they begin;
// their sleeps see to the rest (shim/wait.cc).
template <auto call, typename... Arguments>
long CancellationPoint(Arguments... arguments) {
  pthread_testcancel();
  return call(arguments...);
}

// Binds originals at load time, so that no later call has to ask the dynamic linker (which takes
// locks that a forked child or a signal handler may find held).
template <typename... Originals>
void Bind(Originals&... originals) {
  (originals.get(), ...);
}

// The kernel gave out `fd` anew: a slot that still names the stack's is stale (closed inside libc).
inline void OnNewNumber(int fd) {
  void PurgeNumber(int stale);
  if (fd >= 0 && IsOurs(fd)) [[unlikely]]
    PurgeNumber(fd);
}

}  // namespace userstack::shim
