// Emulated: which calls of a guest are looked at. Asked before anything is saved; general registers
// only, without FS (CMakeLists.txt).
#include <asm/prctl.h>
#include <sys/syscall.h>

#include "shim/guest/calls.h"
#include "shim/guest/own_path.h"

namespace userstack::shim::guest {

bool IsEmulated(long number, const long* arguments) {
  switch (number) {
    case SYS_brk:
    case SYS_rt_sigaction:
    case SYS_sigaltstack:
    case SYS_clone:
    case SYS_clone3:
    case SYS_fork:
    case SYS_vfork:
    case SYS_execve:
    case SYS_execveat:
    case SYS_exit:
    case SYS_exit_group:
    case SYS_set_tid_address:
    case SYS_set_robust_list:
    case SYS_get_robust_list:
    case SYS_rseq:
    case SYS_rt_sigprocmask:
      return number != SYS_rt_sigprocmask || IsTrapping();
    case SYS_arch_prctl:
      return arguments[0] == ARCH_SET_GS || arguments[0] == ARCH_GET_GS;
    case SYS_open:
    case SYS_readlink:
      return IsOwnPath(arguments[0]);
    case SYS_openat:
    case SYS_readlinkat:
      return IsOwnPath(arguments[1]);
  }
  return false;
}

}  // namespace userstack::shim::guest
