#include "netstack/ip/reassembly.h"

#include <algorithm>
#include <bit>

#include "netstack/base/checksum.h"
#include "netstack/wire/ipv4.h"
#include "netstack/wire/ipv6.h"

namespace userstack {
namespace {

constexpr uint32_t kMaxDatagram = 65535;

bool SameDatagram(const Fragment& a, const Fragment& b) {
  // IPv6: the protocol of later fragments is not to be looked at (RFC 8200 4.5).
  return a.identification == b.identification && a.interface == b.interface &&
         (a.source.is_v6() || a.protocol == b.protocol) && a.source == b.source &&
         a.destination == b.destination;
}

// The ECN field of the whole (RFC 3168 5.3): CE if any fragment has it and none is not-ECT. False:
// the mixture is to be dropped. `seen` has one bit for each value: 0 not-ECT, 1 ECT(1), 2 ECT(0),
// 3 CE.
bool CombineEcn(uint8_t seen, uint8_t* ecn) {
  const bool not_ect = seen & 1;
  const bool ce = seen & 8;
  if (not_ect && ce) return false;
  if (ce) {
    *ecn = 3;
  } else if (not_ect) {
    *ecn = 0;
  } else {
    *ecn = seen == 2 ? 1 : 2;  // Linux: a mixture of ECT(0) and ECT(1) becomes ECT(0)
  }
  return true;
}

struct UnitRange {
  uint32_t first;
  uint32_t end;
};

uint64_t MaskOf(uint32_t word, const UnitRange& range) {
  const uint32_t begin = std::max(range.first, word * 64) - word * 64;
  const uint32_t end = std::min(range.end, word * 64 + 64) - word * 64;
  const uint64_t upper = end == 64 ? ~0ull : (1ull << end) - 1;
  return upper & (~0ull << begin);
}

// How many units of the range have come.
uint32_t CountReceived(const uint64_t* units, const UnitRange& range) {
  uint32_t count = 0;
  for (uint32_t word = range.first / 64; word * 64 < range.end; ++word) {
    count += static_cast<uint32_t>(std::popcount(units[word] & MaskOf(word, range)));
  }
  return count;
}

void MarkReceived(uint64_t* units, const UnitRange& range) {
  for (uint32_t word = range.first / 64; word * 64 < range.end; ++word) {
    units[word] |= MaskOf(word, range);
  }
}

}  // namespace

bool Reassembly::Initialize(Core* core) {
  core_ = core;
  pool_.Initialize(core->arena, kMaxContexts, 4);
  return table_.Initialize(core->arena, 64);
}

uint64_t Reassembly::Hash(const Fragment& fragment) const {
  uint8_t key[36];
  std::memcpy(key, fragment.source.v6_bytes(), 16);
  std::memcpy(key + 16, fragment.destination.v6_bytes(), 16);
  Store32(key + 32, fragment.identification);
  return SipHash(core_->hash_key, key, sizeof key);
}

void Reassembly::Remove(ReassemblyContext* context) {
  core_->timers.Disarm(&context->timer);
  table_.Erase(context);
  context->age_node.Unlink();
  if (context->buffer != nullptr) core_->buffers.Release(context->buffer);
  if (context->header_buffer != nullptr) core_->buffers.Release(context->header_buffer);
  pool_.Delete(context);
}

void Reassembly::Fail(ReassemblyContext* context) {
  core_->counters.Add(Counter::kIpReassemblyFails);
  Remove(context);
}

ReassemblyContext* Reassembly::FindOrCreate(const Fragment& fragment, Instant now) {
  const uint64_t hash = Hash(fragment);
  ReassemblyContext* context =
      table_.Find(hash, [&](const ReassemblyContext& c) { return SameDatagram(c.key, fragment); });
  if (context != nullptr) return context;
  // The oldest makes room: it is the least likely to be completed.
  if (pool_.live() >= pool_.limit()) Fail(ages_.front());
  Buffer* buffer = core_->buffers.Allocate(BufferClass::kLarge);
  context = buffer == nullptr ? nullptr : pool_.New();
  if (context == nullptr) {
    if (buffer != nullptr) core_->buffers.Release(buffer);
    core_->counters.Add(Counter::kIpReassemblyFails);
    return nullptr;
  }
  context->buffer = buffer;
  context->key = fragment;
  table_.Insert(context, hash);
  ages_.PushBack(context);
  core_->timers.Arm(&context->timer, now + (fragment.source.is_v4() ? kTimeoutV4 : kTimeoutV6));
  return context;
}

// The first fragment brings the headers of the whole. False: out of memory, or a header that does
// not fit (256 bytes of options at most).
bool Reassembly::KeepHeader(ReassemblyContext* context, const Fragment& fragment,
                            const Packet& packet, const uint8_t* header, uint32_t header_length,
                            uint32_t next_header_offset) {
  if (header_length > kSmallBufferBytes - kReassemblyPull) return false;
  Buffer* buffer = core_->buffers.Allocate(BufferClass::kSmall);
  if (buffer == nullptr) return false;
  std::memcpy(buffer->bytes, header, header_length);
  if (fragment.source.is_v6()) buffer->bytes[next_header_offset] = fragment.protocol;
  context->header_buffer = buffer;
  context->header_length = header_length;
  context->first_length = fragment.length;
  context->ip = packet.ip;
  context->link_broadcast = packet.link_broadcast;
  context->looped = packet.looped;
  return true;
}

ReassemblyResult Reassembly::Add(const Fragment& fragment, const Packet& packet,
                                 const uint8_t* header, uint32_t header_length,
                                 uint32_t next_header_offset, Packet** whole, Instant now) {
  const uint32_t end = fragment.offset + fragment.length;
  const uint32_t fixed =
      fragment.source.is_v4() ? header_length : header_length - wire::kIpv6HeaderBytes;
  const bool malformed = fragment.length == 0 || end + fixed > kMaxDatagram ||
                         (fragment.more && fragment.length % 8 != 0);
  if (malformed) {
    core_->counters.Add(Counter::kIpReassemblyFails);
    return ReassemblyResult::kKept;
  }
  ReassemblyContext* context = FindOrCreate(fragment, now);
  if (context == nullptr) return ReassemblyResult::kKept;
  const UnitRange range{fragment.offset / 8, (end + 7) / 8};
  const uint32_t already = CountReceived(context->units, range);
  // Exactly what came before: a copy made by the network (RFC 8200 4.5 allows to ignore it).
  if (already == range.end - range.first) return ReassemblyResult::kKept;
  const bool beyond_end = context->total != 0 && (end > context->total || !fragment.more);
  const bool end_too_early = !fragment.more && context->payload_end > end;
  if (already != 0 || beyond_end || end_too_early) {
    // RFC 5722: an overlap damns the whole datagram. Linux does so for IPv4 as well.
    Fail(context);
    return ReassemblyResult::kKept;
  }
  if (fragment.offset == 0 &&
      !KeepHeader(context, fragment, packet, header, header_length, next_header_offset)) {
    Fail(context);
    return ReassemblyResult::kKept;
  }
  PacketPool::Copy(packet, 0, context->buffer->bytes + fragment.offset, fragment.length);
  MarkReceived(context->units, range);
  context->received += range.end - range.first;
  context->payload_end = std::max(context->payload_end, end);
  context->ecn_seen |= static_cast<uint8_t>(1u << fragment.ecn);
  context->arrival = packet.arrival;
  if (!fragment.more) context->total = end;
  if (context->total == 0 || context->received != (context->total + 7) / 8) {
    return ReassemblyResult::kKept;
  }
  *whole = MakeWhole(context);
  Remove(context);
  return *whole == nullptr ? ReassemblyResult::kKept : ReassemblyResult::kComplete;
}

// A packet with the headers and `payload` bytes; data() is behind the headers. Takes the buffers.
Packet* Reassembly::MakePacket(ReassemblyContext* context, uint32_t payload) {
  Packet* packet = core_->packets.Allocate();
  if (packet == nullptr) return nullptr;
  const uint32_t head = context->header_length;
  const uint32_t pulled = std::min(payload, kReassemblyPull);
  std::memcpy(context->header_buffer->bytes + head, context->buffer->bytes, pulled);
  packet->slices[packet->slice_count++] = {context->header_buffer, 0, head + pulled};
  context->header_buffer = nullptr;
  if (payload > pulled) {
    packet->slices[packet->slice_count++] = {context->buffer, pulled, payload - pulled};
    context->buffer = nullptr;
  }
  packet->length = head + payload;
  packet->arrival = context->arrival;
  packet->link_broadcast = context->link_broadcast;
  packet->looped = context->looped;
  packet->ip = context->ip;
  packet->ip.header_length = static_cast<uint16_t>(head);
  packet->Pull(head);
  return packet;
}

Packet* Reassembly::MakeWhole(ReassemblyContext* context) {
  uint8_t ecn = 0;
  // Fragment headers say where the header ends; a whole beyond 64 KiB was refused as it grew, but
  // the first fragment's header may be longer than the others'.
  const bool v4 = context->key.source.is_v4();
  const uint32_t fixed =
      v4 ? context->header_length : context->header_length - wire::kIpv6HeaderBytes;
  if (!CombineEcn(context->ecn_seen, &ecn) || context->total + fixed > kMaxDatagram) {
    core_->counters.Add(Counter::kIpReassemblyFails);
    return nullptr;
  }
  uint8_t* header = context->header_buffer->bytes;
  context->ip.traffic_class = static_cast<uint8_t>((context->ip.traffic_class & ~3) | ecn);
  const auto length = static_cast<uint16_t>(context->total + fixed);
  if (v4) {
    header[1] = context->ip.traffic_class;
    Store16(header + 2, length);
    Store16(header + 6, 0);
    Store16(header + 10, 0);
    ChecksumAccumulator sum;
    sum.Add(header, context->header_length);
    Store16(header + 10, sum.Checksum());
  } else {
    Store32(header,
            0x60000000u | uint32_t{context->ip.traffic_class} << 20 | context->ip.flow_label);
    Store16(header + 4, length);
  }
  return MakePacket(context, context->total);
}

Packet* Reassembly::OnTimer(ReassemblyContext* context) {
  Packet* first = nullptr;
  if (context->header_length != 0) first = MakePacket(context, context->first_length);
  Remove(context);
  return first;
}

void Reassembly::Mend() {
  uint32_t count = 0;
  for (ReassemblyContext* c = ages_.front(); c != nullptr; c = ages_.Next(c)) ++count;
  pool_.set_live(count);
}

void Reassembly::CheckInvariants() const {
  uint32_t count = 0;
  for (ReassemblyContext* c = ages_.front(); c != nullptr; c = ages_.Next(c)) {
    ++count;
    Check(c->hash_node.linked && c->timer.armed() && c->buffer != nullptr,
          "reassembly: context not linked");
    uint32_t bits = 0;
    for (uint64_t word : c->units) bits += static_cast<uint32_t>(std::popcount(word));
    Check(bits == c->received, "reassembly: received count");
    Check((c->header_length != 0) == (c->header_buffer != nullptr), "reassembly: header");
  }
  Check(count == pool_.live() && count <= kMaxContexts, "reassembly: count");
}

}  // namespace userstack
