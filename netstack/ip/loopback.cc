// The internal loopback: a frame to ourselves becomes a packet. Payload slices change hands without
// a copy; only headers (and payloads that fit beside them) are copied.
#include "netstack/ip/ip.h"

namespace userstack {

// `frame` begins with its network header and stays the caller's.
Packet* Ip::MakeLooped(const Frame& frame, uint16_t interface, Instant now) {
  Packet* packet = core_->packets.Allocate();
  if (packet == nullptr) return nullptr;
  const uint32_t head = frame.header_length();
  // One slice is for the headers: a frame that has every slice taken is copied whole.
  const bool no_slice_left = frame.slice_count == kMaxSlices;
  Buffer* buffer =
      core_->buffers.Allocate(no_slice_left ? BufferClass::kLarge : BufferClass::kSmall);
  if (buffer == nullptr) {
    core_->packets.Release(packet);
    return nullptr;
  }
  std::memcpy(buffer->bytes, frame.header(), head);
  packet->slices[packet->slice_count++] = {buffer, 0, head};
  const bool copy = frame.length() <= buffer->capacity;
  for (unsigned i = 0; i < frame.slice_count; ++i) {
    const Slice& slice = frame.slices[i];
    Slice& first = packet->slices[0];
    if (copy) {
      std::memcpy(buffer->bytes + first.length, slice.data(), slice.length);
      first.length += slice.length;
    } else {
      BufferPool::Reference(slice.buffer);
      packet->slices[packet->slice_count++] = slice;
    }
  }
  packet->length = frame.length();
  packet->offload = frame.offload;
  packet->arrival = now;
  packet->looped = true;
  packet->ip.interface = interface;
  return packet;
}

bool Ip::PushLooped(Packet* packet) {
  if (packet == nullptr || looped_count_ >= kLoopedLimit) {
    core_->counters.Add(Counter::kIpOutDiscards);
    if (packet != nullptr) core_->packets.Release(packet);
    return false;
  }
  looped_.PushBack(packet);
  ++looped_count_;
  if (looped_count_ >= kLoopedCongested) {
    looped_was_congested_ = true;
    looped_drained_ = false;
  }
  return true;
}

Status Ip::Loop(Frame* frame, uint16_t interface, Instant now) {
  const bool pushed = PushLooped(MakeLooped(*frame, interface, now));
  core_->frames.Release(frame);
  return pushed ? Status::Ok() : Status(ENOBUFS);
}

void Ip::LoopCopy(const Frame& frame, uint16_t interface, Instant now) {
  PushLooped(MakeLooped(frame, interface, now));
}

Packet* Ip::NextLooped() {
  Packet* packet = looped_.PopFront();
  if (packet == nullptr) return nullptr;
  --looped_count_;
  if (looped_was_congested_ && looped_count_ <= kLoopedCongested / 2) {
    looped_was_congested_ = false;
    looped_drained_ = true;
  }
  return packet;
}

}  // namespace userstack
