// Watch: the lazy route. Where a process has code that cannot be verified beforehand (an object
// without tables, code that is made at run time), every `syscall` instruction outside one range of
// addresses raises SIGSYS (Syscall User Dispatch, Linux 5.11). The hit proves the site: it is sent
// to a stub of its own, through the same entry as rewritten sites, and never traps again where it
// can be rewritten in place (proved_site.h).
//
// The range holds the library, with the stubs' system calls, and grows over neighbours that are
// verified, so that libc's calls do not trap. Every call of a watched thread costs 40 ns more, so
// nothing is watched before there is a reason.
//
// Invariants: 1. While code is watched, no thread blocks SIGSYS and no action's mask holds it: the
// program sees what it set (watch_signals.cc). 2. The handler touches no thread-local storage,
// takes no lock with signals open, and makes system calls from inside the range only. 3. Children
// are watched from their first instruction (stubs.S), unless they borrow their parent's memory.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shim/rewrite/stubs.h"

namespace userstack::shim {

extern std::atomic<bool> g_watching;

// The objects in memory, as the rewriter knows them; replaces what was said before.
struct KnownCode {
  rewrite::AddressRange range;
  bool verified = false;     // every system call in it is known
  bool small_stack = false;  // its calls come by userstack_rewrite_entry_small
};
void DescribeCode(const KnownCode* code, size_t count);

// Watches every thread of this process from now on. False, with one line: it cannot be had.
bool WatchProcess(const char* reason);

// The calling thread, if the process is watched; again is harmless.
void WatchThread();

// The program has made [begin, end) executable; called when rewriting is on.
void OnExecutableMemory(uint64_t begin, uint64_t end);
// OnExecutableMemory is to be called.
extern std::atomic<bool> g_executable_memory_matters;

// --- watch_signals.cc ---

// rt_sigaction, rt_sigprocmask and rt_sigsuspend of the program, with SIGSYS as it believes it to
// be. *handled stays false for what the kernel answers as it is.
long SignalCall(long number, const long* arguments, bool* handled);
// What wants SIGSYS blocked while it waits: a copy of the mask without it, in place of a's. True:
// `copy` is in use.
struct WaitMask {
  uint64_t mask;
  uint64_t sized[2];  // pselect6
};
bool WithoutWatchSignal(long number, const long* arguments, long (&copy)[6], WaitMask* storage);
// Takes SIGSYS for the watch: the handler, the other actions' masks. 0 or -errno.
long TakeWatchSignal(void (*handler)(int, siginfo_t*, void*));
// Opens SIGSYS for the calling thread.
void OpenWatchSignal();
// A SIGSYS that is not the watch's.
void ForwardWatchSignal(int signal, siginfo_t* info, void* context);

}  // namespace userstack::shim
