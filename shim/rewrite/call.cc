// Call: a system call of a rewritten site, made by the dispatcher that the symbols use too.
//
// What a site has that a symbol has not: it may be in the middle of libc. glibc makes a thread
// cancellable at any instruction around its blocking calls; inside the stack, with its lock held,
// that must not be (the sleeps of shim/wait.cc are cancellable by themselves). And it may run in a
// child that borrows its parent's memory (posix_spawn): that child's descriptors are its own, the
// table in memory is its parent's, so its calls are the kernel's.
#include <pthread.h>
#include <sys/syscall.h>

#include <cerrno>

#include "shim/dispatch/dispatch.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/rewrite/entry.h"

namespace userstack::shim {
namespace {

// Calls that change which numbers are open: what a child does between vfork and exec.
bool ChangesNumbers(long number) {
  switch (number) {
    case SYS_close:
    case SYS_close_range:
    case SYS_dup:
    case SYS_dup2:
    case SYS_dup3:
    case SYS_fcntl:
    case SYS_socket:
    case SYS_accept:
    case SYS_accept4:
      return true;
  }
  return false;
}

// A child of a fork that no hook saw has memory of its own, and is noticed by its next session.
bool BorrowsMemory() {
  return g_local.fork_mark != nullptr && g_local.fork_mark->load(std::memory_order_relaxed) != 0 &&
         RawSyscall(SYS_getpid) != g_local.pid;
}

class NotCancellable {
 public:
  NotCancellable() { pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type_); }
  ~NotCancellable() {
    if (type_ != PTHREAD_CANCEL_DEFERRED) pthread_setcanceltype(type_, nullptr);
  }
  NotCancellable(const NotCancellable&) = delete;
  NotCancellable& operator=(const NotCancellable&) = delete;

 private:
  int type_ = PTHREAD_CANCEL_DEFERRED;
};

}  // namespace
}  // namespace userstack::shim

extern "C" userstack::shim::rewrite::Answer userstack_rewrite_call(long number,
                                                                   const long* arguments) {
  using namespace userstack::shim;  // NOLINT: this is the dispatcher's other front end
  if (ChangesNumbers(number) && BorrowsMemory()) return {0, 0};
  const int saved_errno = errno;
  bool handled = false;
  long result = 0;
  {
    const NotCancellable guard;
    result = DispatchByNumber(number, arguments, &handled);
  }
  errno = saved_errno;
  return {result, handled ? 1 : 0};
}
