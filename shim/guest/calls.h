// Calls: system calls that mean something else around a guest than the kernel would make of them:
// its threads have a thread of the host's libc each, its programs are started by the loader, its
// break is not the host's, and /proc/self/exe is the loader.
#pragma once

#include "shim/guest/thread.h"

namespace userstack::shim::guest {

// May this call be one of them? General registers only, without FS.
bool IsEmulated(long number, const long* arguments);

// threads.cc: clone and its relatives, and what a thread tells the kernel about itself. The result,
// or -errno.
long Clone(Frame* frame, unsigned long flags, uint64_t stack, int* parent_tid, int* child_tid,
           uint64_t tls);
long SetTidAddress(int* address);
long SetRobustList(uint64_t list, uint64_t size);
long GetRobustList(int pid, uint64_t* list, uint64_t* size);
long RegisterSequences(const long* arguments);
[[noreturn]] void ExitThread(long status);

// trap.cc: Syscall User Dispatch is on in this process.
bool IsTrapping();

// calls.cc
// Where the guest's break begins; the process's own before it runs.
void SetBreak(uint64_t begin);

// The file that the guest was loaded from.
const char* ProgramPath();
void SetProgramPath(const char* path);

}  // namespace userstack::shim::guest
