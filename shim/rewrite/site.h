// Site: one `syscall` instruction that has been proved to be one, and how it can be replaced. Plain
// data: the decoder's module hands it over, and the cache stores it.
//
// How: a jump of five bytes is written over whole instructions that begin at `syscall - before` and
// end `patched` bytes later. What it replaces up to the system call, and what it replaces behind
// it, runs as a copy in the site's trampoline. Bytes that are not patched keep their meaning, so
// that code which jumps to them makes the real call, as it would without us.
#pragma once

#include <cstddef>
#include <cstdint>

namespace userstack::shim::rewrite {

inline constexpr int32_t kUnknownNumber = -1;
inline constexpr uint8_t kJumpSize = 5;
inline constexpr uint8_t kSyscallSize = 2;

struct Site {
  static constexpr size_t kMaxCode = 48;

  uint64_t syscall = 0;             // address of the instruction in the file
  int32_t number = kUnknownNumber;  // what is in eax there, when it is always the same
  uint8_t before = 0;               // bytes of whole instructions in front that are copied
  uint8_t after = 0;                // and behind it
  uint8_t patched = 0;              // bytes that the jump replaces; 0: no safe way is known
  uint8_t fixups[2] = {};           // where in `code` a displacement from rip begins; 0: none
  uint8_t reserved[7] = {};
  uint8_t code[kMaxCode] = {};  // from syscall - before: what is copied or patched

  size_t code_size() const { return size_t{before} + kSyscallSize + after; }
  uint64_t start() const { return syscall - before; }
};
static_assert(sizeof(Site) == 72);

// Which calls may concern a descriptor of the stack: the others' sites are left alone.
enum class Scope : uint8_t {
  kBesideLibc,  // descriptors; the rest is reached by symbols
  kGo,          // code that ends a process by itself, past libc
  kWhole,       // a program without libc: everything but the return of a handler
};
bool IsRelevant(int32_t number, Scope scope);

}  // namespace userstack::shim::rewrite
