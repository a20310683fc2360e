// Stubs: where every rewritten call reaches the kernel. A stub holds the program's own `syscall`
// instruction in the library's address range, so that one range of code may make system calls while
// everything else is watched (watch.h).
//
//   +0   .quad behind the site            where an unwinder finds the caller
//   +8   syscall; jmp *tail               the call as it was
//   +16  syscall; jmp after_clone         the same, for calls whose child is to be watched too
//   +24  .quad tail                       what follows the call: a trampoline, or the site itself
//   +32  lea +8, %rcx; jmp entry          for who comes here without a trampoline
//
// The memory is part of the library (stubs.S), which describes every stub to unwinders. It becomes
// executable at the first use and is never writable: stubs are written through /proc/self/mem.
//
// Owner: TakeStubs may be called by any thread and any handler; what was given back belongs to
// PatchSites' caller and his lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "backend/system_call.h"

namespace userstack::shim::rewrite {

inline constexpr size_t kStubSize = 64;
inline constexpr size_t kStubReal = 8;
inline constexpr size_t kStubThunk = 32;

struct Stub {
  uint64_t next = 0;  // behind the site
  uint64_t tail = 0;
  void (*entry)() = nullptr;
};

// Addresses [begin, end) that hold the library's code and the stubs.
struct AddressRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool Holds(uint64_t address) const { return address >= begin && address < end; }
};
AddressRange OwnRange();

// `count` stubs in a row: the address of the first, or 0: there is no room, or no executable
// memory, with -errno in *error.
uint64_t TakeStubs(size_t count, long* error);
// For PatchSites: the same out of what was given back; 0: there is no such row.
uint64_t ReuseStubs(size_t count);
// Nothing goes there any more.
void GiveBackStubs(uint64_t first, size_t count);

// The bytes of a stub that will be at `address`.
void MakeStub(const Stub& stub, uint64_t address, uint8_t (&out)[kStubSize]);

// A lock that a forked child finds free, though another thread of its parent held it. With every
// signal blocked that may be: handlers take it too.
class ForkableLock {
 public:
  void Lock();
  void Unlock();

 private:
  std::atomic<long> process_{0};  // of the holder
  uint64_t mask_ = 0;             // the holder's
};

class ForkableGuard {
 public:
  explicit ForkableGuard(ForkableLock& lock) : lock_(lock) { lock_.Lock(); }
  ~ForkableGuard() { lock_.Unlock(); }
  ForkableGuard(const ForkableGuard&) = delete;
  ForkableGuard& operator=(const ForkableGuard&) = delete;

 private:
  ForkableLock& lock_;
};

// Writes to memory that must not be writable. Process-local, without libc.
class CodeWriter {
 public:
  CodeWriter();
  // 0 or -errno. All of it, or nothing: what was written of a failed attempt is taken back, if
  // there is an `old`.
  long Write(uint64_t address, const uint8_t* bytes, const uint8_t* old, size_t size) const;

 private:
  backend::OwnedDescriptor memory_;
};

}  // namespace userstack::shim::rewrite

extern "C" {
// stubs.S.
extern uint8_t userstack_rewrite_stubs[];
extern uint8_t userstack_rewrite_stubs_end[];
void userstack_rewrite_after_clone();
// What a new thread or process is given: nothing (0), or the range of code that is not watched.
extern uint64_t userstack_rewrite_unwatched[2];
}
