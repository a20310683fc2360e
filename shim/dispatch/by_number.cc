// By number: libc's syscall() and, later, rewritten call sites. Only calls that may concern a
// descriptor of the stack are here.
#include <fcntl.h>
#include <sys/syscall.h>

#include "shim/dispatch/call.h"
#include "shim/dispatch/dispatch.h"
#include "shim/dispatch/replaced_file.h"

namespace userstack::shim {
namespace {

template <typename T>
T* As(long word) {
  return reinterpret_cast<T*>(word);
}

// pselect6 and epoll_pwait2 take the signal mask in their own ways.
struct SizedMask {
  const sigset_t* mask;
  size_t size;
};

const timespec* FromMilliseconds(long milliseconds, timespec* storage) {
  const int value = static_cast<int>(milliseconds);
  if (value < 0) return nullptr;
  *storage = {value / 1000, (value % 1000) * 1'000'000L};
  return storage;
}

long Select(const long* a) {
  auto* timeout = As<timeval>(a[4]);
  timespec time{};
  if (timeout != nullptr) {
    time = {timeout->tv_sec + timeout->tv_usec / 1'000'000, (timeout->tv_usec % 1'000'000) * 1000};
  }
  Duration left;
  const long result =
      sys_pselect6(static_cast<int>(a[0]), As<fd_set>(a[1]), As<fd_set>(a[2]), As<fd_set>(a[3]),
                   timeout != nullptr ? &time : nullptr, nullptr, &left);
  if (timeout != nullptr) *timeout = {left.seconds(), left.microseconds() % 1'000'000};
  return result;
}

// The raw calls update their timeout, unlike libc's wrappers.
long PselectRaw(const long* a) {
  auto* timeout = As<timespec>(a[4]);
  const auto* sized = As<const SizedMask>(a[5]);
  Duration left;
  const long result =
      sys_pselect6(static_cast<int>(a[0]), As<fd_set>(a[1]), As<fd_set>(a[2]), As<fd_set>(a[3]),
                   timeout, sized != nullptr ? sized->mask : nullptr, &left);
  if (timeout != nullptr) *timeout = {left.seconds(), left.nanoseconds % 1'000'000'000};
  return result;
}

long PollRaw(const long* a) {
  timespec storage;
  return sys_ppoll(As<pollfd>(a[0]), static_cast<nfds_t>(a[1]), FromMilliseconds(a[2], &storage),
                   nullptr, nullptr);
}

long PpollRaw(const long* a) {
  auto* timeout = As<timespec>(a[2]);
  Duration left;
  const long result = sys_ppoll(As<pollfd>(a[0]), static_cast<nfds_t>(a[1]), timeout,
                                As<const sigset_t>(a[3]), &left);
  if (timeout != nullptr) *timeout = {left.seconds(), left.nanoseconds % 1'000'000'000};
  return result;
}

long EpollWait(const long* a, const sigset_t* mask) {
  timespec storage;
  return sys_epoll_pwait2(static_cast<int>(a[0]), As<epoll_event>(a[1]), static_cast<int>(a[2]),
                          FromMilliseconds(a[3], &storage), mask);
}

// Calls whose first argument is the descriptor. *handled stays as it is for any other.
long ByDescriptor(long number, const long* a, bool* handled) {
  const int fd = static_cast<int>(a[0]);
  const int second = static_cast<int>(a[1]);
  const int third = static_cast<int>(a[2]);
  const auto size = static_cast<size_t>(a[2]);
  const auto length = static_cast<socklen_t>(a[2]);
  *handled = true;
  switch (number) {
    case SYS_read:
      return sys_read(fd, As<void>(a[1]), size);
    case SYS_write:
      return sys_write(fd, As<void>(a[1]), size);
    case SYS_readv:
      return sys_readv(fd, As<iovec>(a[1]), third);
    case SYS_writev:
      return sys_writev(fd, As<iovec>(a[1]), third);
    case SYS_preadv2:
      return sys_preadv2(fd, As<iovec>(a[1]), third, a[3], static_cast<int>(a[5]));
    case SYS_pwritev2:
      return sys_pwritev2(fd, As<iovec>(a[1]), third, a[3], static_cast<int>(a[5]));
    case SYS_recvfrom:
      return sys_recvfrom(fd, As<void>(a[1]), size, static_cast<int>(a[3]), As<sockaddr>(a[4]),
                          As<socklen_t>(a[5]));
    case SYS_sendto:
      return sys_sendto(fd, As<void>(a[1]), size, static_cast<int>(a[3]), As<sockaddr>(a[4]),
                        static_cast<socklen_t>(a[5]));
    case SYS_recvmsg:
      return sys_recvmsg(fd, As<msghdr>(a[1]), third);
    case SYS_sendmsg:
      return sys_sendmsg(fd, As<msghdr>(a[1]), third);
    case SYS_recvmmsg:
      return sys_recvmmsg(fd, As<mmsghdr>(a[1]), static_cast<unsigned>(a[2]),
                          static_cast<int>(a[3]), As<timespec>(a[4]));
    case SYS_sendmmsg:
      return sys_sendmmsg(fd, As<mmsghdr>(a[1]), static_cast<unsigned>(a[2]),
                          static_cast<int>(a[3]));
    case SYS_bind:
      return sys_bind(fd, As<sockaddr>(a[1]), length);
    case SYS_listen:
      return sys_listen(fd, second);
    case SYS_accept:
      return sys_accept4(fd, As<sockaddr>(a[1]), As<socklen_t>(a[2]), 0);
    case SYS_accept4:
      return sys_accept4(fd, As<sockaddr>(a[1]), As<socklen_t>(a[2]), static_cast<int>(a[3]));
    case SYS_connect:
      return sys_connect(fd, As<sockaddr>(a[1]), length);
    case SYS_shutdown:
      return sys_shutdown(fd, second);
    case SYS_getsockname:
      return sys_getsockname(fd, As<sockaddr>(a[1]), As<socklen_t>(a[2]));
    case SYS_getpeername:
      return sys_getpeername(fd, As<sockaddr>(a[1]), As<socklen_t>(a[2]));
    case SYS_getsockopt:
      return sys_getsockopt(fd, second, third, As<void>(a[3]), As<socklen_t>(a[4]));
    case SYS_setsockopt:
      return sys_setsockopt(fd, second, third, As<void>(a[3]), static_cast<socklen_t>(a[4]));
    case SYS_ioctl:
      return sys_ioctl(fd, static_cast<unsigned long>(a[1]), As<void>(a[2]));
    case SYS_fcntl:
      return sys_fcntl(fd, second, a[2]);
    case SYS_dup:
      return sys_dup(fd);
  }
  *handled = false;
  return 0;
}

}  // namespace

long DispatchByNumber(long number, const long* a, bool* handled) {
  const int first = static_cast<int>(a[0]);
  *handled = true;
  switch (number) {
    case SYS_socket:
      return sys_socket(first, static_cast<int>(a[1]), static_cast<int>(a[2]));
    case SYS_close:
      return sys_close(first);
    case SYS_close_range:
      return sys_close_range(static_cast<unsigned>(a[0]), static_cast<unsigned>(a[1]),
                             static_cast<unsigned>(a[2]));
    case SYS_dup2:
      return sys_dup2(first, static_cast<int>(a[1]));
    case SYS_dup3:
      return sys_dup3(first, static_cast<int>(a[1]), static_cast<int>(a[2]));
    case SYS_sendfile:
      return sys_sendfile(first, static_cast<int>(a[1]), As<off_t>(a[2]),
                          static_cast<size_t>(a[3]));
    case SYS_splice:
      return sys_splice(first, As<off_t>(a[1]), static_cast<int>(a[2]), As<off_t>(a[3]),
                        static_cast<size_t>(a[4]), static_cast<unsigned>(a[5]));
    case SYS_epoll_ctl:
      return sys_epoll_ctl(first, static_cast<int>(a[1]), static_cast<int>(a[2]),
                           As<epoll_event>(a[3]));
    case SYS_io_uring_setup:
      // Submissions would go around the stack: programs fall back to epoll.
      if (CurrentMode() == Mode::kKernel) break;
      return -ENOSYS;
    case SYS_open:
    case SYS_stat:
      if (const char* file = ReplacedFileOf(As<const char>(a[0]))) {
        return OpenReplaced(number, Word(file), a[1], a[2], 0);
      }
      break;
    case SYS_openat:
    case SYS_newfstatat:
      if (const char* file = ReplacedFileOf(As<const char>(a[1]))) {
        return OpenReplaced(number, AT_FDCWD, Word(file), a[2], a[3]);
      }
      break;
    case SYS_epoll_wait:
      if (IsOurs(first)) return EpollWait(a, nullptr);
      break;
    case SYS_epoll_pwait:
      if (IsOurs(first)) return EpollWait(a, As<const sigset_t>(a[4]));
      break;
    case SYS_epoll_pwait2:
      if (!IsOurs(first)) break;
      return sys_epoll_pwait2(first, As<epoll_event>(a[1]), static_cast<int>(a[2]),
                              As<const timespec>(a[3]), As<const sigset_t>(a[4]));
    case SYS_poll:
      if (AnyOurs(As<pollfd>(a[0]), static_cast<nfds_t>(a[1]))) return PollRaw(a);
      break;
    case SYS_ppoll:
      if (AnyOurs(As<pollfd>(a[0]), static_cast<nfds_t>(a[1]))) return PpollRaw(a);
      break;
    case SYS_select:
      if (AnyOurs(first, As<fd_set>(a[1]), As<fd_set>(a[2]), As<fd_set>(a[3]))) return Select(a);
      break;
    case SYS_pselect6:
      if (AnyOurs(first, As<fd_set>(a[1]), As<fd_set>(a[2]), As<fd_set>(a[3]))) {
        return PselectRaw(a);
      }
      break;
    default:
      if (IsOurs(first)) return ByDescriptor(number, a, handled);
  }
  *handled = false;
  return 0;
}

}  // namespace userstack::shim
