#include "netstack/packet/packet.h"

#include <algorithm>
#include <cstring>

#include "netstack/packet/frame.h"

namespace userstack {

void PacketPool::Initialize(Arena* arena, BufferPool* buffers, uint32_t limit) {
  buffers_ = buffers;
  pool_.Initialize(arena, limit);
}

Packet* PacketPool::Allocate() { return pool_.New(); }

Packet* PacketPool::Clone(const Packet& packet) {
  Packet* copy = pool_.New();
  if (copy == nullptr) return nullptr;
  copy->arrival = packet.arrival;
  copy->slice_count = packet.slice_count;
  for (unsigned i = 0; i < packet.slice_count; ++i) {
    copy->slices[i] = packet.slices[i];
    BufferPool::Reference(packet.slices[i].buffer);
  }
  copy->link_broadcast = packet.link_broadcast;
  copy->looped = packet.looped;
  copy->length = packet.length;
  copy->offload = packet.offload;
  copy->link_offset = packet.link_offset;
  copy->network_offset = packet.network_offset;
  copy->ip = packet.ip;
  return copy;
}

void PacketPool::Release(Packet* packet) {
  for (unsigned i = 0; i < packet->slice_count; ++i) buffers_->Release(packet->slices[i].buffer);
  pool_.Delete(packet);
}

void PacketPool::Trim(Packet* packet, uint32_t length) {
  uint32_t kept = 0;
  for (unsigned i = 0; i < packet->slice_count; ++i) {
    Slice& slice = packet->slices[i];
    slice.length = std::min(slice.length, length - kept);
    kept += slice.length;
  }
  while (packet->slice_count > 1 && packet->slices[packet->slice_count - 1].length == 0) {
    buffers_->Release(packet->slices[--packet->slice_count].buffer);
  }
  packet->length = kept;
}

uint32_t PacketPool::Copy(const Packet& packet, uint32_t offset, void* to, uint32_t size) {
  auto* out = static_cast<uint8_t*>(to);
  uint32_t copied = 0;
  for (unsigned i = 0; i < packet.slice_count && copied < size; ++i) {
    const Slice& slice = packet.slices[i];
    if (offset >= slice.length) {
      offset -= slice.length;
      continue;
    }
    const uint32_t n = std::min(slice.length - offset, size - copied);
    std::memcpy(out + copied, slice.data() + offset, n);
    copied += n;
    offset = 0;
  }
  return copied;
}

void FramePool::Initialize(Arena* arena, BufferPool* buffers, uint32_t limit) {
  buffers_ = buffers;
  pool_.Initialize(arena, limit);
}

Frame* FramePool::Allocate() { return pool_.New(); }

void FramePool::Release(Frame* frame) {
  if (FrameOwner* owner = frame->owner; owner != nullptr) {
    owner->bytes -= frame->charge;
    if (!owner->drained_node.linked()) drained_.PushBack(owner);
  }
  for (unsigned i = 0; i < frame->slice_count; ++i) buffers_->Release(frame->slices[i].buffer);
  pool_.Delete(frame);
}

}  // namespace userstack
