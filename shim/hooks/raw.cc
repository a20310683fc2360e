// Hooks: syscall(), the function: raw system calls that a program makes through libc.
#include <sched.h>
#include <unistd.h>

#include <cstdarg>

#include "shim/dispatch/dispatch.h"
#include "shim/guest/start.h"
#include "shim/hooks/hook.h"
#include "shim/hooks/processes.h"

namespace userstack::shim {
namespace {

long Make(long number, const long* a) {
  return RawSyscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// fork by number; clone without memory or stack of its own is the same thing.
bool IsFork(long number, const long* a) {
  if (number == SYS_fork || number == SYS_vfork) return true;
  return number == SYS_clone && (a[0] & CLONE_VM) == 0 && a[1] == 0;
}

long ForkRaw(long number, const long* a) {
  // vfork is answered with fork: see processes.cc.
  const bool waits = number == SYS_vfork || (number == SYS_clone && (a[0] & CLONE_VFORK) != 0);
  const auto make = [&] {
    if (number != SYS_clone) return RawSyscall(SYS_fork);
    return RawSyscall(number, a[0] & ~long{CLONE_VFORK}, a[1], a[2], a[3], a[4], a[5]);
  };
  if (waits) return ForkWaiting(make);
  PrepareFork();
  const long child = make();
  AfterFork(static_cast<pid_t>(child < 0 ? -1 : child));
  return child;
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  if (number == guest::kLoadNumber && guest::IsLauncher()) {
    guest::LoadProgram(static_cast<int>(a[0]), reinterpret_cast<char**>(a[1]),
                       reinterpret_cast<const uint64_t*>(a[2]));
  }
  bool handled = false;
  const long result = DispatchByNumber(number, a, &handled);
  if (handled) return Return(result);
  if (number == SYS_execve) {
    return execve(reinterpret_cast<const char*>(a[0]), reinterpret_cast<char* const*>(a[1]),
                  reinterpret_cast<char* const*>(a[2]));
  }
  if (IsAttached()) {
    if (IsFork(number, a)) return Return(ForkRaw(number, a));
    if (number == SYS_exit_group) EndProcess();
  }
  return Return(Make(number, a));
}
