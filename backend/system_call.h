// System calls without libc, for a library that interposes libc's own: nothing here can come back
// through a hook, touch errno or be a cancellation point. All return -errno on failure.
#pragma once

#include <sys/syscall.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace userstack::backend {

inline long SystemCall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
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

inline long KernelReadv(int fd, const iovec* entries, size_t count) {
  return SystemCall(SYS_readv, fd, reinterpret_cast<long>(entries), static_cast<long>(count));
}
inline long KernelWritev(int fd, const iovec* entries, size_t count) {
  return SystemCall(SYS_writev, fd, reinterpret_cast<long>(entries), static_cast<long>(count));
}
inline long KernelOpen(const char* path, int flags, int mode = 0) {
  constexpr long kCurrentDirectory = -100;  // AT_FDCWD
  return SystemCall(SYS_openat, kCurrentDirectory, reinterpret_cast<long>(path), flags, mode);
}
inline long KernelIoctl(int fd, unsigned long request, const void* argument) {
  return SystemCall(SYS_ioctl, fd, static_cast<long>(request), reinterpret_cast<long>(argument));
}
inline void KernelClose(int fd) { SystemCall(SYS_close, fd); }

// An open descriptor, closed at the end of its life.
class OwnedDescriptor {
 public:
  OwnedDescriptor() = default;
  explicit OwnedDescriptor(int fd) : fd_(fd) {}
  OwnedDescriptor(OwnedDescriptor&& other) noexcept : fd_(other.Release()) {}
  OwnedDescriptor& operator=(OwnedDescriptor&& other) noexcept {
    if (this != &other) {
      if (fd_ >= 0) KernelClose(fd_);
      fd_ = other.Release();
    }
    return *this;
  }
  ~OwnedDescriptor() {
    if (fd_ >= 0) KernelClose(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  // Moves it to the lowest free number at or above `floor`; stays where it is when that fails (the
  // number is beyond RLIMIT_NOFILE).
  void MoveAbove(int floor) {
    constexpr long kDuplicateCloseOnExec = 1030;  // F_DUPFD_CLOEXEC
    if (fd_ < 0 || fd_ >= floor) return;
    const long moved = SystemCall(SYS_fcntl, fd_, kDuplicateCloseOnExec, floor);
    if (moved >= 0) *this = OwnedDescriptor(static_cast<int>(moved));
  }

 private:
  int fd_ = -1;
};

}  // namespace userstack::backend
