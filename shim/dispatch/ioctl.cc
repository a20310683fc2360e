// Ioctl: on sockets of the stack.
#include <net/if.h>
#include <sys/ioctl.h>

#include "shim/dispatch/call.h"
#include "shim/dispatch/interfaces.h"

namespace userstack::shim {
namespace {

// The flags that are kept in the description and in the placeholder.
long SetFlag(SocketCall& call, int fd, unsigned long request, void* argument) {
  const long result = RawSyscall(SYS_ioctl, fd, static_cast<long>(request), Word(argument));
  if (result < 0) return result;
  int value = 0;
  __builtin_memcpy(&value, argument, sizeof value);
  if (request == FIONBIO) call.description().nonblocking = value != 0;
  if (request == FIOASYNC) {
    call.description().async = value != 0;
    call.description().unfit = true;
  }
  return result;
}

bool IsInterfaceRequest(unsigned long request) {
  return request >= SIOCGIFNAME && request <= SIOCDIFADDR;
}

}  // namespace

long sys_ioctl(int fd, unsigned long request, void* argument) {
  if (IsOurs(fd)) {
    SocketCall call(fd);
    if (call.status() == 0) {
      if (request == FIOCLEX || request == FIONCLEX) {
        return RawSyscall(SYS_ioctl, fd, static_cast<long>(request), Word(argument));
      }
      if (IsBadAddress(argument)) return -EFAULT;
      if (request == FIONBIO || request == FIOASYNC) return SetFlag(call, fd, request, argument);
      if (request == FIOSETOWN || request == SIOCSPGRP || request == FIOGETOWN ||
          request == SIOCGPGRP) {
        call.description().unfit = true;
        return RawSyscall(SYS_ioctl, fd, static_cast<long>(request), Word(argument));
      }
      if (IsInterfaceRequest(request)) return InterfaceIoctl(call.session(), request, argument);
      const Result<int> value = call.stack().Ioctl(call.socket(), request, call.now());
      if (!value.ok()) return -value.error();
      __builtin_memcpy(argument, &*value, sizeof(int));
      return 0;
    }
    if (call.status() != kNotOurs) return call.status();
  }
  return RawSyscall(SYS_ioctl, fd, static_cast<long>(request), Word(argument));
}

}  // namespace userstack::shim
