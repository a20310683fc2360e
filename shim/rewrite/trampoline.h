// Trampoline: the code that a rewritten site runs instead. Bytes in, bytes out; nothing is written
// to the site here.
//
//   [copy of what was in front]          rip-relative operands adjusted
//   mov   real(%rip), %rcx               rcx and r11 are free: `syscall` overwrites them
//   jmp   *entry(%rip)                   entry.S
// tail:
//   [copy of what was behind]
//   jmp   back
// real:
//   .quad                                the `syscall` of its stub (stubs.h)
//
// entry.S goes to the stub's `syscall` for a call that is not the stack's, and behind it with a
// result; from there it goes on at `tail`.
#pragma once

#include "shim/rewrite/site.h"

namespace userstack::shim::rewrite {

// No trampoline is larger.
inline constexpr size_t kMaxTrampoline = 96;

struct TrampolinePlace {
  uint64_t site_base = 0;   // what the loader added to the site's addresses
  uint64_t address = 0;     // where the trampoline will run; a multiple of 8
  uint64_t entry_slot = 0;  // where the address of the entry is stored, near
  uint64_t real = 0;        // the `syscall` of its stub, anywhere
};

struct Trampoline {
  size_t size = 0;    // 0: a distance is too far
  uint64_t tail = 0;  // where the stub goes on
};

// Writes the trampoline of `site` to `out` (room for kMaxTrampoline).
Trampoline MakeTrampoline(const Site& site, const TrampolinePlace& place, uint8_t* out);

// The bytes that replace the first site.patched bytes of the site: a jump to its trampoline, and
// traps. False: too far.
bool MakeJump(const Site& site, const TrampolinePlace& place, uint8_t* out);

// jmp from `from` to `to`, kJumpSize bytes. False: too far.
bool MakeNearJump(uint64_t from, uint64_t to, uint8_t* out);

// A site that is consistent with itself, whoever stored it.
bool IsSound(const Site& site);

}  // namespace userstack::shim::rewrite
