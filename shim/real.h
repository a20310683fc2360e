// Real: the kernel underneath. The originals of hooked functions (dlsym RTLD_NEXT, bound once and
// early) and raw system calls for the library's own input and output.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace userstack::shim {

// A system call without libc: returns -errno on failure, never touches errno, never cancels.
inline long RawSyscall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                       long f = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

}  // namespace userstack::shim
