#include "netstack/tcp/invariants.h"

#include "netstack/base/check.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/ports.h"

namespace userstack::tcp {
namespace {

void CheckSequences(const Connection& c) {
  Check(c.send.unacknowledged.AtOrBefore(c.send.next), "tcp: SND.UNA beyond SND.NXT");
  const uint32_t fin = c.send.fin_sent ? 1 : 0;
  Check(c.send.next.AtOrBefore(c.send.end + fin), "tcp: SND.NXT beyond the queue");
  Check(!c.send.fin_sent || c.send.next == c.send.end + 1, "tcp: FIN sent before the data");
  Check(c.receive.copied.AtOrBefore(c.receive.next), "tcp: read beyond RCV.NXT");
  Check(c.receive.acknowledged.AtOrBefore(c.receive.next), "tcp: acknowledged beyond RCV.NXT");
  Check(c.congestion.window >= 1, "tcp: no congestion window");
}

void CheckSendQueue(const Connection& c) {
  const SendChunk* previous = nullptr;
  bool cursor_seen = c.next_chunk == nullptr;
  for (const SendChunk* k = c.chunks.front(); k != nullptr; k = c.chunks.Next(k)) {
    Check(k->length > 0 && k->offset + k->length <= k->buffer->capacity, "tcp: chunk out of range");
    Check(k->buffer->references > 0, "tcp: chunk without reference");
    if (previous != nullptr) {
      Check(previous->begin + previous->length == k->begin, "tcp: hole in the send queue");
    }
    if (k == c.next_chunk) {
      cursor_seen = true;
      Check(c.send.next.AtOrAfter(k->begin) && c.send.next.Before(k->begin + k->length),
            "tcp: cursor not at SND.NXT");
    }
    previous = k;
  }
  Check(cursor_seen, "tcp: cursor lost");
  if (previous != nullptr) {
    Check(previous->begin + previous->length == c.send.end, "tcp: send queue ends elsewhere");
  }
  const bool unsent = c.send.next.Before(c.send.end);
  Check(unsent == (c.next_chunk != nullptr), "tcp: cursor and unsent data disagree");
}

void CheckScoreboard(const Connection& c) {
  uint64_t sacked = 0, lost = 0, retransmitted = 0;
  SeqNum at = c.send.unacknowledged;
  bool before_hint = c.retransmit_hint != nullptr;
  for (const SentSegment* s = c.sent.front(); s != nullptr; s = c.sent.Next(s)) {
    Check(s->begin == at && s->begin.Before(s->end), "tcp: scoreboard has a hole");
    at = s->end;
    if (s == c.retransmit_hint) before_hint = false;
    Check(!(before_hint && s->lost && !s->retransmitted), "tcp: lost data before the hint");
    Check(!s->sacked || (!s->lost && !s->retransmitted), "tcp: SACKed and lost");
    Check(!s->retransmitted || s->lost, "tcp: retransmitted but not lost");
    Check(c.sent_tree.AtOrBefore(s->begin) == s, "tcp: record not in the tree");
    if (s->length() > (s->fin ? 1u : 0u)) {
      Check(s->chunk != nullptr && s->begin.AtOrAfter(s->chunk->begin) &&
                s->begin.Before(s->chunk->begin + s->chunk->length),
            "tcp: record without its bytes");
    }
    if (s->sacked) sacked += s->length();
    if (s->lost) lost += s->length();
    if (s->retransmitted) retransmitted += s->length();
  }
  Check(at == c.send.next || c.state == State::kSynSent || c.state == State::kSynReceived,
        "tcp: scoreboard does not end at SND.NXT");
  Check(!before_hint, "tcp: hint lost");
  Check(sacked == c.sacked_bytes, "tcp: sacked_bytes");
  Check(lost == c.lost_bytes, "tcp: lost_bytes");
  Check(retransmitted == c.retransmitted_bytes, "tcp: retransmitted_bytes");
}

void CheckReceiveQueues(const Connection& c) {
  uint64_t memory = 0;
  SeqNum at = c.receive.copied;
  for (const Packet* p = c.received.front(); p != nullptr; p = c.received.Next(p)) {
    const SeqNum begin{p->sequence};
    Check(p->length > 0, "tcp: empty packet in the receive queue");
    if (p == c.received.front()) {
      Check(begin.AtOrBefore(at) && (begin + p->length).After(at),
            "tcp: receive queue begins late");
    } else {
      Check(begin == at, "tcp: hole in the receive queue");
    }
    at = begin + p->length;
    memory += p->memory;
  }
  SeqNum end = c.receive.next;
  for (const ReorderBlock* b = c.reorder.front(); b != nullptr; b = c.reorder.Next(b)) {
    Check(b->begin.After(end) && b->begin.Before(b->end), "tcp: reorder blocks touch");
    Check(c.reorder_tree.AtOrBefore(b->begin) == b, "tcp: block not in the tree");
    SeqNum byte = b->begin;
    for (const Packet* p = b->packets.front(); p != nullptr; p = b->packets.Next(p)) {
      Check(SeqNum{p->sequence} == byte, "tcp: hole in a reorder block");
      byte = byte + p->length;
      memory += p->memory;
    }
    Check(byte == b->end, "tcp: reorder block ends elsewhere");
    end = b->end;
  }
  Check(memory == c.received_memory, "tcp: received_memory");
}

void CheckTimers(const Connection& c) {
  const bool armed = c.retransmit_timer.armed();
  Check(armed == (c.retransmit_kind != RetransmitTimer::kNone), "tcp: retransmission timer");
  if (!c.sent.empty()) {
    Check(c.retransmit_kind == RetransmitTimer::kRetransmit, "tcp: in flight without a timer");
  }
  if (c.state == State::kClosed || c.state == State::kListen) {
    Check(!armed && !c.keep_alive_timer.armed() && !c.delayed_ack_timer.armed(),
          "tcp: a timer without a connection");
  }
}

}  // namespace

void CheckConnection(const Context& context, const Connection& c) {
  const bool in_table = c.state != State::kClosed && c.state != State::kListen;
  Check(c.hash_node.linked == in_table, "tcp: table and state disagree");
  if (in_table)
    Check(FindConnection(context, c.tuple, HashOf(context, c.tuple)) == &c,
          "tcp: tuple is not unique");
  Check((c.port != nullptr) == c.port_node.linked(), "tcp: port and its list disagree");
  Check(c.state != State::kListen || c.listener != nullptr, "tcp: listener without queues");
  Check(c.state != State::kClosed || c.pollable != nullptr || c.in_accept_queue,
        "tcp: a closed connection that nobody holds");
  Check(c.device_queue == 0 || context.core->queues.owner[c.device_queue - 1] == &c,
        "tcp: a device's queue that is another's");
  CheckTimers(c);
  if (c.state == State::kListen) return;
  CheckSendQueue(c);
  CheckScoreboard(c);
  CheckReceiveQueues(c);
  if (in_table) CheckSequences(c);
}

void CheckTables(const Context& context, const Connection** examined) {
  uint32_t orphans = 0;
  for (const Connection* c = context.all.front(); c != nullptr; c = context.all.Next(c)) {
    if (examined != nullptr) *examined = c;
    CheckConnection(context, *c);
    if (c->orphan) ++orphans;
    if (c->state != State::kListen) continue;
    uint32_t accepted = 0, begun = 0;
    const Listener& l = *c->listener;
    for (auto* a = l.accept_queue.front(); a != nullptr; a = l.accept_queue.Next(a)) ++accepted;
    for (auto* r = l.syn_queue.front(); r != nullptr; r = l.syn_queue.Next(r)) ++begun;
    Check(accepted == l.accept_count && begun == l.syn_count, "tcp: listener's counts");
  }
  if (examined != nullptr) *examined = nullptr;
  for (const Connection* c : context.core->queues.owner) {
    Check(c == nullptr || c->device_queue != 0, "tcp: a device's queue is not its owner's");
  }
  Check(orphans == context.orphans, "tcp: orphans");
}

}  // namespace userstack::tcp
