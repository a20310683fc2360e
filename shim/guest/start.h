// Start: a static program in this process, which is the launcher's (launcher.cc). The launcher is a
// program of libc with the library in it; the library loads the guest beside it and goes there.
#pragma once

#include "shim/guest/thread.h"

namespace userstack::shim::guest {

// A system call that no kernel has: the launcher's way into the library, through the hook of
// syscall(). Arguments: argc, argv, the auxiliary vector. Returns when the library is not there.
inline constexpr long kLoadNumber = 0x75734c64;
// Names the program to the launcher; its arguments are the launcher's.
inline constexpr char kProgramVariable[] = "USERSTACK_PROGRAM";
inline constexpr char kLauncher[] = "userstack-load";

[[noreturn]] void LoadProgram(int argc, char** argv, const uint64_t* auxiliary);

// True when this process is the launcher: its own code is not to be rewritten.
bool IsLauncher();

// Of a thread that is about to run the guest: all but where it begins.
void InitializeThread(GuestThread* thread);

// trap.cc: Syscall User Dispatch, for what cannot be rewritten beforehand. The library's own calls,
// which are those of trampolines too, do not trap. False: this kernel has none.
bool BeginTrapping();
void TrapInThisThread(GuestThread* thread);

}  // namespace userstack::shim::guest
