// Rewrite: system calls that go past the exported symbols. With USERSTACK_REWRITE=on the `syscall`
// instructions of the loaded objects that may concern a descriptor of the stack are replaced before
// the program runs, and those of objects that dlopen brings before any of their code runs (see
// rewrite.cc).
#pragma once

#include <atomic>
#include <cstdint>

#include "shim/rewrite/image.h"

namespace userstack::shim {

// When the library is loaded, before anything else of ours: nothing but one look at the environment
// unless USERSTACK_REWRITE, or a file that may say it, is configured. What cannot be done is one
// line, and the symbols remain.
void RewriteAtLoad();

// libc's own system calls come to the dispatcher.
extern std::atomic<bool> g_libc_is_rewritten;

// A static program that has been loaded at `base` (guest/): its calls come to `entry`.
// Returns how many places are or may be system calls and were not rewritten.
unsigned RewriteProgram(uintptr_t base, const rewrite::Image& image, const char* name,
                        void (*entry)());

// Code with stacks of its own (Go) is loaded: new threads get one for its calls (hooks/threads.cc).
extern std::atomic<bool> g_threads_need_stacks;

}  // namespace userstack::shim
