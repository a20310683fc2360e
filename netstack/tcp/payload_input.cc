// RFC 9293 3.10.7.4, seventh and eighth: the segment text and the FIN.
#include <algorithm>

#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/input.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/packets.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/transmit.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

void NoteDuplicate(Connection& c, SeqNum begin, SeqNum end) {
  if (!c.sack) return;
  c.duplicate_sack = true;
  c.duplicate_sack_begin = begin;
  c.duplicate_sack_end = end;
}

void AckAtOnce(Connection& c) {
  EnterQuickAck(c);
  c.ack_now = true;
}

// Linux: RFC 1122 4.2.2.13. Data for a program that can no longer read it must be answered by RST,
// so that the sender learns.
bool IsDataForNobody(const Connection& c, const Segment& segment) {
  if (!c.receive_shut) return false;
  if (c.state != State::kFinWait1 && c.state != State::kFinWait2) return false;
  return segment.length > 0 && (segment.sequence + segment.length).After(c.receive.next);
}

bool AcceptsText(State state) {
  switch (state) {
    case State::kEstablished:
    case State::kFinWait1:
    case State::kFinWait2:
      return true;
    case State::kSynSent:
    case State::kSynReceived:
    case State::kCloseWait:
    case State::kClosing:
    case State::kLastAck:
    case State::kTimeWait:
    case State::kClosed:
    case State::kListen:
      return false;
  }
  return false;
}

// The most memory that a byte of text keeps alive: of a frame just too long for its small buffers.
constexpr uint64_t kMostMemoryPerByte = 5;

// Memory that text in order may take. What the window has promised is kept when the program makes
// the buffer smaller afterwards. Linux refuses it then (TCPRcvQDrop), whereupon an orphan, which is
// not allowed to wait for ever, gives up although its peer would have read on.
uint64_t InOrderLimit(const Connection& c) {
  const uint64_t promised = uint64_t{ReceivedBytes(c)} + RemainingReceiveWindow(c);
  return std::max(uint64_t{2} * c.options.receive_buffer, kMostMemoryPerByte * promised) +
         kLargeBufferBytes;
}

// Whether the buffer takes the packet. Linux (tcp_try_rmem_schedule): a queue that is not over its
// limit takes one more packet, however large, so that a buffer smaller than a packet still makes
// progress. In-order data within a promised window is only refused when the memory behind it is
// beyond all proportion, and somebody can make room by reading.
bool HasReceiveRoom(Context& context, Connection& c, const Segment& segment, bool in_order) {
  if (!in_order && context.core->buffers.under_pressure()) return false;
  const uint64_t buffer = c.options.receive_buffer;
  if (c.received_memory <= buffer) return true;
  const uint32_t memory = MemoryOf(*segment.packet);
  const uint64_t limit = in_order ? InOrderLimit(c) : buffer;
  if (c.received_memory + memory <= limit) return true;
  if (PruneReordered(context, c, memory, limit)) return true;
  return in_order && c.received.empty();
}

// Cuts the segment to [RCV.NXT, right edge). False: nothing new is left.
bool TrimToWindow(Context& context, Connection& c, Segment& segment) {
  const SeqNum text_end = segment.sequence + segment.length;
  if (text_end.AtOrBefore(c.receive.next)) {
    if (segment.length > 0) {
      NoteDuplicate(c, segment.sequence, text_end);
      AckAtOnce(c);
    } else if (segment.Has(wire::kTcpFin)) {
      c.ack_now = true;
    }
    return false;
  }
  const SeqNum edge = c.receive.next + RemainingReceiveWindow(c);
  if (segment.sequence.AtOrAfter(edge)) {
    AckAtOnce(c);
    return false;
  }
  if (segment.sequence.Before(c.receive.next)) {
    NoteDuplicate(c, segment.sequence, c.receive.next);
    TrimFront(context, segment, c.receive.next - segment.sequence);
    c.ack_now = true;
  }
  if (text_end.After(edge)) TrimBack(context, segment, edge - segment.sequence);
  return true;
}

void TakeInOrder(Context& context, Connection& c, Segment& segment, Instant now) {
  const uint32_t memory = MemoryOf(*segment.packet);
  const bool had_holes = !c.reorder.empty();
  ScheduleAck(c, now);
  NoteReceivedPayload(c, segment, memory);
  if (context.core->buffers.under_pressure()) {
    c.receive.threshold = std::min<uint32_t>(c.receive.threshold, 4u * c.advertised_mss);
  }
  context.core->landing.NoteText(&c, segment.length);
  QueueInOrder(context, c, segment);
  (void)JoinReordered(context, c);
  // RFC 5681 4.2: what fills a hole is acknowledged at once.
  if (had_holes) c.ack_now = true;
  MeasureReceiverRtt(c, segment, now);
  PublishReadiness(context, c, kDataEdges);
}

void TakeOutOfOrder(Context& context, Connection& c, Segment& segment, Instant now) {
  ScheduleAck(c, now);
  AckAtOnce(c);
  NoteReceivedPayload(c, segment, MemoryOf(*segment.packet));
  (void)QueueOutOfOrder(context, c, segment);
}

}  // namespace

bool ProcessPayload(Context& context, Connection& c, Segment& segment, Instant now) {
  if (segment.length == 0 && !segment.Has(wire::kTcpFin)) return true;
  if (IsDataForNobody(c, segment)) {
    context.core->counters.Add(Counter::kTcpAbortOnData);
    SendResetTo(context, segment, now);
    Finish(context, c, ECONNRESET, now);
    return false;
  }
  if (!AcceptsText(c.state)) {
    // "This should not occur, since a FIN has been received": a retransmission of it.
    AckAtOnce(c);
    return true;
  }
  ++c.data_segments_in;
  c.bytes_received += segment.length;
  if (segment.Has(wire::kTcpFin)) {
    const SeqNum at = segment.sequence + segment.length;
    const SeqNum edge = c.receive.next + RemainingReceiveWindow(c);
    // Linux: a FIN alone may lie at the edge of a closed window.
    if (at.AtOrAfter(c.receive.next) && at.AtOrBefore(edge)) {
      c.receive.fin_known = true;
      c.receive.fin_sequence = at;
    }
  }
  if (segment.length == 0) {
    // A FIN alone: out of order it is remembered, old it is acknowledged again.
    if (segment.sequence != c.receive.next) c.ack_now = true;
    return true;
  }
  if (!TrimToWindow(context, c, segment)) return true;
  const bool in_order = segment.sequence == c.receive.next;
  if (!HasReceiveRoom(context, c, segment, in_order)) {
    context.core->counters.Add(in_order ? Counter::kTcpReceivePruned
                                        : Counter::kTcpOutOfOrderDropped);
    AckAtOnce(c);
    return true;
  }
  if (in_order) {
    TakeInOrder(context, c, segment, now);
  } else {
    TakeOutOfOrder(context, c, segment, now);
  }
  return true;
}

void ProcessFin(Context& context, Connection& c, Instant now) {
  if (!c.receive.fin_known || c.receive.fin_received) return;
  if (c.receive.fin_sequence != c.receive.next) return;
  c.receive.next = c.receive.next + 1;
  c.receive.fin_received = true;
  c.receive_shut = true;
  c.ack_pending = true;
  ClearReordered(context, c);
  switch (c.state) {
    case State::kEstablished:
      c.state = State::kCloseWait;
      c.ping_pong = true;
      break;
    case State::kFinWait1:
      // Our FIN is not acknowledged yet: a simultaneous close.
      c.state = State::kClosing;
      SendAck(context, c, now);
      break;
    case State::kFinWait2:
      SendAck(context, c, now);
      EnterTimeWait(context, c, now);
      return;
    case State::kSynSent:
    case State::kSynReceived:
    case State::kCloseWait:
    case State::kClosing:
    case State::kLastAck:
    case State::kTimeWait:
    case State::kClosed:
    case State::kListen:
      return;
  }
  PublishStateChange(context, c);
}

}  // namespace userstack::tcp
