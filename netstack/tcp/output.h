// Output: which data goes when (window, congestion window, Nagle, cork), and what its segment looks
// like. Everything that leaves goes through Ip::Send; when the interface's queue is long the
// connection waits on Context::blocked and goes on in ContinueBlocked.
#pragma once

#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// Whether a last, short segment may go.
enum class PushMode : uint8_t {
  kNagle,  // as the socket's options say
  kForce,  // now (TCP_NODELAY was just set, the cork was pulled, probing)
  kMore,   // MSG_MORE: hold it
};

// Sends lost data again and new data, as far as allowed, and arms the timers.
void Output(Context& context, Connection& c, Instant now, PushMode mode = PushMode::kNagle);
// Room on `interface` again.
void ContinueBlocked(Context& context, uint16_t interface, Instant now);

void SendAck(Context& context, Connection& c, Instant now);
// RFC 5961 5: an ACK that answers something suspicious, limited per connection and in all.
void SendChallengeAck(Context& context, Connection& c, Instant now);
void SendSyn(Context& context, Connection& c, Instant now);    // SYN, or SYN-ACK in SYN-RECEIVED
void SendReset(Context& context, Connection& c, Instant now);  // aborts: RST at SND.NXT
// Zero-window and keepalive probe: a segment below the window that forces an ACK.
void SendProbe(Context& context, Connection& c, Instant now);
// Sends what the peer's window takes of the next unsent data although Nagle or the window's size
// would hold it; false when there is nothing to send or no window at all.
bool SendIntoWindow(Context& context, Connection& c, Instant now);
// Retransmits the first unacknowledged record whatever the windows say.
bool RetransmitHead(Context& context, Connection& c, Instant now);

// The route, asked for again when routing changed; and with it the MSS.
Status RefreshRoute(Context& context, Connection& c);
// Computes Connection::mss from route, peer and options.
void UpdateMss(Connection& c);
// What we announce for a path of `mtu`.
uint16_t MssForMtu(const IpAddress& remote, uint32_t mtu);

// True while something unsent waits.
bool HasUnsent(const Connection& c);

}  // namespace userstack::tcp
