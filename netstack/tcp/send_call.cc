// SEND (RFC 9293 3.10.2).
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "netstack/tcp/calls.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/send_queue.h"

namespace userstack::tcp {
namespace {

// A write goes in pieces of this size with output between them. Its frames are queued then; the
// shim hands them to the device when the call leaves the stack.
constexpr uint32_t kPiece = 2 * kLargeBufferBytes;
// No reply waits longer for the close that is expected to follow it.
constexpr Duration kLongestHold = Duration::Microseconds(50);
// The last piece may overshoot the buffer by this much (Linux: by one skb), lest a nearly full
// buffer cut writes into crumbs.
constexpr uint32_t kOvershoot = 4096;

int TakeErrorOr(Connection& c, int otherwise) {
  if (c.error == 0) return otherwise;
  return std::exchange(c.error, 0);
}

// Linux: sk_stream_wait_connect and do_error of tcp_sendmsg. 0: go on.
int WhyNotSend(Connection& c) {
  switch (c.state) {
    case State::kEstablished:
    case State::kCloseWait:
      if (c.error != 0 || c.send_shut) return TakeErrorOr(c, EPIPE);
      return 0;
    case State::kSynSent:
    case State::kSynReceived:
      return c.send_shut ? EPIPE : TakeErrorOr(c, EAGAIN);
    case State::kFinWait1:
    case State::kFinWait2:
    case State::kTimeWait:
    case State::kClosed:
    case State::kLastAck:
    case State::kListen:
    case State::kClosing:
      return TakeErrorOr(c, EPIPE);
  }
  return EPIPE;
}

// So much at most is copied without the lock at a time.
constexpr uint32_t kApart = 4 * kLargeBufferBytes;

uint32_t Room(const Connection& c, uint32_t most = kPiece) {
  if (!HasSendRoom(c)) return 0;
  uint32_t room = std::max(c.options.send_buffer - c.queued_memory, kOvershoot);
  const uint32_t low_water = c.tcp_options.not_sent_low_water;
  if (low_water != 0) {
    const uint32_t unsent = c.send.end - c.send.next;
    room = std::min(room, std::max(low_water - unsent, c.mss));
  }
  return std::min(room, most);
}

// Linux: sk_stream_wait_memory. Like a full buffer: an open connection waits, and lives on.
void AwaitMemory(Context& context, Connection& c) {
  if (!c.waiting_node.linked()) context.starved.PushBack(&c);
}

// What was held for more that does not fit must not wait for it.
void Push(Context& context, Connection& c, Instant now) {
  c.send.push = c.send.end;
  Output(context, c, now);
}

}  // namespace

Result<size_t> SendData(Context& context, Connection& c, const IoVector& data, int flags,
                        Instant now) {
  if (const int error = WhyNotSend(c); error != 0) {
    PublishReadiness(context, c);
    return Status(error);
  }
  const size_t total = data.Total();
  IoCursor from(data);
  size_t done = 0;
  while (done < total && c.state != State::kClosed) {
    const uint32_t room = Room(c);
    if (room == 0) break;
    const auto wanted = static_cast<uint32_t>(std::min<size_t>(room, total - done));
    const uint32_t n = AppendToSendQueue(context, c, from, wanted);
    done += n;
    if (done == total && (flags & MSG_OOB) != 0 && n > 0) {
      c.send.urgent = c.send.end;
      c.send.urgent_pending = true;
    }
    const bool more = done < total || (flags & MSG_MORE) != 0;
    if (!more) c.send.push = c.send.end;
    Output(context, c, now, more ? PushMode::kMore : PushMode::kNagle);
    if (n < wanted) {
      AwaitMemory(context, c);
      break;
    }
  }
  PublishReadiness(context, c);
  if (done == 0 && total > 0) return Status(EAGAIN);
  if (done < total && done > 0) Push(context, c, now);
  return done;
}

Result<SendSpace> ReserveSend(Context& context, Connection& c, size_t wanted, Instant now) {
  if (const int error = WhyNotSend(c); error != 0) {
    PublishReadiness(context, c);
    return Status(error);
  }
  if (const uint32_t room = Room(c); room != 0) {
    const SendSpace space =
        OpenSendSpace(context, c, static_cast<uint32_t>(std::min<size_t>(room, wanted)));
    if (space.length != 0) return space;
    AwaitMemory(context, c);
  }
  Push(context, c, now);
  PublishReadiness(context, c);
  return Status(EAGAIN);
}

// Neither takes the connection's error: that is for the call that reports it.
static bool MaySend(const Connection& c) {
  const bool open = c.state == State::kEstablished || c.state == State::kCloseWait;
  return open && c.error == 0 && !c.send_shut;
}

uint32_t ReserveApart(Context& context, const Connection& c, size_t wanted, SendChunks* to) {
  if (!MaySend(c)) return 0;
  const auto most = static_cast<uint32_t>(std::min<size_t>(Room(c, kApart), wanted));
  return MakeFullChunks(context, most, to);
}

size_t CommitApart(Context& context, Connection& c, SendChunks* from, bool more, Instant now) {
  if (!MaySend(c)) {
    DropChunks(context, from);
    return 0;
  }
  const uint32_t appended = AppendChunks(c, from);
  if (!more) c.send.push = c.send.end;
  Output(context, c, now, more ? PushMode::kMore : PushMode::kNagle);
  PublishReadiness(context, c);
  return appended;
}

void HoldReply(Context& context, Connection& c, Instant now) {
  if (context.held_reply != &c) FlushHeldReply(context, now);
  context.held_reply = &c;
  context.held_until = now + kLongestHold;
}

bool FlushHeldReply(Context& context, Instant now) {
  Connection* c = std::exchange(context.held_reply, nullptr);
  if (c == nullptr) return false;
  Push(context, *c, now);
  return true;
}

void CommitSend(Context& context, Connection& c, size_t filled) {
  CloseSendSpace(context, c, static_cast<uint32_t>(filled));
}

void SendCommitted(Context& context, Connection& c, bool more, Instant now) {
  if (!more) c.send.push = c.send.end;
  Output(context, c, now, more ? PushMode::kMore : PushMode::kNagle);
  PublishReadiness(context, c);
}

}  // namespace userstack::tcp
