// Segment: one received TCP segment (or a merge of several), parsed. Borrowed by the functions that
// process it; whoever keeps the packet sets `packet` to nullptr.
#pragma once

#include <cstdint>

#include "netstack/base/sequence.h"
#include "netstack/base/time.h"
#include "netstack/packet/packet.h"
#include "netstack/tcp/state.h"
#include "netstack/wire/tcp.h"

namespace userstack::tcp {

struct Segment {
  Packet* packet = nullptr;  // data() is the first payload byte; length counts payload only
  SeqNum sequence;           // SEG.SEQ
  SeqNum acknowledgment;     // SEG.ACK
  uint32_t length = 0;       // payload bytes
  SeqNum urgent;             // sequence number of the urgent byte, when URG is set
  uint16_t window = 0;       // SEG.WND, not scaled
  uint16_t unit = 0;         // payload of each original segment when merged, else 0
  uint8_t flags = 0;         // wire::TcpFlag
  wire::TcpOptions options;
  Instant arrival;
  Tuple tuple;  // as seen from here: local is the packet's destination
  uint16_t interface = 0;

  bool Has(wire::TcpFlag flag) const { return (flags & flag) != 0; }
  uint32_t sequence_length() const {  // SEG.LEN
    return length + (Has(wire::kTcpSyn) ? 1 : 0) + (Has(wire::kTcpFin) ? 1 : 0);
  }
  SeqNum end() const { return sequence + sequence_length(); }
};

// Verifies the checksum (unless the device vouches for it), parses header and options, and pulls
// the header off the packet. False, counted: the segment must be dropped.
bool ParseSegment(struct Context& context, Packet* packet, Segment* segment);

// Drops `n` payload bytes (and then SYN) from the front: what lies before RCV.NXT.
void TrimFront(struct Context& context, Segment& segment, uint32_t n);
// Keeps `n` payload bytes, and drops FIN: what lies beyond the window.
void TrimBack(struct Context& context, Segment& segment, uint32_t n);

}  // namespace userstack::tcp
