// What TCP does with a Landing (netstack/packet/landing.h): it foretells the next segment of a
// connection, takes text that has landed, and reports it to the call that waited.
#pragma once

#include "netstack/base/io.h"
#include "netstack/tcp/context.h"

namespace userstack::tcp {

// The caller waits for `c`'s text and has `size` bytes of memory for it. Opens the landing when the
// next frame is likely to be the next segment of a long run of c's. `least`: Landing's.
void OpenLanding(Context& context, const Connection& c, uint8_t* memory, size_t size,
                 uint32_t least);

uint32_t TakeIfInPlace(Context& context, Connection& c, Packet* packet);
bool BringLandedHome(Core& core, Packet* packet);
uint32_t ReportSomeLanded(Context& context, IoCursor& to);

// How much of `packet`, which is text in order, lies in its place in the program's memory: so much
// is received and read, and the packet has only what follows.
inline uint32_t TakeLanded(Context& context, Connection& c, Packet* packet) {
  return context.core->landing.buffer.references == 0 ? 0 : TakeIfInPlace(context, c, packet);
}
// Before a packet is kept: bytes of the program's memory are copied into buffers. False: there are
// none.
inline bool BringHome(Core& core, Packet* packet) {
  return core.landing.buffer.references == 0 || BringLandedHome(core, packet);
}
inline bool HasLanded(const Context& context, const Connection& c) {
  return context.core->landing.taken != 0 && context.core->landing.owner == &c;
}
// How many bytes lie already where `to` stands, which is moved behind them.
inline uint32_t ReportLanded(Context& context, const Connection& c, IoCursor& to) {
  return HasLanded(context, c) ? ReportSomeLanded(context, to) : 0;
}

}  // namespace userstack::tcp
