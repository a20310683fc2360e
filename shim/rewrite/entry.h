// Entry: what the assembly of entry.S needs from C++, and what it offers.
#pragma once

#include <cstdint>

namespace userstack::shim::rewrite {

struct Answer {
  long result;
  long handled;  // 0: not the stack's after all; the program's own `syscall` makes the call
};

// Finds out which registers have to be preserved; before the first site is rewritten.
void DetectVectors();

}  // namespace userstack::shim::rewrite

extern "C" {

// entry.S: where trampolines jump to.
void userstack_rewrite_entry();
extern uint32_t userstack_rewrite_vectors;

// Called by entry.S. May this call concern the stack? Compiled with general registers only.
bool userstack_rewrite_concerns(long number, const long* arguments);
// Makes it. With errno and the thread's cancellation type as the program has them.
userstack::shim::rewrite::Answer userstack_rewrite_call(long number, const long* arguments);
}
