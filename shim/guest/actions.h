// Actions: what a guest's signals are to do, as the guest sees it; the kernel has
// userstack_guest_signal for everything that has a handler. In the kernel's own form, because
// guests make the system call themselves.
//
// Owner: the process; changes under a lock of bare.cc, with signals blocked. Read without it by
// userstack_guest_signal.
#pragma once

#include <cstdint>

namespace userstack::shim::guest {

// struct kernel_sigaction of x86-64.
struct KernelAction {
  uint64_t handler = 0;
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};
inline constexpr uint64_t kRestorer = 0x04000000;  // SA_RESTORER
inline constexpr uint64_t kAllSignals = ~uint64_t{0};

// rt_sigaction(2). 0 or -errno.
long ChangeAction(int signal, const KernelAction* action, KernelAction* old);

// Learns the actions that were inherited. Before the guest runs.
void ReadActions();
// From now on signals whose default action ends the process are caught (the process is attached).
void CatchTermination();

// With Syscall User Dispatch the guest's SIGSYS is never given to the kernel, nor blocked.
void KeepTrapSignal();

}  // namespace userstack::shim::guest
