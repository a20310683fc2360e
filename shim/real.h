// Real: the kernel underneath. The originals of hooked functions (dlsym RTLD_NEXT, bound once and
// early) and raw system calls for the library's own input and output.
#pragma once

#include <sys/syscall.h>

#include <atomic>
#include <cstdint>

#include "backend/system_call.h"

namespace userstack::shim {

// A system call without libc: returns -errno on failure, never touches errno, never cancels.
inline long RawSyscall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                       long f = 0) {
  return backend::SystemCall(number, a, b, c, d, e, f);
}

inline long Word(const void* pointer) { return reinterpret_cast<long>(pointer); }

// The next definition of `name` after this library; nullptr when there is none. May allocate in the
// dynamic linker only when the name is missing.
void* RealSymbol(const char* name);

// The original of a hooked function: `constinit Original<ssize_t(int, void*, size_t)>
// real_read("read");`, then `real_read(fd, buffer, size)`. Bound at its first call; a race binds it
// twice to the same value. Calling one that libc does not have is our own bug and crashes.
template <typename Signature>
class Original;

template <typename R, typename... Args>
class Original<R(Args...)> {
 public:
  using Function = R (*)(Args...);
  constexpr explicit Original(const char* name) : name_(name) {}

  Function get() {
    Function function = function_.load(std::memory_order_relaxed);
    if (function == nullptr) [[unlikely]] {
      function = reinterpret_cast<Function>(RealSymbol(name_));
      function_.store(function, std::memory_order_relaxed);
    }
    return function;
  }
  R operator()(Args... args) { return get()(args...); }

 private:
  const char* name_;
  std::atomic<Function> function_{nullptr};
};

// Those with C variable arguments.
template <typename R, typename... Args>
class Original<R(Args..., ...)> {
 public:
  using Function = R (*)(Args..., ...);
  constexpr explicit Original(const char* name) : name_(name) {}

  Function get() {
    Function function = function_.load(std::memory_order_relaxed);
    if (function == nullptr) [[unlikely]] {
      function = reinterpret_cast<Function>(RealSymbol(name_));
      function_.store(function, std::memory_order_relaxed);
    }
    return function;
  }
  template <typename... All>
  R operator()(All... args) {
    return get()(args...);
  }

 private:
  const char* name_;
  std::atomic<Function> function_{nullptr};
};

}  // namespace userstack::shim
