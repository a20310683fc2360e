// Processes: what the hooks of fork, exec and exit share.
#pragma once

#include <sys/types.h>

#include "shim/runtime.h"

namespace userstack::shim {

// After PrepareFork and the real fork, in both processes (-1: it failed); keeps errno.
void AfterFork(pid_t child);
// A fork by `make()`, which answers as the call does, after which the parent waits as vfork does.
template <typename Make>
auto ForkWaiting(Make make) {
  VforkWait wait;
  PrepareFork();
  const auto child = make();
  AfterFork(static_cast<pid_t>(child < 0 ? -1 : child));
  if (child == 0) {
    wait.HoldInChild();
  } else {
    wait.WaitInParent(static_cast<pid_t>(child));
  }
  wait.RestoreSignals();
  return child;
}
// Announces the end of this process, once.
void EndProcess();
// stdio.cc: writes out what streams over sockets of the stack hold; at exit, before the end is
// announced, because libc would do it after.
void FlushStreams();

}  // namespace userstack::shim
