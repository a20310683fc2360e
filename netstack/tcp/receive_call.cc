// RECEIVE (RFC 9293 3.10.3), with Linux's urgent mark.
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/calls.h"
#include "netstack/tcp/landing.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

// Linux: tcp_recv_urg.
Result<size_t> ReceiveUrgent(Context& context, Connection& c, const IoVector& data, int flags,
                             int* message_flags) {
  const bool nothing = c.urgent == Urgent::kNone || c.urgent == Urgent::kRead;
  if (c.options.out_of_band_inline || nothing) return Status(EINVAL);
  if (c.state == State::kClosed && !c.receive.fin_received) return Status(ENOTCONN);
  if (c.urgent == Urgent::kHere) {
    if ((flags & MSG_PEEK) == 0) {
      c.urgent = Urgent::kRead;
      PublishReadiness(context, c);
    }
    *message_flags |= MSG_OOB;
    if (data.Total() == 0) {
      *message_flags |= MSG_TRUNC;
      return size_t{0};
    }
    if ((flags & MSG_TRUNC) == 0) {
      IoCursor to(data);
      to.CopyOut(&c.receive.urgent_byte, 1);
    }
    return size_t{1};
  }
  if (c.state == State::kClosed || c.receive_shut) return size_t{0};
  return Status(EAGAIN);
}

// What a read returns when there are no bytes (Linux: tcp_recvmsg_locked).
Result<size_t> WhyNothing(Connection& c) {
  // SOCK_DONE: the end was seen, an error stays for another call.
  if (c.receive.fin_received) return size_t{0};
  if (c.error != 0) return Status(std::exchange(c.error, 0));
  if (c.receive_shut) return size_t{0};
  if (c.state == State::kClosed) return Status(ENOTCONN);
  return Status(EAGAIN);
}

// A piece of the stream that may be read in one go: up to the urgent byte. `skip`: the urgent byte
// stands at the front and is passed over first.
struct Stretch {
  uint32_t length = 0;
  bool skip = false;
};

Stretch NextStretch(const Connection& c, SeqNum at, uint32_t available, uint32_t wanted) {
  Stretch s{std::min(available, wanted), false};
  if (c.urgent == Urgent::kNone || s.length == 0) return s;
  if (!c.receive.urgent.InRange(at, available)) return s;
  const uint32_t before = c.receive.urgent - at;
  if (before > 0) {
    s.length = std::min(s.length, before);
    return s;
  }
  if (c.options.out_of_band_inline) return s;
  s.skip = true;
  s.length = std::min(available - 1, wanted);
  return s;
}

void ForgetPassedMark(Connection& c) {
  if (c.urgent != Urgent::kNone && c.receive.copied.After(c.receive.urgent)) {
    c.urgent = Urgent::kNone;
  }
}

uint32_t Peek(const Connection& c, IoCursor& to, uint32_t wanted, bool discard) {
  uint32_t offset = 0;
  uint32_t done = 0;
  while (done < wanted) {
    const SeqNum at = c.receive.copied + offset;
    // Linux: stop at the mark once something was read.
    if (done > 0 && c.urgent != Urgent::kNone && c.receive.urgent == at) break;
    const Stretch s = NextStretch(c, at, ReceivedBytes(c) - offset, wanted - done);
    if (s.skip) ++offset;
    if (s.length == 0) break;
    if (!discard) CopyReceived(c, offset, to, s.length);
    offset += s.length;
    done += s.length;
  }
  return done;
}

// `done`: what the call has got already.
uint32_t Read(Context& context, Connection& c, IoCursor& to, uint32_t wanted, bool discard,
              uint32_t done) {
  while (done < wanted) {
    if (done > 0 && c.urgent != Urgent::kNone && c.receive.urgent == c.receive.copied) break;
    const Stretch s = NextStretch(c, c.receive.copied, ReceivedBytes(c), wanted - done);
    if (s.skip) ConsumeReceived(context, c, 1);
    if (s.length > 0) {
      if (discard) {
        ConsumeReceived(context, c, s.length);
      } else {
        ReadReceived(context, c, to, s.length);
      }
      done += s.length;
    }
    ForgetPassedMark(c);
    if (s.length == 0) break;
  }
  return done;
}

}  // namespace

Result<size_t> ReceiveData(Context& context, Connection& c, const IoVector& data, int flags,
                           int* message_flags, Instant now) {
  if (c.state == State::kListen) return Status(ENOTCONN);
  if ((flags & MSG_OOB) != 0) return ReceiveUrgent(context, c, data, flags, message_flags);
  const auto wanted = static_cast<uint32_t>(std::min<size_t>(data.Total(), 1u << 30));
  const bool discard = (flags & MSG_TRUNC) != 0;
  IoCursor to(data);
  if ((flags & MSG_PEEK) != 0) {
    const uint32_t done = Peek(c, to, wanted, discard);
    if (done > 0 || (wanted == 0 && ReceivedBytes(c) > 0)) return size_t{done};
    const Result<size_t> nothing = WhyNothing(c);
    PublishReadiness(context, c);
    return nothing;
  }
  const uint32_t landed = ReportLanded(context, c, to);
  const uint32_t done = Read(context, c, to, wanted, discard, landed);
  // Linux (tcp_recvmsg_locked): to want nothing is to wait for something all the same.
  if (done == 0 && (wanted > 0 || ReceivedBytes(c) == 0)) {
    const Result<size_t> nothing = WhyNothing(c);
    PublishReadiness(context, c);
    return nothing;
  }
  if (done > 0) {
    TuneReceiveBuffer(c, now);
    if (c.state != State::kClosed) AckAfterRead(context, c, done, now);
    PublishReadiness(context, c);
  }
  return size_t{done};
}

}  // namespace userstack::tcp
