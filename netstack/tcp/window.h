// The receive window: what to advertise (RFC 9293 3.8.6, never shrinking), how the receive buffer
// grows to what the user reads per round trip (Linux: dynamic right-sizing), and the window's
// scale.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// Payload bytes that `memory` bytes of buffer are taken to hold (Linux: tcp_adv_win_scale 1).
constexpr uint32_t WindowFromMemory(uint32_t memory) { return memory / 2; }

// Window, scale and clamp for a SYN or SYN-ACK of a connection whose MSS option says `mss`.
struct InitialWindow {
  uint32_t window = 0;
  uint32_t clamp = 0;
  uint8_t scale = 0;
};
InitialWindow ChooseInitialWindow(const SocketOptions& options, uint32_t window_clamp, uint32_t mss,
                                  bool scaling);

// What is left of the window last advertised.
uint32_t RemainingReceiveWindow(const Connection& c);
// What could be advertised now (Linux: __tcp_select_window), without the promise not to shrink.
uint32_t SelectReceiveWindow(const Connection& c);
// Decides the window for a segment that is about to go, remembers it, and returns the header field.
uint16_t AdvertiseWindow(Connection& c);

// A segment with payload came in: MSS estimate, slow opening of the window.
void NoteReceivedPayload(Connection& c, const Segment& segment, uint32_t memory);
// The user read something: grow the buffer when a round trip's reads outgrow it.
void TuneReceiveBuffer(Connection& c, Instant now);
// A data segment arrived with a timestamp echo, or a window's worth passed: RTT as receiver.
void MeasureReceiverRtt(Connection& c, const Segment& segment, Instant now);
// The congestion window grew: let the send buffer follow (Linux: tcp_sndbuf_expand).
void TuneSendBuffer(Connection& c);

}  // namespace userstack::tcp
