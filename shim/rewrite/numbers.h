// Numbers: which system calls may concern the stack, and how that is seen from their arguments. The
// one list: the finder leaves the sites of all others alone, and the entry asks by it.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace userstack::shim::rewrite {

enum class Concern : uint8_t {
  kNever,
  kFirst,          // the descriptor is the first argument
  kClose,          // the same; nor may it be one of the library's own
  kDuplicateTo,    // first and second; the second may not be one of the library's own
  kFirstThree,     // descriptors are among the first three
  kFirstAndThird,  // splice
  kPolled,         // an array of pollfd
  kAlways,         // cannot be seen cheaply
  kSocket,         // makes a descriptor, by its family
  kRing,           // io_uring
  kFile,           // by name: /etc/resolv.conf may be replaced
  kWait,           // epoll: the first; code that waits without libc, always (call.cc)
  kEnd,            // of the process, where no hook sees it (Go)
  kSignals,        // only while code is watched (watch.h)
  kChild,          // the same
};

constexpr Concern ConcernOf(int64_t number) {
  switch (number) {
    case SYS_read:
    case SYS_write:
    case SYS_ioctl:
    case SYS_readv:
    case SYS_writev:
    case SYS_dup:
    case SYS_connect:
    case SYS_accept:
    case SYS_sendto:
    case SYS_recvfrom:
    case SYS_sendmsg:
    case SYS_recvmsg:
    case SYS_shutdown:
    case SYS_bind:
    case SYS_listen:
    case SYS_getsockname:
    case SYS_getpeername:
    case SYS_setsockopt:
    case SYS_getsockopt:
    case SYS_fcntl:
    case SYS_accept4:
    case SYS_preadv2:
    case SYS_pwritev2:
    case SYS_recvmmsg:
    case SYS_sendmmsg:
    case SYS_epoll_pwait2:
      return Concern::kFirst;
    case SYS_close:
      return Concern::kClose;
    case SYS_dup2:
    case SYS_dup3:
      return Concern::kDuplicateTo;
    case SYS_sendfile:
    case SYS_epoll_ctl:
      return Concern::kFirstThree;
    case SYS_splice:
      return Concern::kFirstAndThird;
    case SYS_poll:
    case SYS_ppoll:
      return Concern::kPolled;
    case SYS_select:
    case SYS_pselect6:
    case SYS_close_range:
      return Concern::kAlways;
    case SYS_socket:
      return Concern::kSocket;
    case SYS_io_uring_setup:
      return Concern::kRing;
    case SYS_open:
    case SYS_openat:
    case SYS_stat:
    case SYS_newfstatat:
      return Concern::kFile;
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      return Concern::kWait;
    case SYS_exit_group:
      return Concern::kEnd;
    case SYS_rt_sigaction:
    case SYS_rt_sigprocmask:
    case SYS_rt_sigsuspend:
      return Concern::kSignals;
    case SYS_clone:
    case SYS_clone3:
    case SYS_fork:
      return Concern::kChild;
  }
  return Concern::kNever;
}

// Waits with a signal mask.
constexpr bool WaitsWithMask(int64_t number) {
  return number == SYS_ppoll || number == SYS_pselect6 || number == SYS_epoll_pwait ||
         number == SYS_epoll_pwait2;
}

}  // namespace userstack::shim::rewrite
