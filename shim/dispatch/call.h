// SocketCall: one system call on a socket of the stack. It holds the session from beginning to end,
// knows the description behind the number, and blocks when it must.
//
// Blocking: an attempt that would block leaves a watch in the thread's own set before the lock is
// let go, so that no event between the attempt and the sleep is lost; whatever was ready before the
// attempt is forgotten, so that a level that the attempt could not use (SO_RCVLOWAT) does not spin.
// The description is pinned meanwhile: as on Linux, close() in another thread neither wakes the
// sleeper nor takes the socket from under it.
#pragma once

#include <cerrno>

#include "shim/descriptors.h"
#include "shim/dispatch/dispatch.h"
#include "shim/real.h"
#include "shim/runtime.h"

namespace userstack::shim {

inline constexpr EventMask kWaitReadable = kEventIn | kEventReadHangUp;
inline constexpr EventMask kWaitWritable = kEventOut;
inline constexpr EventMask kWaitPriority = kEventPriority;

class SocketCall {
 public:
  // `fd` must have been IsOurs a moment ago.
  explicit SocketCall(int fd, Session::Look look = Session::Look::kWhenDue);
  ~SocketCall();
  SocketCall(const SocketCall&) = delete;
  SocketCall& operator=(const SocketCall&) = delete;

  // 0; kNotOurs (it was closed meanwhile, or is an epoll instance: the kernel knows the answer); or
  // -ENETDOWN.
  long status() const { return status_; }
  Session& session() { return session_; }
  Stack& stack() { return session_.stack(); }
  Description& description() { return *description_; }
  Socket& socket() const { return *description_->socket; }
  Instant now() const { return session_.now(); }

  // A call that may not block has found nothing: whether to ask the device before it says so. A
  // program that reads until EAGAIN and then waits loses nothing by the answer of some microseconds
  // ago; one that asks the same socket again gets a look each time.
  bool OughtToLook();
  // Of the threads that Block so for one event, one is woken (Linux: inet_csk_wait_for_connect).
  void WaitExclusively() { exclusive_ = true; }
  // The call has taken what it was woken for: nobody else has to be woken for that.
  void TookEvent() {
    if (watch_ != nullptr) watch_->ready_node.Unlink();
  }
  // The description stays until the call's end, whatever happens while the lock is free.
  void Hold();
  // Sleeps until something of `interest` happens. 0: look again; -ETIME: the deadline has passed;
  // -EINTR: a handler ran (the caller decides about restarting); -ENOMEM; -ENETDOWN.
  long Block(EventMask interest, Instant deadline);

 private:
  Session session_;
  Description* description_ = nullptr;
  Watch* watch_ = nullptr;
  long status_ = 0;
  bool exclusive_ = false;
  bool holds_ = false;
};

// Repeats `attempt` until it returns something else than -EAGAIN, as a blocking socket call does.
// Linux (sock_intr_errno): a call with a timeout is never restarted, nor is one that has moved
// bytes
// (*progress, which may be null).
template <typename Attempt>
long Repeat(SocketCall& call, EventMask interest, bool nonblocking, Duration timeout,
            Attempt attempt, const size_t* progress = nullptr) {
  long result = attempt();
  if (result != -EAGAIN) {
    call.description().missed = false;
    return result;
  }
  if (nonblocking) {
    if (interest == kWaitReadable && !call.OughtToLook()) return result;
    call.session().Poll(&call.socket());
    return attempt();
  }
  call.session().PollBeforeWait(&call.socket());
  result = attempt();
  if (result != -EAGAIN) return result;
  const Instant deadline = call.now() + timeout;
  const bool restartable = timeout == Duration::Infinite();
  while (true) {
    const long blocked = call.Block(interest, deadline);
    if (blocked == -ENETDOWN) return blocked;
    result = attempt();
    if (result != -EAGAIN) return result;
    if (blocked == -ETIME) return -EAGAIN;
    const bool moved = progress != nullptr && *progress != 0;
    if (blocked == -EINTR && restartable && !moved && ShouldRestart()) {
      if (MustLeaveForHandlers()) return kHandlersFirst;
      continue;
    }
    if (blocked != 0) return blocked;
  }
}

// True for an address that no user memory has: what the kernel would answer with EFAULT. Only the
// obvious is caught; the stack copies with the program's own hands.
inline bool IsBadAddress(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) < 4096;
}

// SIGPIPE to the calling thread, as sk_stream_error does. Without the lock.
void RaiseBrokenPipe();

// Encodes `endpoint` for a caller that gave room for *length bytes and sets the whole length.
long StoreEndpoint(const Endpoint& endpoint, Family domain, sockaddr* address, socklen_t* length);

}  // namespace userstack::shim
