// Entry: what the assembly of entry.S needs from C++, and what it offers.
#pragma once

#include <cstdint>

namespace userstack::shim::rewrite {

// Answer::handled.
inline constexpr long kPassed = 0;  // not the stack's after all: the program's own `syscall`
inline constexpr long kAnswered = 1;
inline constexpr long kPassedWatched = 2;  // as kPassed, and its child is to be watched (stubs.h)

struct Answer {
  long result;
  long handled;
};

// A bit of the number that the entry for small stacks sets.
inline constexpr long kFromSmallStack = 1L << 62;
// What one call of such code has.
inline constexpr long kReserved = 0x10000;

// Gives the calling thread a stack for calls from code whose own are too small; it is freed when
// the thread ends. False: no memory; the calls are the kernel's.
bool MakeThreadStack();

// Finds out which registers have to be preserved; before the first site is rewritten.
void DetectVectors();

}  // namespace userstack::shim::rewrite

extern "C" {

// entry.S: where trampolines jump to.
void userstack_rewrite_entry();
// The same for code whose stacks are small.
void userstack_rewrite_entry_small();
extern uint32_t userstack_rewrite_vectors;

// Called by entry.S. May this call concern the stack? Compiled with general registers only.
bool userstack_rewrite_concerns(long number, const long* arguments);
// Makes it. With errno and the thread's cancellation type as the program has them.
userstack::shim::rewrite::Answer userstack_rewrite_call(long number, const long* arguments);
}
