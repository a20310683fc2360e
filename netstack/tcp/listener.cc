#include "netstack/tcp/listener.h"

#include <algorithm>

#include "netstack/tcp/constants.h"
#include "netstack/tcp/handshake.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/ports.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/transmit.h"

namespace userstack::tcp {
namespace {

// Linux: compute_score. 0: does not match.
int Score(const Connection& c, const Segment& segment) {
  const IpAddress& bound = c.tuple.local;
  const IpAddress& to = segment.tuple.local;
  if (c.options.bound_interface != 0 && c.options.bound_interface != segment.interface) return 0;
  if (bound == to) return 4;
  if (!bound.is_unspecified()) return 0;
  if (bound.is_v4() == to.is_v4()) return 3;
  const bool dual = bound.is_v6() && !c.options.v6_only;
  return dual ? 2 : 0;
}

}  // namespace

Status StartListening(Context& context, Connection& c, int backlog, Instant now) {
  const auto limit = static_cast<uint32_t>(backlog) > kMaximumBacklog
                         ? kMaximumBacklog  // Linux: negative means somaxconn
                         : static_cast<uint32_t>(backlog);
  if (c.state == State::kListen) {
    c.listener->backlog = limit;
    return Status::Ok();
  }
  if (c.port == nullptr) {
    // Linux: listen on an unbound socket takes a free port.
    const Status bound = BindPort(context, c, 0);
    if (!bound.ok()) return bound;
    c.port_bound = false;
    --c.port->explicitly_bound;
  } else if (!MayListen(c)) {
    return Status(EADDRINUSE);
  }
  c.listener = context.listeners.New();
  if (c.listener == nullptr) return Status(ENOBUFS);
  c.listener->connection = &c;
  c.listener->backlog = limit;
  c.port->listeners.PushBack(c.listener);
  c.state = State::kListen;
  c.receive_shut = c.send_shut = false;
  PublishReadiness(context, c);
  (void)now;
  return Status::Ok();
}

void StopListening(Context& context, Connection& c, Instant now) {
  Listener* l = c.listener;
  while (SynRecord* record = l->syn_queue.front()) RemoveSynRecord(context, *record);
  while (Connection* child = TakeAccepted(context, c)) {
    // Linux: inet_csk_listen_stop. Nobody will ever read from it.
    child->orphan = true;
    ++context.orphans;
    if (child->state != State::kClosed) Abort(context, *child, 0, now);
    ReleaseIfDone(context, *child);
  }
  c.state = State::kClosed;
  c.listener = nullptr;
  l->node.Unlink();
  context.listeners.Delete(l);
}

Connection* TakeAccepted(Context& context, Connection& listener) {
  Listener* l = listener.listener;
  Connection* child = l->accept_queue.PopFront();
  if (child == nullptr) return nullptr;
  --l->accept_count;
  child->in_accept_queue = false;
  child->listener = nullptr;
  PublishReadiness(context, listener);
  return child;
}

Connection* FindListener(const Context& context, const Segment& segment) {
  const PortBucket* bucket = FindPort(context, segment.tuple.local_port);
  if (bucket == nullptr) return nullptr;
  int best = 0;
  uint32_t equal = 0;
  Connection* only = nullptr;  // of the best, while `equal` is 1
  for (Listener* l = bucket->listeners.front(); l != nullptr; l = bucket->listeners.Next(l)) {
    const int score = Score(*l->connection, segment);
    if (score == 0 || score < best) continue;
    equal = score > best ? 1 : equal + 1;
    best = score;
    only = l->connection;
  }
  if (best == 0) return nullptr;
  if (equal == 1) return only;
  // SO_REUSEPORT: spread by the tuple (Linux: reciprocal_scale of the hash).
  const uint64_t hash = HashOf(context, segment.tuple);
  uint32_t chosen = static_cast<uint32_t>(((hash >> 32) * equal) >> 32);
  for (Listener* l = bucket->listeners.front(); l != nullptr; l = bucket->listeners.Next(l)) {
    if (Score(*l->connection, segment) == best && chosen-- == 0) return l->connection;
  }
  return nullptr;
}

void ListenSegment(Context& context, Connection& listener, Segment& segment,
                   const SeqNum* lowest_initial, Instant now) {
  // First: an incoming RST is ignored. Second: an ACK is answered with RST, unless it brings back a
  // SYN cookie. Third: a SYN begins a handshake.
  if (segment.Has(wire::kTcpReset)) return;
  if (segment.Has(wire::kTcpAck)) {
    if (!segment.Has(wire::kTcpSyn) &&
        AcceptCookie(context, listener, segment, segment.sequence - 1, now)) {
      return;
    }
    SendResetTo(context, segment, now);
    return;
  }
  if (!segment.Has(wire::kTcpSyn) || segment.Has(wire::kTcpFin)) return;
  BeginHandshake(context, listener, segment, lowest_initial, now);
}

SynRecord* FindSynRecord(const Context& context, const Tuple& tuple, uint64_t hash) {
  return context.syn_table.Find(hash, [&](const SynRecord& r) { return r.tuple == tuple; });
}

void RemoveSynRecord(Context& context, SynRecord& record) {
  context.core->timers.Disarm(&record.timer);
  context.syn_table.Erase(&record);
  record.node.Unlink();
  --record.listener->syn_count;
  context.syn_records.Delete(&record);
}

}  // namespace userstack::tcp
