// Processes: what the hooks of fork, exec and exit share.
#pragma once

#include <sys/types.h>

namespace userstack::shim {

// After PrepareFork and the real fork, in both processes; keeps errno.
void AfterFork(pid_t child);
// Announces the end of this process, once.
void EndProcess();
// stdio.cc: writes out what streams over sockets of the stack hold; at exit, before the end is
// announced, because libc would do it after.
void FlushStreams();

}  // namespace userstack::shim
