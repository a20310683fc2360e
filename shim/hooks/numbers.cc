// Hooks: close, dup, fcntl, ioctl: what is done to a number.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <climits>
#include <cstdarg>

#include "shim/dispatch/epoll.h"
#include "shim/hooks/hook.h"

namespace userstack::shim {

// The slot of `fd` is stale unless the placeholder is still there.
void PurgeNumber(int fd) {
  Session session;
  if (session.failed()) return;
  const Description* description = Lookup(fd);
  if (description == nullptr || IsGenuine(fd, *description)) return;
  Remove(CurrentProcess(), fd, session.now());
}

namespace {

constinit Original<int(int)> real_close("close");
constinit Original<int(unsigned, unsigned, int)> real_close_range("close_range");
constinit Original<int(int)> real_dup("dup");
constinit Original<int(int, int)> real_dup2("dup2");
constinit Original<int(int, int, int)> real_dup3("dup3");
constinit Original<int(int, int, ...)> real_fcntl("fcntl64");
constinit Original<int(int, unsigned long, ...)> real_ioctl("ioctl");

[[gnu::constructor]] void BindAll() {
  Bind(real_close, real_close_range, real_dup, real_dup2, real_dup3, real_fcntl, real_ioctl);
}

// The kernel duplicated a descriptor of its own.
int OnKernelCopy(int fd, int copy) {
  if (copy < 0) return copy;
  OnNewNumber(copy);
  NoteDuplicated(fd, copy);
  return copy;
}

int Fcntl(int fd, int command, void* argument) {
  if (IsOurs(fd)) return ReturnInt(sys_fcntl(fd, command, reinterpret_cast<long>(argument)));
  const int result = real_fcntl(fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return OnKernelCopy(fd, result);
  return result;
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int close(int fd) {
  if (IsOurs(fd) || IsInternalDescriptor(fd)) return ReturnInt(sys_close(fd));
  return real_close(fd);
}
[[gnu::alias("close")]] int __close(int fd);

int close_range(unsigned first, unsigned last, int flags) noexcept {
  if (g_slots == nullptr) return real_close_range(first, last, flags);
  return ReturnInt(sys_close_range(first, last, static_cast<unsigned>(flags)));
}

void closefrom(int lowest) noexcept {
  const unsigned first = lowest < 0 ? 0 : static_cast<unsigned>(lowest);
  sys_close_range(first, UINT_MAX, 0);
}

int dup(int fd) noexcept {
  if (IsOurs(fd)) return ReturnInt(sys_dup(fd));
  return OnKernelCopy(fd, real_dup(fd));
}

int dup2(int fd, int target) noexcept {
  if (IsOurs(fd) || IsOurs(target) || IsInternalDescriptor(target)) {
    return ReturnInt(sys_dup2(fd, target));
  }
  return OnKernelCopy(fd, real_dup2(fd, target));
}
[[gnu::alias("dup2")]] int __dup2(int fd, int target) noexcept;

int dup3(int fd, int target, int flags) noexcept {
  if (IsOurs(fd) || IsOurs(target) || IsInternalDescriptor(target)) {
    return ReturnInt(sys_dup3(fd, target, flags));
  }
  return OnKernelCopy(fd, real_dup3(fd, target, flags));
}

// As libc does, the third argument is read whether the command has one or not.
int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return Fcntl(fd, command, argument);
}
[[gnu::alias("fcntl")]] int fcntl64(int fd, int command, ...);
[[gnu::alias("fcntl")]] int __fcntl(int fd, int command, ...);

int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (!IsOurs(fd)) return real_ioctl(fd, request, argument);
  return ReturnInt(sys_ioctl(fd, request, argument));
}

}  // extern "C"
