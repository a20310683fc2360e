// What poll says of a connection: exactly Linux's tcp_poll.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

EventMask ReadinessLevel(const Connection& c);
// Publishes the level, with `edges` for what happened anew. A no-op without a socket.
void PublishReadiness(Context& context, Connection& c, EventMask edges = 0);
// Linux: sk_state_change wakes every sleeper whatever it waits for.
void PublishStateChange(Context& context, Connection& c);
inline constexpr EventMask kDataEdges = kEventIn | kEventReadNormal;

// Tells those whose writes found no memory when there is some again. All of them: who finds none
// once more waits once more.
void FeedStarved(Context& context);

// Linux: sk_stream_memory_free, and tcp_notsent_lowat.
bool HasSendRoom(const Connection& c);

}  // namespace userstack::tcp
