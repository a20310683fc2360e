// Thread: what a thread of a static program has of ours. Such a program (the guest) brings its own
// libc, or none; ours (the host) is the loader's process around it. A thread is in one of the two
// at a time:
//
//   guest   its own FS, stack and handlers; what it calls directly is the kernel's business
//   host    our FS (libc's thread, t_state), our stack; no handler of the guest runs
//
// GS belongs to us, and its base is the thread's GuestThread: the one thing that can be found
// without FS, stack or registers. Guests have no use for GS on x86-64; one that asks for it is told
// EINVAL.
//
// Invariants: 1. `mode` is host before anything else of the host's state is used, and guest only
// when all of the guest's is back. 2. A signal that comes in host mode is put off until guest mode:
// every handler sees the guest as the kernel would show it, and may leave by siglongjmp. 3. On a
// guest's alternate signal stack the host runs with signals blocked: the kernel would take the
// host's stack for proof that the alternate one is free.
//
// Owner: the thread itself and its signal handlers. entry.S knows the offsets.
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>

namespace userstack::shim {
struct ThreadState;
}

namespace userstack::shim::guest {

// The registers of a guest at a system call, as entry.S pushes them.
struct Frame {
  uint64_t r15, r14, r13, r12, rbx, rbp;
  long arguments[6];  // rdi rsi rdx r10 r8 r9
  uint64_t rax;       // the number; then the result
  uint64_t real;      // where it goes on: the trampoline's own `syscall`, or what follows it
};
static_assert(sizeof(Frame) == 112);

// What `userstack_guest_call` says about a call.
inline constexpr long kPass = 0;      // the kernel's, with the guest's own `syscall`
inline constexpr long kAnswered = 1;  // the result is in the frame
inline constexpr long kRestart = 2;   // handlers first, then the same call again

// Where registers are kept while handlers run that were put off. They run at an instruction of
// ours, between two calls of sigprocmask, and may come to the same place themselves: then
// another slot serves. A handler that leaves by siglongjmp leaves its slot busy, which is used
// again when no other is free.
struct Delivery {
  uint64_t first_mask;  // lets those in that were put off
  uint64_t mask;        // the guest's
  uint64_t rdi, rsi, rdx, r10, r8, r9, rax, r11, rsp;
  uint64_t target;
  uint64_t busy;  // when it was taken; 0: free
  uint64_t unused[3];
};
static_assert(sizeof(Delivery) == 128);

inline constexpr unsigned kDeliveries = 32;
inline constexpr unsigned kMaxPutOff = 16;

struct GuestThread {
  uint8_t mode;      // 0: host, 1: guest
  uint8_t selector;  // for Syscall User Dispatch: 0: system calls are allowed, 1: they trap
  // Not 0: every signal is blocked; saved_mask and `signals` are to be given back.
  uint32_t put_off;
  // Where the guest's mask is while the host runs with every signal blocked (invariant 3), or null.
  uint64_t* blocked_mask;
  uint64_t host_stack;  // a multiple of 64
  uint64_t host_fs;
  uint64_t guest_fs;   // while in the host
  uint64_t guest_rsp;  // likewise
  uint64_t alternate;  // the guest's alternate signal stack
  uint64_t alternate_size;
  Delivery* next_delivery;
  GuestThread* self;
  uint64_t host_return;  // stack of the host's function that began the thread

  // Not entry.S's.
  ThreadState* state;
  uint64_t saved_mask;
  uint64_t delivery_count;
  uint32_t signal_count;
  int* clear_tid;
  uint64_t robust_list;
  long sequences[4];  // arguments of rseq(2), as the guest registered
  siginfo_t signals[kMaxPutOff];
  Delivery deliveries[kDeliveries];
};
static_assert(offsetof(GuestThread, put_off) == 4);
static_assert(offsetof(GuestThread, blocked_mask) == 8);
static_assert(offsetof(GuestThread, host_stack) == 16);
static_assert(offsetof(GuestThread, host_fs) == 24);
static_assert(offsetof(GuestThread, guest_fs) == 32);
static_assert(offsetof(GuestThread, guest_rsp) == 40);
static_assert(offsetof(GuestThread, alternate) == 48);
static_assert(offsetof(GuestThread, alternate_size) == 56);
static_assert(offsetof(GuestThread, next_delivery) == 64);
static_assert(offsetof(GuestThread, self) == 72);
static_assert(offsetof(GuestThread, host_return) == 80);

// A guest's handler, as the entry of signals finds it.
struct Handler {
  uint64_t address;
  uint64_t special;  // 0: it can be gone to directly
};
inline constexpr int kSignals = 65;

// The calling thread's; only in a guest's process, on a thread of the guest.
inline GuestThread* CurrentThread() {
  GuestThread* thread;
  asm volatile("mov %%gs:72, %0" : "=r"(thread));
  return thread;
}

}  // namespace userstack::shim::guest

extern "C" {

// entry.S: where a guest's trampolines jump to.
void userstack_guest_entry();
// Runs the guest from `frame` on, with thread->guest_rsp and guest_fs, on the calling thread.
// thread->host_stack: 0, or a stack to use instead of what is free of this one. Returns after
// userstack_guest_leave.
void userstack_guest_run(const userstack::shim::guest::Frame* frame,
                         userstack::shim::guest::GuestThread* thread);
[[noreturn]] void userstack_guest_leave(userstack::shim::guest::GuestThread* thread);
// The kernel's handler for every signal that the guest handles.
void userstack_guest_signal(int signal, siginfo_t* info, void* context);

// Called by entry.S. General registers only, without FS:
bool userstack_guest_concerns(long number, const long* arguments);
void userstack_guest_put_off(int signal, const siginfo_t* info, void* context);
void userstack_guest_requeue(userstack::shim::guest::Delivery* delivery);
// Guest mode; the handler to run, or 0.
uint64_t userstack_guest_special(int signal);
extern userstack::shim::guest::Handler userstack_guest_handlers[];
// As the host:
long userstack_guest_call(userstack::shim::guest::Frame* frame);
[[noreturn]] void userstack_guest_terminate(int signal);
}
