// Urgent data (RFC 9293 3.8.5, RFC 6093), as Linux has it: one byte, which the pointer names,
// taken out of the stream unless SO_OOBINLINE; a later announcement replaces an earlier one.
#include "netstack/tcp/input.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"

namespace userstack::tcp {
namespace {

// Linux: tcp_check_urg.
void Announce(Context& context, Connection& c, const Segment& segment) {
  const SeqNum at = segment.urgent;
  if (c.receive.copied.After(at)) return;  // read already
  if (at.Before(c.receive.next)) return;   // a replay
  if (c.urgent != Urgent::kNone && !at.After(c.receive.urgent)) return;
  // Another urgent byte while the mark of the last stands at the reader: the last one is lost, so
  // skip it in the stream, unless it is inline.
  if (c.receive.urgent == c.receive.copied && c.urgent != Urgent::kNone &&
      !c.options.out_of_band_inline && ReceivedBytes(c) > 0) {
    ConsumeReceived(context, c, 1);
  }
  c.urgent = Urgent::kExpected;
  c.receive.urgent = at;
}

}  // namespace

void ProcessUrgent(Context& context, Connection& c, const Segment& segment) {
  if (segment.Has(wire::kTcpUrgent)) {
    const Urgent before = c.urgent;
    const SeqNum mark = c.receive.urgent;
    Announce(context, c, segment);
    if (c.urgent == Urgent::kExpected && (before != c.urgent || mark != c.receive.urgent)) {
      PublishReadiness(context, c, kEventPriority);
    }
  }
  if (c.urgent != Urgent::kExpected || segment.length == 0) return;
  if (!c.receive.urgent.InRange(segment.sequence, segment.length)) return;
  uint8_t byte = 0;
  PacketPool::Copy(*segment.packet, c.receive.urgent - segment.sequence, &byte, 1);
  c.receive.urgent_byte = byte;
  c.urgent = Urgent::kHere;
  PublishReadiness(context, c, kDataEdges | kEventPriority);
}

}  // namespace userstack::tcp
