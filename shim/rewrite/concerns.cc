// Concerns: may this system call be the stack's? Asked at every rewritten site, before anything is
// saved but the general registers; compiled without vector registers, so nothing here may call what
// is not (CMakeLists.txt). A yes that turns out to be a no costs time only; a no is final.
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include "shim/descriptors.h"
#include "shim/internal.h"
#include "shim/rewrite/entry.h"

namespace userstack::shim {
namespace {

// The kernel's answer to these is EFAULT; see IsBadAddress in dispatch/call.h.
constexpr long kLowestAddress = 4096;

bool AnyPolled(const long* a) {
  if (static_cast<unsigned long>(a[0]) < kLowestAddress) return false;
  const auto* entries = reinterpret_cast<const pollfd*>(a[0]);
  const auto count = static_cast<unsigned long>(a[1]);
  for (unsigned long i = 0; i < count && i < kMaxDescriptors; ++i) {
    if (IsOurs(entries[i].fd)) return true;
  }
  return false;
}

bool Number(long argument) { return IsOurs(static_cast<int>(argument)); }

// dup2 and close must not take a descriptor that the library itself uses.
bool Protected(long argument) {
  return Number(argument) || IsInternalDescriptor(static_cast<int>(argument));
}

bool Attached(long number, const long* a) {
  switch (number) {
    case SYS_close:
      return Protected(a[0]);
    case SYS_dup2:
    case SYS_dup3:
      return Number(a[0]) || Protected(a[1]);
    case SYS_sendfile:
    case SYS_epoll_ctl:
      return Number(a[0]) || Number(a[1]) || Number(a[2]);
    case SYS_splice:
      return Number(a[0]) || Number(a[2]);
    case SYS_poll:
    case SYS_ppoll:
      return AnyPolled(a);
    case SYS_select:
    case SYS_pselect6:
    case SYS_close_range:
      return true;
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
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_accept4:
    case SYS_preadv2:
    case SYS_pwritev2:
    case SYS_recvmmsg:
    case SYS_sendmmsg:
      return Number(a[0]);
    case SYS_exit_group:
      return true;
  }
  return false;
}

// Go's runtime waits past libc's hooks: the instance may become the stack's while it sleeps.
bool IsWait(long number) { return number == SYS_epoll_wait || number == SYS_epoll_pwait; }

bool NamesFile(long number) {
  return number == SYS_open || number == SYS_openat || number == SYS_stat ||
         number == SYS_newfstatat;
}

}  // namespace
}  // namespace userstack::shim

extern "C" bool userstack_rewrite_concerns(long number, const long* arguments) {
  using userstack::shim::Attached;
  using userstack::shim::rewrite::kFromSmallStack;
  if ((number & kFromSmallStack) != 0) {
    number &= ~kFromSmallStack;
    if (userstack::shim::IsWait(number)) return true;
  }
  // These two make descriptors: they concern a process that is not attached yet.
  if (number == SYS_socket) return arguments[0] == AF_INET || arguments[0] == AF_INET6;
  if (number == SYS_io_uring_setup) return true;
  if (userstack::shim::NamesFile(number)) return userstack::shim::g_replaces_files;
  return userstack::shim::g_slots != nullptr && Attached(number, arguments);
}
