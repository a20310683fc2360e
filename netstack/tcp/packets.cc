// Small operations on queued packets.
#include "netstack/tcp/packets.h"

#include <algorithm>

namespace userstack::tcp {

void DropFront(Core& core, Packet* packet, uint32_t n) {
  unsigned gone = 0;
  packet->length -= n;
  while (n > 0) {
    Slice& slice = packet->slices[gone];
    const uint32_t cut = std::min(n, slice.length);
    slice.offset += cut;
    slice.length -= cut;
    n -= cut;
    if (slice.length == 0 && gone + 1 < packet->slice_count) ++gone;
  }
  if (gone == 0) return;
  for (unsigned i = 0; i < gone; ++i) core.buffers.Release(packet->slices[i].buffer);
  std::copy(packet->slices + gone, packet->slices + packet->slice_count, packet->slices);
  packet->slice_count = static_cast<uint8_t>(packet->slice_count - gone);
}

uint32_t MemoryOf(const Packet& packet) {
  uint32_t memory = sizeof(Packet);
  for (unsigned i = 0; i < packet.slice_count; ++i) {
    // A shared buffer is charged by what is used of it: its other users carry the rest.
    const Buffer& buffer = *packet.slices[i].buffer;
    memory += buffer.references == 1 ? buffer.capacity : packet.slices[i].length;
  }
  return memory;
}

bool AppendCopy(Packet* to, const Packet& from, uint32_t length) {
  Slice& last = to->slices[to->slice_count - 1];
  if (last.buffer->references != 1) return false;
  if (last.buffer->capacity - last.offset - last.length < length) return false;
  PacketPool::Copy(from, 0, last.data() + last.length, length);
  last.length += length;
  to->length += length;
  return true;
}

}  // namespace userstack::tcp
