// SHUTDOWN and CLOSE (RFC 9293 3.10.4, 3.10.5), as Linux's inet_shutdown and tcp_close.
#include <sys/socket.h>

#include "netstack/tcp/calls.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/listener.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"

namespace userstack::tcp {
namespace {

// Linux: tcp_close_state and tcp_send_fin. FIN follows the last byte that was given.
void QueueFin(Context& context, Connection& c, Instant now) {
  switch (c.state) {
    case State::kEstablished:
      c.state = State::kFinWait1;
      break;
    case State::kCloseWait:
      c.state = State::kLastAck;
      break;
    case State::kSynReceived:
      break;  // goes on when the handshake is done
    case State::kSynSent:
    case State::kFinWait1:
    case State::kFinWait2:
    case State::kTimeWait:
    case State::kClosed:
    case State::kLastAck:
    case State::kListen:
    case State::kClosing:
      return;
  }
  c.send.fin_queued = true;
  if (context.held_reply == &c) context.held_reply = nullptr;  // it goes with the FIN
  c.send.push = c.send.end;
  Output(context, c, now, PushMode::kForce);
}

// Linux: tcp_need_reset.
bool NeedsReset(State state) {
  switch (state) {
    case State::kEstablished:
    case State::kCloseWait:
    case State::kFinWait1:
    case State::kFinWait2:
    case State::kSynReceived:
    case State::kClosing:
    case State::kLastAck:
      return true;
    case State::kSynSent:
    case State::kTimeWait:
    case State::kClosed:
    case State::kListen:
      return false;
  }
  return false;
}

}  // namespace

Status Shutdown(Context& context, Connection& c, int how, Instant now) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Status(EINVAL);
  const bool read = how != SHUT_WR;
  const bool write = how != SHUT_RD;
  Status status;
  switch (c.state) {
    case State::kListen:
      if (!read) return Status::Ok();
      return Disconnect(context, c, now);
    case State::kSynSent:
      return Disconnect(context, c, now);
    case State::kClosed:
      status = Status(ENOTCONN);
      break;
    case State::kEstablished:
    case State::kSynReceived:
    case State::kFinWait1:
    case State::kFinWait2:
    case State::kTimeWait:
    case State::kCloseWait:
    case State::kLastAck:
    case State::kClosing:
      break;
  }
  if (c.connecting) {  // nobody will ask for the outcome any more
    c.connecting = false;
    c.disconnecting = c.state == State::kClosed || c.state == State::kSynReceived;
    c.connected = !c.disconnecting;
  }
  c.receive_shut |= read;
  c.send_shut |= write;
  if (write) QueueFin(context, c, now);
  PublishStateChange(context, c);
  return status;
}

void Close(Context& context, Connection& c, Instant now) {
  c.pollable = nullptr;
  c.orphan = true;
  ++context.orphans;
  const bool unread = ReceivedBytes(c) > 0;
  c.receive_shut = c.send_shut = true;
  if (c.state == State::kListen) {
    StopListening(context, c, now);
  } else if (c.state == State::kSynSent) {
    Finish(context, c, 0, now);
  } else if (c.state != State::kClosed) {
    c.receive.copied = c.receive.copied + ReceivedBytes(c);
    ClearReceiveQueues(context, c);
    const bool no_linger = c.options.linger && c.options.linger_seconds == 0;
    if ((unread || no_linger) && NeedsReset(c.state)) {
      // RFC 2525 2.17: data that nobody will read is answered by RST.
      context.core->counters.Add(unread ? Counter::kTcpAbortOnClose : Counter::kTcpAbortOnData);
      if (context.held_reply == &c) FlushHeldReply(context, now);
      Abort(context, c, 0, now);
    } else {
      QueueFin(context, c, now);
      if (c.state == State::kFinWait2) EnterFinWait2AsOrphan(context, c, now);
    }
  }
  ReleaseIfDone(context, c);
}

}  // namespace userstack::tcp
