#include "netstack/tcp/landing.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "netstack/base/check.h"
#include "netstack/packet/landing.h"
#include "netstack/tcp/constants.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/tcp.h"

namespace userstack::tcp {
namespace {

constexpr uint32_t kNetwork = wire::kEthernetHeaderBytes;
constexpr uint32_t kTimestampBytes = 12;  // RFC 7323 appendix A: two NOPs and the option

// One byte of the foretold header.
void Foretell(Landing& landing, uint32_t at, uint8_t value, uint8_t mask = 0xff) {
  landing.header[at] = value;
  landing.mask[at] = mask;
}

void ForetellBytes(Landing& landing, uint32_t at, const uint8_t* bytes, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) Foretell(landing, at + i, bytes[i]);
}

void Foretell16(Landing& landing, uint32_t at, uint16_t value) {
  Foretell(landing, at, static_cast<uint8_t>(value >> 8));
  Foretell(landing, at + 1, static_cast<uint8_t>(value));
}

// The network header, without options and not a fragment. Returns its length.
uint32_t ForetellNetwork(Landing& landing, const Tuple& tuple) {
  if (tuple.local.is_v4()) {
    Foretell16(landing, kNetwork - 2, wire::kEtherTypeIpv4);
    Foretell(landing, kNetwork, 0x45);
    Foretell(landing, kNetwork + 6, 0, 0x3f);  // MF and the offset
    Foretell(landing, kNetwork + 7, 0);
    Foretell(landing, kNetwork + 9, kProtocol);
    ForetellBytes(landing, kNetwork + 12, tuple.remote.v4_bytes(), 4);
    ForetellBytes(landing, kNetwork + 16, tuple.local.v4_bytes(), 4);
    return 20;
  }
  Foretell16(landing, kNetwork - 2, wire::kEtherTypeIpv6);
  Foretell(landing, kNetwork, 0x60, 0xf0);
  Foretell(landing, kNetwork + 6, kProtocol);
  ForetellBytes(landing, kNetwork + 8, tuple.remote.v6_bytes(), 16);
  ForetellBytes(landing, kNetwork + 24, tuple.local.v6_bytes(), 16);
  return 40;
}

// A segment of a one-way flow: PSH and FIN make no difference to where its text belongs.
void ForetellSegment(Landing& landing, const Connection& c, uint32_t at) {
  const uint32_t length = wire::kTcpHeaderBytes + (c.timestamps ? kTimestampBytes : 0);
  Foretell16(landing, at, c.tuple.remote_port);
  Foretell16(landing, at + 2, c.tuple.local_port);
  Foretell(landing, at + 12, static_cast<uint8_t>(length << 2), 0xf0);
  Foretell(landing, at + 13, wire::kTcpAck,
           static_cast<uint8_t>(~(wire::kTcpPush | wire::kTcpFin)));
  landing.sequence_at = at + 4;
  landing.sequence = c.receive.next.value;
  landing.header_length = at + length;
}

bool IsLikely(const Landing& landing, const Connection& c) {
  const bool has_wire = landing.recent == &c && landing.streak >= Landing::kLongStreak;
  return (has_wire || c.device_queue != 0) && c.state == State::kEstablished &&
         c.received.empty() && c.reorder.empty() && c.receive.copied == c.receive.next &&
         c.urgent == Urgent::kNone && !c.receive_shut && !c.receive.fin_known &&
         c.options.receive_low_water <= 1;
}

}  // namespace

void OpenLanding(Context& context, const Connection& c, uint8_t* memory, size_t size,
                 uint32_t least) {
  Landing& landing = context.core->landing;
  landing.Close();
  if (!IsLikely(landing, c)) return;
  // More text behind what this call has already.
  const bool goes_on = landing.owner == &c && landing.buffer.bytes == memory;
  if (!goes_on) landing.taken = 0;
  landing.owner = &c;
  landing.filled = landing.taken;
  landing.buffer.bytes = memory;
  landing.size = static_cast<uint32_t>(std::min<size_t>(size, 1u << 30));
  landing.least = least;
  landing.buffer.size_class = BufferClass::kProgram;
  std::memset(landing.mask, 0, sizeof(landing.mask));
  ForetellSegment(landing, c, kNetwork + ForetellNetwork(landing, c.tuple));
}

uint32_t TakeIfInPlace(Context& context, Connection& c, Packet* packet) {
  Landing& landing = context.core->landing;
  if (landing.owner != &c || packet->slice_count < 2 || packet->slices[0].length != 0) return 0;
  const Slice text = packet->slices[1];
  const bool in_place = text.buffer == &landing.buffer && text.offset == landing.taken;
  if (!in_place || !c.received.empty() || c.receive.copied != c.receive.next) return 0;
  landing.taken += text.length;
  c.receive.copied = c.receive.copied + text.length;
  context.core->buffers.Release(packet->slices[0].buffer);
  context.core->buffers.Release(text.buffer);
  packet->slice_count = static_cast<uint8_t>(packet->slice_count - 2);
  std::copy_n(packet->slices + 2, packet->slice_count, packet->slices);
  packet->length -= text.length;
  return text.length;
}

bool BringLandedHome(Core& core, Packet* packet) {
  for (unsigned i = 0; i < packet->slice_count; ++i) {
    Slice& slice = packet->slices[i];
    if (slice.buffer != &core.landing.buffer) continue;
    Buffer* home = core.buffers.Allocate(BufferClass::kLarge);
    if (home == nullptr) return false;
    std::memcpy(home->bytes, slice.data(), slice.length);
    core.buffers.Release(slice.buffer);
    slice = {home, 0, slice.length};
  }
  return true;
}

uint32_t ReportSomeLanded(Context& context, IoCursor& to) {
  Landing& landing = context.core->landing;
  size_t length = 0;
  const uint8_t* piece = to.Piece(&length);
  Check(piece == landing.buffer.bytes && landing.taken <= length, "tcp: landed elsewhere");
  to.Advance(landing.taken);
  landing.owner = nullptr;
  return std::exchange(landing.taken, 0);
}

}  // namespace userstack::tcp
