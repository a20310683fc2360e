// Patch: puts trampolines near an object and jumps over its sites. Process-local; the caller holds
// whatever keeps two threads from patching at once, and no other thread may run in what is patched.
//
// Code, the trampolines too, is written through /proc/self/mem: it is never writable, nor for a
// moment not executable, so that a policy against either (SELinux execmod, PR_SET_MDWE) has nothing
// to refuse half-way.
//
// Invariants: 1. A site whose bytes are not those that the finder saw is left alone. 2. A failure
// leaves the object as it was, or with some sites rewritten and the others whole.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shim/rewrite/image.h"
#include "shim/rewrite/site.h"

namespace userstack::shim::rewrite {

// What an object's jumps go to.
struct Trampolines {
  uint64_t memory = 0;  // near the object; 0: there are none
  size_t size = 0;
  uint64_t stubs = 0;
  size_t stub_count = 0;
};

struct PatchResult {
  uint32_t rewritten = 0;
  uint32_t left = 0;  // no safe way, or other bytes than expected
  long error = 0;     // -errno of what failed, with the reason in `failure`
  const char* failure = nullptr;
  Trampolines trampolines;
};

// `entry`: where the trampolines go, entry.S's userstack_rewrite_entry.
PatchResult PatchSites(uintptr_t base, const Image& image, const Site* sites, size_t count,
                       void (*entry)());

// The object is gone: nothing jumps there any more.
void FreeTrampolines(const Trampolines& trampolines);

// Makes a function that does nothing, `ret` with `room` bytes up to the next function, call
// `target` instead. 0 or -errno.
long RedirectEmptyFunction(uintptr_t function, size_t room, void (*target)());

}  // namespace userstack::shim::rewrite
