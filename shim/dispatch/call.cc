// SocketCall: see call.h.
#include "shim/dispatch/call.h"

#include <signal.h>

#include <algorithm>
#include <cstring>

namespace userstack::shim {

SocketCall::SocketCall(int fd, Session::Look look) : session_(look) {
  if (session_.failed()) {
    status_ = -ENETDOWN;
    return;
  }
  description_ = Lookup(fd);
  if (description_ == nullptr || description_->kind != Description::Kind::kSocket) {
    status_ = kNotOurs;
  }
}

SocketCall::~SocketCall() {
  if (session_.failed()) return;
  if (watch_ != nullptr) {
    Detach(*watch_, session_.core().wakes);
    CurrentShared().watches.Delete(watch_);
  }
  if (holds_) Unpin(description_, session_.now());
}

void SocketCall::Hold() {
  if (!holds_) Pin(description_);
  holds_ = true;
}

bool SocketCall::OughtToLook() {
  constexpr Duration kFresh = Duration::Microseconds(25);
  const Instant last{__atomic_load_n(&CurrentShared().last_poll, __ATOMIC_RELAXED)};
  if (description_->missed || session_.now() - last >= kFresh) return true;
  description_->missed = true;
  return false;
}

long SocketCall::Block(EventMask interest, Instant deadline) {
  if (watch_ == nullptr) {
    watch_ = CurrentShared().watches.New();
    if (watch_ == nullptr) return -ENOMEM;
    Hold();
  }
  if (!watch_->set_node.linked() || watch_->interest != interest) {
    Detach(*watch_, session_.core().wakes);
    watch_->target = &socket().pollable;
    watch_->set = &CurrentSleeper().own_set;
    watch_->interest = interest;
    watch_->flags = exclusive_ ? kWatchEdge | kWatchExclusive : kWatchEdge;
    Attach(*watch_, session_.core().wakes);
  }
  watch_->ready_node.Unlink();
  WaitRequest request;
  request.set = watch_->set;
  request.deadline = deadline;
  const WaitResult result = Wait(session_, request);
  if (session_.failed()) return -ENETDOWN;
  switch (result) {
    case WaitResult::kStackReady:
    case WaitResult::kKernelReady:
      return 0;
    case WaitResult::kTimedOut:
      return -ETIME;
    case WaitResult::kInterrupted:
      return -EINTR;
  }
  return 0;
}

void RaiseBrokenPipe() {
  RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), SIGPIPE);
}

long StoreEndpoint(const Endpoint& endpoint, Family domain, sockaddr* address, socklen_t* length) {
  sockaddr_storage storage;
  const socklen_t whole = EncodeSockaddr(endpoint, domain, &storage);
  std::memcpy(address, &storage, std::min(whole, *length));
  *length = whole;
  return 0;
}

}  // namespace userstack::shim
