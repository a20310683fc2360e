// Catching: for the length of one call of libc's, the calling thread's system calls come to the
// dispatcher wherever they are made, without a byte of code being changed (Syscall User Dispatch,
// Linux 5.11). It is how libc's resolver talks through the stack in a program that is not
// rewritten: its sockets are made and used inside libc, where no symbol is. A call costs about 2 us
// more.
//
// Owner: the calling thread; other threads notice nothing. Invariants: 1. The library's own calls
// (all of its text) are never caught. 2. SIGSYS is not blocked meanwhile, whatever libc asks for:
// the kernel ends a process that it cannot tell. 3. A handler of the program's is not caught, so
// that it may leave by siglongjmp.
#pragma once

#include <signal.h>

#include <cstdint>

namespace userstack::shim {

class Catching {
 public:
  Catching();
  ~Catching();
  Catching(const Catching&) = delete;
  Catching& operator=(const Catching&) = delete;

  // The kernel cannot do it (one line was written): what would follow would go past the stack.
  bool failed() const { return failed_; }

 private:
  bool active_ = false;
  bool failed_ = false;
  uint8_t outer_selector_ = 0;
  const void* outer_frame_ = nullptr;
  uint64_t mask_ = 0;
};

// sigaction(2) for SIGSYS as the program sees it, once Catching has taken the signal. False: it has
// not, and the kernel's answer is right.
bool ChangeCaughtAction(const struct sigaction* action, struct sigaction* old);

}  // namespace userstack::shim
