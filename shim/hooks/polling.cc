// Hooks: poll, select and their relatives.
#include <poll.h>
#include <sys/select.h>

#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

constinit Original<int(pollfd*, nfds_t, int)> real_poll("poll");
constinit Original<int(pollfd*, nfds_t, const timespec*, const sigset_t*)> real_ppoll("ppoll");
constinit Original<int(pollfd*, nfds_t, int, size_t)> real_poll_chk("__poll_chk");
constinit Original<int(pollfd*, nfds_t, const timespec*, const sigset_t*, size_t)> real_ppoll_chk(
    "__ppoll_chk");
constinit Original<int(int, fd_set*, fd_set*, fd_set*, timeval*)> real_select("select");
constinit Original<int(int, fd_set*, fd_set*, fd_set*, const timespec*, const sigset_t*)>
    real_pselect("pselect");
constinit Original<void()> real_chk_fail("__chk_fail");

[[gnu::constructor]] void BindAll() {
  Bind(real_poll, real_ppoll, real_poll_chk, real_ppoll_chk, real_select, real_pselect,
       real_chk_fail);
}

void CheckSize(nfds_t count, size_t buffer_size) {
  if (buffer_size / sizeof(pollfd) < count) [[unlikely]]
    real_chk_fail();
}

int Poll(pollfd* entries, nfds_t count, int timeout) {
  const timespec time{timeout / 1000, (timeout % 1000) * 1'000'000L};
  return ReturnInt(CancellationPoint<sys_ppoll>(entries, count, timeout < 0 ? nullptr : &time,
                                                nullptr, nullptr));
}

int Select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* timeout) {
  if (timeout == nullptr) {
    return ReturnInt(
        CancellationPoint<sys_pselect6>(count, read, write, except, nullptr, nullptr, nullptr));
  }
  if (timeout->tv_sec < 0 || timeout->tv_usec < 0) return ReturnInt(-EINVAL);
  // As libc does, microseconds beyond a second are carried over, and what is left comes back.
  const timespec time{timeout->tv_sec + timeout->tv_usec / 1'000'000,
                      (timeout->tv_usec % 1'000'000) * 1000};
  userstack::Duration left;
  const long result = sys_pselect6(count, read, write, except, &time, nullptr, &left);
  *timeout = {left.seconds(), left.microseconds() % 1'000'000};
  return ReturnInt(result);
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int poll(pollfd* entries, nfds_t count, int timeout) {
  if (!AnyOurs(entries, count)) return real_poll(entries, count, timeout);
  return Poll(entries, count, timeout);
}
[[gnu::alias("poll")]] int __poll(pollfd* entries, nfds_t count, int timeout);

int __poll_chk(pollfd* entries, nfds_t count, int timeout, size_t buffer_size) {
  if (!AnyOurs(entries, count)) return real_poll_chk(entries, count, timeout, buffer_size);
  CheckSize(count, buffer_size);
  return Poll(entries, count, timeout);
}

int ppoll(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (!AnyOurs(entries, count)) return real_ppoll(entries, count, timeout, mask);
  return ReturnInt(CancellationPoint<sys_ppoll>(entries, count, timeout, mask, nullptr));
}

int __ppoll_chk(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* mask,
                size_t buffer_size) {
  if (!AnyOurs(entries, count)) {
    return real_ppoll_chk(entries, count, timeout, mask, buffer_size);
  }
  CheckSize(count, buffer_size);
  return ReturnInt(CancellationPoint<sys_ppoll>(entries, count, timeout, mask, nullptr));
}

int select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* timeout) {
  if (!AnyOurs(count, read, write, except)) {
    return real_select(count, read, write, except, timeout);
  }
  return Select(count, read, write, except, timeout);
}
[[gnu::alias("select")]] int __select(int count, fd_set* read, fd_set* write, fd_set* except,
                                      timeval* timeout);

int pselect(int count, fd_set* read, fd_set* write, fd_set* except, const timespec* timeout,
            const sigset_t* mask) {
  if (!AnyOurs(count, read, write, except)) {
    return real_pselect(count, read, write, except, timeout, mask);
  }
  return ReturnInt(
      CancellationPoint<sys_pselect6>(count, read, write, except, timeout, mask, nullptr));
}

}  // extern "C"
