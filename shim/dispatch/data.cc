// Data: see data.h.
#include "shim/dispatch/data.h"

#include <linux/sockios.h>

#include <climits>

#include "shim/dispatch/io_window.h"

namespace userstack::shim {
namespace {

// Flags that are the shim's business and mean nothing to the stack.
constexpr int kOwnFlags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;

// A reply that is held for the FIN: one segment.
constexpr size_t kLongestReply = 1024;

bool IsStream(const Socket& socket) { return socket.kind == SocketKind::kTcp; }

// An error or an end that the next call has to report: a call that has moved bytes stops here,
// because asking the stack again would consume it.
bool HasNewsForNextCall(const Socket& socket, EventMask news) {
  return (socket.pollable.level & (kEventError | news)) != 0;
}

// The first bytes of a large write are copied while others use the stack, as one piece, so that
// another writer's do not come between. Returns how many; 0: none, and nothing is changed.
size_t SendApart(SocketCall& call, const IoVector& part, size_t left) {
  if (part.Total() < Session::kBulk || !call.session().CopiesApart()) return 0;
  tcp::SendChunks& filling = CurrentSleeper().filling;
  const uint32_t reserved = call.stack().ReserveApart(call.socket(), part.Total(), &filling);
  if (reserved == 0) return 0;
  call.Hold();
  call.session().FillApart(part);
  if (call.session().failed()) return 0;
  return call.stack().CommitApart(call.socket(), &filling, reserved < left, call.now());
}

long SendStream(SocketCall& call, const IoVector& data, int flags, bool nonblocking) {
  Socket& socket = call.socket();
  if (data.Total() >= Session::kBulk) call.session().LookBeforeBulk();
  IoWindow window(data);
  size_t sent = 0;
  const auto attempt = [&]() -> long {
    bool last = true;
    const size_t apart = flags == 0 ? SendApart(call, window.Part(&last), window.left()) : 0;
    if (call.session().failed()) return -ENETDOWN;
    sent += apart;
    window.Advance(apart);
    if (window.left() == 0 && apart != 0) return static_cast<long>(sent);
    do {
      if (sent != 0 && HasNewsForNextCall(socket, kEventHangUp)) return static_cast<long>(sent);
      const IoVector part = window.Part(&last);
      const Result<size_t> result = call.stack().Send(socket, part, flags | (last ? 0 : MSG_MORE),
                                                      nullptr, 0, nullptr, call.now());
      if (!result.ok()) return -result.error();
      sent += *result;
      window.Advance(*result);
      if (window.left() != 0 && *result < part.Total()) return -EAGAIN;
    } while (window.left() != 0);
    return static_cast<long>(sent);
  };
  const long result =
      Repeat(call, kWaitWritable, nonblocking, call.description().send_timeout, attempt, &sent);
  return result < 0 && sent != 0 ? static_cast<long>(sent) : result;
}

// The same, and when the thread's habit is to close after a short write, that waits for the FIN.
long SendReply(SocketCall& call, const IoVector& data, int flags, bool nonblocking) {
  const bool hold = flags == 0 && call.session().ExpectsClose() && data.Total() <= kLongestReply;
  const long result = SendStream(call, data, hold ? MSG_MORE : flags, nonblocking);
  call.session().NoteWrite(call.description());
  if (hold && result > 0) {
    call.stack().HoldReply(call.socket(), call.now());
    call.session().HoldOutput();
  }
  return result;
}

// MSG_WAITALL on a stream: all of it, unless the stream ends, fails, reaches the urgent mark, or
// the wait is cut short.
class WholeRead {
 public:
  WholeRead(SocketCall& call, const IoVector& data, int flags, ReceivedMessage* message)
      : call_(call), data_(data), window_(data), flags_(flags), message_(message) {}

  long operator()() { return (flags_ & MSG_PEEK) != 0 ? Peek() : Take(); }
  const size_t* progress() const { return &received_; }

 private:
  bool IsOver() {
    if (HasNewsForNextCall(call_.socket(), kEventReadHangUp | kEventHangUp)) return true;
    const Result<int> mark = call_.stack().Ioctl(call_.socket(), SIOCATMARK, call_.now());
    return mark.ok() && *mark != 0;
  }
  long Peek() {
    const Status status =
        call_.stack().Receive(call_.socket(), data_, flags_, message_, call_.now());
    if (!status.ok()) return -status.error();
    received_ = message_->length;
    if (received_ == 0 || received_ >= window_.left() || IsOver()) {
      return static_cast<long>(received_);
    }
    return -EAGAIN;
  }
  long Take() {
    do {
      if (received_ != 0 && HasNewsForNextCall(call_.socket(), 0)) break;
      bool last = true;
      const IoVector part = window_.Part(&last);
      const Status status =
          call_.stack().Receive(call_.socket(), part, flags_, message_, call_.now());
      if (!status.ok()) return -status.error();
      const size_t n = message_->length;
      received_ += n;
      window_.Advance(n);
      if (n == 0 || window_.left() == 0) break;
      if (n < part.Total()) {
        if (IsOver()) break;
        return -EAGAIN;
      }
    } while (true);
    return static_cast<long>(received_);
  }

  SocketCall& call_;
  const IoVector& data_;
  IoWindow window_;
  int flags_;
  ReceivedMessage* message_;
  size_t received_ = 0;
};

}  // namespace

long SendData(SocketCall& call, const IoVector& data, int flags, const Destination& destination,
              const Ancillary* ancillary) {
  Socket& socket = call.socket();
  const bool nonblocking = call.description().nonblocking || (flags & MSG_DONTWAIT) != 0;
  const int stack_flags = flags & ~kOwnFlags;
  if (IsStream(socket) && (flags & MSG_FASTOPEN) == 0) {
    return SendReply(call, data, stack_flags, nonblocking);
  }
  const auto attempt = [&]() -> long {
    const Result<size_t> result = call.stack().Send(socket, data, stack_flags, destination.address,
                                                    destination.length, ancillary, call.now());
    if (!result.ok()) return -result.error();
    call.description().carried = true;
    call.session().HoldOutput();
    return static_cast<long>(*result);
  };
  return Repeat(call, kWaitWritable, nonblocking, call.description().send_timeout, attempt);
}

namespace {

// While it lives, a look at the device may put the text of a stream where a plain read wants it.
class Offer {
 public:
  Offer(Socket& socket, const IoVector& data, int flags) : socket_(socket) {
    if (!IsStream(socket) || data.count() == 0 || (flags & ~kOwnFlags) != 0) return;
    memory_ = data.entries()[0];
    if (memory_.iov_len >= Landing::kLeastPart) Make(memory_);
  }
  ~Offer() { Session::OfferMemory(nullptr, nullptr, 0); }
  Offer(const Offer&) = delete;
  Offer& operator=(const Offer&) = delete;

  // The read has got `done` bytes. More of the stream may land behind them: as much as the device
  // has, so that the read takes what Linux, whose frames are in the socket already, would give it.
  long Continue(SocketCall& call, size_t done) {
    if (memory_.iov_len < done + Landing::kLeastPart) return 0;
    const iovec rest{static_cast<char*>(memory_.iov_base) + done, memory_.iov_len - done};
    Make(rest);
    if (!call.session().LookForMore()) return 0;
    ReceivedMessage message;
    const Status status =
        call.stack().Receive(socket_, IoVector(&rest, 1), 0, &message, call.now());
    return status.ok() ? static_cast<long>(message.length) : 0;
  }

  bool made() const { return memory_.iov_len >= Landing::kLongestText; }

 private:
  void Make(const iovec& memory) {
    Session::OfferMemory(&socket_, memory.iov_base, memory.iov_len);
  }

  Socket& socket_;
  iovec memory_ = {};  // of the read's; empty: it is no plain read of a stream
};

long Receive(SocketCall& call, const IoVector& data, int flags, ReceivedMessage* message) {
  Socket& socket = call.socket();
  // Urgent data and the error queue never block (tcp_recv_urg, ip_recv_error).
  const bool nonblocking =
      call.description().nonblocking || (flags & (MSG_DONTWAIT | MSG_OOB | MSG_ERRQUEUE)) != 0;
  const int stack_flags = flags & ~kOwnFlags;
  const Duration timeout = call.description().receive_timeout;
  if (IsStream(socket) && (flags & MSG_WAITALL) != 0 && (flags & MSG_OOB) == 0) {
    WholeRead read(call, data, stack_flags, message);
    const long result = Repeat(
        call, kWaitReadable, nonblocking, timeout, [&read] { return read(); }, read.progress());
    return result < 0 && *read.progress() != 0 ? static_cast<long>(*read.progress()) : result;
  }
  const bool nothing_asked =
      IsStream(socket) && data.Total() == 0 && (flags & (MSG_OOB | MSG_ERRQUEUE)) == 0;
  const auto attempt = [&]() -> long {
    // Linux (tcp_recvmsg): a stream that is asked for no bytes still waits for some.
    if (nothing_asked && !HasNewsForNextCall(socket, kEventIn | kEventReadHangUp | kEventHangUp)) {
      return -EAGAIN;
    }
    const Status status = call.stack().Receive(socket, data, stack_flags, message, call.now());
    if (!status.ok()) return -status.error();
    call.description().carried = true;
    if (IsStream(socket) || (flags & MSG_TRUNC) != 0) return static_cast<long>(message->length);
    return static_cast<long>(message->copied);
  };
  Offer offer(socket, data, flags);
  long result = Repeat(call, kWaitReadable, nonblocking, timeout, attempt);
  if (result <= 0) return result;
  result += offer.Continue(call, static_cast<size_t>(result));
  if (offer.made()) call.session().NoteBulk(socket, static_cast<size_t>(result));
  return result;
}

}  // namespace

long ReceiveData(SocketCall& call, const IoVector& data, int flags, ReceivedMessage* message) {
  const long result = Receive(call, data, flags, message);
  if (result >= 0) call.session().LookBeside();
  return result;
}

bool WantsBrokenPipe(const SocketCall& call, long result, int flags) {
  return result == -EPIPE && (flags & MSG_NOSIGNAL) == 0 && IsStream(call.socket());
}

long CheckVector(const iovec* entries, long count) {
  if (count < 0 || count > IOV_MAX) return -EINVAL;
  if (count != 0 && IsBadAddress(entries)) return -EFAULT;
  for (long i = 0; i < count; ++i) {
    if (static_cast<ssize_t>(entries[i].iov_len) < 0) return -EINVAL;
    if (entries[i].iov_len != 0 && IsBadAddress(entries[i].iov_base)) return -EFAULT;
  }
  return 0;
}

}  // namespace userstack::shim
