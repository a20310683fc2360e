// Hooks: epoll. An instance that is the kernel's only passes through; its sleepers are counted,
// because it may become the stack's too while they sleep (dispatch/epoll_upgrade.cc).
#include "shim/dispatch/epoll.h"

#include <sys/epoll.h>

#include <ctime>

#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

constinit Original<int(int)> real_epoll_create("epoll_create");
constinit Original<int(int)> real_epoll_create1("epoll_create1");
constinit Original<int(int, int, int, epoll_event*)> real_epoll_ctl("epoll_ctl");
constinit Original<int(int, epoll_event*, int, int)> real_epoll_wait("epoll_wait");
constinit Original<int(int, epoll_event*, int, int, const sigset_t*)> real_epoll_pwait(
    "epoll_pwait");
constinit Original<int(int, epoll_event*, int, const timespec*, const sigset_t*)> real_epoll_pwait2(
    "epoll_pwait2");

[[gnu::constructor]] void BindAll() {
  Bind(real_epoll_create, real_epoll_create1, real_epoll_ctl, real_epoll_wait, real_epoll_pwait,
       real_epoll_pwait2);
}

int OnCreated(int fd) {
  OnNewNumber(fd);
  NoteEpollCreated(fd);
  return fd;
}

int WaitOnStack(int epoll, epoll_event* events, int limit, const timespec* timeout,
                const sigset_t* mask) {
  return ReturnInt(CancellationPoint<sys_epoll_pwait2>(epoll, events, limit, timeout, mask));
}

timespec FromMilliseconds(int timeout) { return {timeout / 1000, (timeout % 1000) * 1'000'000L}; }

// A wait in the kernel by `wait()`. When the instance became the stack's meanwhile, the events of
// the upgrade are dropped and the rest of the time is waited for on both halves.
template <typename WaitInKernel>
int WaitOnKernel(int epoll, epoll_event* events, int limit, const timespec* timeout,
                 const sigset_t* mask, WaitInKernel wait) {
  const bool at_once = timeout != nullptr && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
  if (at_once || CurrentMode() != Mode::kStack) return wait();
  userstack::Instant deadline = userstack::Instant::Never();
  {
    const KernelSleep sleep(epoll);
    // Asked again, now that an upgrade would see this thread.
    if (!IsOurs(epoll)) {
      bool unused = false;
      ParseTimeout(timeout, &deadline, &unused);
      const int count = wait();
      if (!IsOurs(epoll) || count < 0) return count;
      const int kept = DropKicks(events, count);
      if (kept != 0 || count == 0) return kept;
    }
  }
  if (timeout == nullptr || deadline.is_never()) {
    return WaitOnStack(epoll, events, limit, timeout, mask);
  }
  const userstack::Duration left = deadline - MonotonicNow();
  timespec rest{};
  if (left > userstack::Duration{}) rest = {left.seconds(), left.nanoseconds % 1'000'000'000};
  return WaitOnStack(epoll, events, limit, &rest, mask);
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int epoll_create(int size) noexcept { return OnCreated(real_epoll_create(size)); }

int epoll_create1(int flags) noexcept { return OnCreated(real_epoll_create1(flags)); }

int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  if (IsOurs(fd) || IsOurs(epoll)) return ReturnInt(sys_epoll_ctl(epoll, operation, fd, event));
  if (operation == EPOLL_CTL_ADD) NoteAdded(fd);
  return real_epoll_ctl(epoll, operation, fd, event);
}

int epoll_wait(int epoll, epoll_event* events, int limit, int timeout) {
  const timespec time = FromMilliseconds(timeout);
  const timespec* limit_time = timeout < 0 ? nullptr : &time;
  if (IsOurs(epoll)) return WaitOnStack(epoll, events, limit, limit_time, nullptr);
  return WaitOnKernel(epoll, events, limit, limit_time, nullptr,
                      [=] { return real_epoll_wait(epoll, events, limit, timeout); });
}

int epoll_pwait(int epoll, epoll_event* events, int limit, int timeout, const sigset_t* mask) {
  const timespec time = FromMilliseconds(timeout);
  const timespec* limit_time = timeout < 0 ? nullptr : &time;
  if (IsOurs(epoll)) return WaitOnStack(epoll, events, limit, limit_time, mask);
  return WaitOnKernel(epoll, events, limit, limit_time, mask,
                      [=] { return real_epoll_pwait(epoll, events, limit, timeout, mask); });
}

int epoll_pwait2(int epoll, epoll_event* events, int limit, const timespec* timeout,
                 const sigset_t* mask) {
  if (IsOurs(epoll)) return WaitOnStack(epoll, events, limit, timeout, mask);
  return WaitOnKernel(epoll, events, limit, timeout, mask,
                      [=] { return real_epoll_pwait2(epoll, events, limit, timeout, mask); });
}

}  // extern "C"
