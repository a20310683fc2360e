#include "netstack/tcp/mend.h"

#include <cerrno>
#include <new>
#include <utility>

#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/ports.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/send_queue.h"
#include "netstack/tcp/timers.h"

namespace userstack::tcp {
namespace {

bool IsInTable(const Connection& c) {
  return c.state != State::kClosed && c.state != State::kListen;
}

// A write leaves a chunk without bytes, or bytes that the end does not count yet.
void MendSendQueue(Connection& c) {
  for (SendChunk* k = c.chunks.front(); k != nullptr;) {
    SendChunk* const next = c.chunks.Next(k);
    if (k->length == 0) k->node.Unlink();
    k = next;
  }
  const SendChunk* last = c.chunks.back();
  if (last != nullptr && !c.send.fin_sent) c.send.end = last->begin + last->length;
}

// An acknowledgment leaves records gone that SND.UNA does not count yet; a transmission one that
// SND.NXT does not count yet: it is taken for lost on the way.
void MendScoreboard(Context& context, Connection& c) {
  const SentSegment* first = c.sent.front();
  const SentSegment* last = c.sent.back();
  if (last != nullptr && last->end.After(c.send.next)) {
    c.send.next = last->end;
    c.send.fin_sent |= last->fin;
  }
  const SeqNum left = first != nullptr ? first->begin : c.send.next;
  const bool open = c.state != State::kSynSent && c.state != State::kSynReceived;
  if (open && left.After(c.send.unacknowledged)) c.send.unacknowledged = left;
  c.sent_tree = {};
  c.sacked_bytes = c.lost_bytes = c.retransmitted_bytes = 0;
  c.retransmit_hint = c.sent.front();
  for (SentSegment* s = c.sent.front(); s != nullptr; s = c.sent.Next(s)) {
    s->tree_node = {};
    c.sent_tree.Insert(s, context.core->random.Next());
    if (s->sacked) s->lost = s->retransmitted = false;
    if (!s->lost) s->retransmitted = false;
    if (s->sacked) c.sacked_bytes += s->length();
    if (s->lost) c.lost_bytes += s->length();
    if (s->retransmitted) c.retransmitted_bytes += s->length();
    s->chunk = ChunkAt(c, c.chunks.front(), s->begin);
  }
  c.next_chunk =
      c.send.next.Before(c.send.end) ? ChunkAt(c, c.chunks.front(), c.send.next) : nullptr;
}

// A segment leaves bytes that RCV.NXT does not count yet; a read some that are read already.
void MendReceiveQueues(Context& context, Connection& c) {
  while (Packet* p = c.received.front()) {
    if ((SeqNum{p->sequence} + p->length).After(c.receive.copied)) break;
    p->node.Unlink();
    context.core->packets.Release(p);
  }
  c.received_memory = 0;
  for (const Packet* p = c.received.front(); p != nullptr; p = c.received.Next(p)) {
    c.received_memory += p->memory;
  }
  const Packet* first = c.received.front();
  const Packet* last = c.received.back();
  if (first != nullptr && SeqNum{first->sequence}.After(c.receive.copied)) {
    c.receive.copied = SeqNum{first->sequence};
  }
  if (last != nullptr && (SeqNum{last->sequence} + last->length).After(c.receive.next)) {
    c.receive.next = SeqNum{last->sequence} + last->length;
  }
  c.reorder_tree = {};
  for (ReorderBlock* b = c.reorder.front(); b != nullptr; b = c.reorder.Next(b)) {
    b->tree_node = {};
    c.reorder_tree.Insert(b, context.core->random.Next());
    SeqNum end = b->begin;
    for (const Packet* p = b->packets.front(); p != nullptr; p = b->packets.Next(p)) {
      c.received_memory += p->memory;
      end = SeqNum{p->sequence} + p->length;
    }
    b->end = end;
  }
}

void MendTimers(Context& context, Connection& c, Instant now) {
  if (!IsInTable(c)) {
    DisarmAll(context, c);
    return;
  }
  if (c.ack_pending) DelayAck(context, c, kMinimumAckDelay, now);
  if (!c.sent.empty()) {
    if (c.retransmit_kind != RetransmitTimer::kRetransmit || !c.retransmit_timer.armed()) {
      ArmRetransmit(context, c, now);
    }
  } else if (c.retransmit_timer.armed()) {
    if (c.retransmit_kind == RetransmitTimer::kNone) {
      c.retransmit_kind = RetransmitTimer::kRetransmit;  // finds nothing to do
    }
  } else if (c.retransmit_kind != RetransmitTimer::kNone) {
    context.core->timers.Arm(&c.retransmit_timer, now + c.rto);
  } else if (HasUnsent(c)) {
    ArmWindowProbe(context, c, now);  // a write that had its bytes in the queue and no output yet
  }
}

// The connection's word counts; the queues are given anew by MendTables.
void MendDeviceQueue(DeviceQueues& queues, Connection& c) {
  if (c.device_queue == 0) return;
  tcp::Connection*& owner = queues.owner[c.device_queue - 1];
  if (owner == nullptr && IsInTable(c)) {
    owner = &c;
  } else {
    c.device_queue = 0;
  }
}

void MendConnection(Context& context, Connection& c, Instant now) {
  c.hash_node = {};
  if (IsInTable(c)) InsertIntoTable(context, c);
  if (c.port == nullptr) {
    c.port_node.Unlink();
  } else if (!c.port_node.linked()) {
    c.port->owners.PushBack(&c);
  }
  c.in_accept_queue = c.in_accept_queue && c.waiting_node.linked();
  const bool own_queues = c.listener != nullptr && c.listener->connection == &c;
  if (own_queues && c.state != State::kListen) {  // it was becoming a listener, or ceasing to be
    c.listener->node.Unlink();
    c.listener = nullptr;
  }
  if (IsInTable(c)) {
    MendSendQueue(c);
    MendScoreboard(context, c);
    MendReceiveQueues(context, c);
  }
  MendTimers(context, c, now);
  PublishReadiness(context, c, ~EventMask{0});
}

void MendListener(Context& context, Listener& l, Instant now) {
  l.accept_count = l.syn_count = 0;
  for (auto* c = l.accept_queue.front(); c != nullptr; c = l.accept_queue.Next(c)) {
    ++l.accept_count;
    c->listener = l.connection->listener;
  }
  for (SynRecord* r = l.syn_queue.front(); r != nullptr; r = l.syn_queue.Next(r)) {
    ++l.syn_count;
    r->hash_node = {};
    context.syn_table.Insert(r, HashOf(context, r->tuple));
    if (!r->timer.armed()) context.core->timers.Arm(&r->timer, now + kInitialRto);
  }
}

void MendTimeWaits(Context& context, Instant now) {
  context.time_wait_table.Clear();
  for (TimeWait* t = context.time_wait_list.front(); t != nullptr;
       t = context.time_wait_list.Next(t)) {
    t->hash_node = {};
    context.time_wait_table.Insert(t, HashOf(context, t->tuple));
    if (t->port != nullptr && !t->port_node.linked()) t->port->time_waits.PushBack(t);
    if (!t->timer.armed()) context.core->timers.Arm(&t->timer, now + kTimeWait);
  }
}

void CountPortsAndOrphans(Context& context) {
  context.orphans = 0;
  for (Connection* c = context.all.front(); c != nullptr; c = context.all.Next(c)) {
    if (c->orphan) ++context.orphans;
    if (c->port != nullptr) c->port->explicitly_bound = 0;
  }
  for (Connection* c = context.all.front(); c != nullptr; c = context.all.Next(c)) {
    if (c->port != nullptr && c->port_bound) ++c->port->explicitly_bound;
  }
}

// A list whose objects are lost. They stay linked with each other and are not looked at again.
template <typename ListType>
void Abandon(ListType* list) {
  new (list) ListType;
}

}  // namespace

void MendTables(Context& context, const Connection** examined, Instant now) {
  context.table.Clear();
  context.syn_table.Clear();
  // What still owes an ACK has a timer for it below.
  context.more_input = false;
  context.ack_later = nullptr;
  context.core->queues = {};
  CountPortsAndOrphans(context);
  const Connection* const held = std::exchange(context.held_reply, nullptr);
  for (Connection* c = context.all.front(); c != nullptr;) {
    Connection* const next = context.all.Next(c);
    *examined = c;
    MendDeviceQueue(context.core->queues, *c);
    MendConnection(context, *c, now);
    if (c == held) context.held_reply = c;
    if (c->state == State::kListen && c->listener != nullptr) {
      MendListener(context, *c->listener, now);
    }
    ReleaseIfDone(context, *c);
    c = next;
  }
  *examined = nullptr;
  MendTimeWaits(context, now);
}

void CondemnConnection(Context& context, Connection& c) {
  if (context.held_reply == &c) context.held_reply = nullptr;
  for (Timer* timer : {&c.retransmit_timer, &c.delayed_ack_timer, &c.keep_alive_timer}) {
    context.core->timers.Disarm(timer);
  }
  c.retransmit_kind = RetransmitTimer::kNone;
  Abandon(&c.chunks);
  Abandon(&c.sent);
  Abandon(&c.received);
  Abandon(&c.reorder);
  Abandon(&c.reorder_recent);
  c.next_chunk = nullptr;
  c.retransmit_hint = nullptr;
  c.sent_tree = {};
  c.reorder_tree = {};
  c.sacked_bytes = c.lost_bytes = c.retransmitted_bytes = 0;
  c.received_memory = c.queued_memory = 0;
  c.send.next = c.send.unacknowledged = c.send.end;
  c.send.fin_queued = c.send.fin_sent = false;
  c.receive.copied = c.receive.next;
  c.urgent = Urgent::kNone;
  c.receive_shut = c.send_shut = true;
  c.error = ECONNRESET;
  const bool own_queues = c.listener != nullptr && c.listener->connection == &c;
  if (own_queues) c.listener->node.Unlink();
  c.listener = nullptr;
  c.waiting_node.Unlink();
  c.in_accept_queue = false;
  c.blocked_node.Unlink();
  c.port = nullptr;
  c.port_bound = false;
  c.port_node.Unlink();
  c.device_queue = 0;
  c.state = State::kClosed;
}

}  // namespace userstack::tcp
