// Putting one segment on its way: header, options, checksum request, Ip::Send. Used for
// connections, for handshake records, for TIME_WAIT and for answers to strangers alike.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"
#include "netstack/wire/tcp.h"

namespace userstack::tcp {

struct Outgoing {
  SeqNum sequence;
  SeqNum acknowledgment;
  uint8_t flags = 0;
  uint16_t window = 0;
  uint16_t urgent_pointer = 0;
  wire::TcpOptions options;
};

// A frame with the header written (ports from `tuple`), or nullptr when there is none.
Frame* MakeSegment(Context& context, const Tuple& tuple, const Outgoing& out);
// Asks for the checksum and sends. `segment_size` != 0: the device cuts the payload. The frame is
// gone in every case.
Status SendSegment(Context& context, Frame* frame, const Tuple& tuple, const Route& route,
                   const SendOptions& send_options, uint16_t segment_size, Instant now);
// Hop limit, traffic class and DF as the socket wants them.
SendOptions SendOptionsFor(const SocketOptions& options, const Tuple& tuple, const Route& route);
// RST in answer to a segment that belongs to nobody (RFC 9293 3.10.7.1).
void SendResetTo(Context& context, const Segment& segment, Instant now);
// A segment without payload for what is no Connection (a handshake record, TIME_WAIT).
void SendBare(Context& context, const Tuple& tuple, const Outgoing& out, uint16_t interface,
              uint8_t traffic_class, Instant now);

}  // namespace userstack::tcp
