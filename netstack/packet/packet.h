// Packet: what came in. One Ethernet frame, or a merge of many (GRO, TSO passed through), as slices
// of buffers. Ownership: whoever is handed a Packet* owns it and its slices; it ends in
// PacketPool::Release or in a socket's queue. Shape: slice 0 holds all headers contiguously (a
// packet whose headers do not fit there is dropped). `arrival` is taken at dequeue from the device;
// RTT, RACK and buffer tuning use it, never processing time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/ip_address.h"
#include "netstack/base/time.h"
#include "netstack/packet/buffer.h"
#include "netstack/packet/offload.h"

namespace userstack {

inline constexpr unsigned kMaxSlices = 18;

// What the IP layer learned; filled in by Ip::Input for the transport that gets the packet.
struct IpInfo {
  IpAddress source;
  IpAddress destination;
  uint16_t interface = 0;     // index the packet arrived on
  uint8_t protocol = 0;       // of the payload that data() now points at
  uint8_t ttl = 0;            // TTL or hop limit
  uint8_t traffic_class = 0;  // TOS or traffic class, ECN bits included
  uint32_t flow_label = 0;
  bool is_broadcast = false;  // destination is a broadcast address
  bool is_multicast = false;
  uint16_t source_port = 0;  // filled in by a transport that queues the packet
  uint16_t destination_port = 0;
  uint16_t header_length =
      0;  // network header's length; it starts at network_offset in slice 0's buffer
};

struct Packet {
  // User-provided, so that the slices are not written: what is beyond slice_count has no value.
  Packet() {}

  ListNode node;
  Instant arrival;
  uint8_t slice_count = 0;
  bool link_broadcast = false;  // link destination is broadcast or multicast
  bool looped = false;          // came by the internal loopback
  uint32_t length = 0;          // bytes in all slices from data() on
  Offload offload;
  uint32_t link_offset =
      0;  // absolute offsets into slices[0].buffer->bytes of the headers already pulled
  uint32_t network_offset = 0;
  IpInfo ip;
  // For the transport that queues the packet: the first payload byte's sequence number, and the
  // memory it is charged with.
  uint32_t sequence = 0;
  uint32_t memory = 0;
  Slice slices[kMaxSlices];  // last, so that a packet of one slice is a few cache lines

  uint8_t* data() const { return slices[0].data(); }
  uint32_t contiguous() const { return slices[0].length; }  // bytes that data() may be read for
  // Drops `n` bytes from the front; n <= contiguous().
  void Pull(uint32_t n) {
    slices[0].offset += n;
    slices[0].length -= n;
    length -= n;
  }
  // Undoes a Pull.
  void Push(uint32_t n) {
    slices[0].offset -= n;
    slices[0].length += n;
    length += n;
  }
  const uint8_t* network_header() const { return slices[0].buffer->bytes + network_offset; }
};

class PacketPool {
 public:
  void Initialize(Arena* arena, BufferPool* buffers, uint32_t limit);
  // An empty packet, or nullptr.
  Packet* Allocate();
  // A second packet over the same bytes (one more reference on every slice), or nullptr.
  Packet* Clone(const Packet& packet);
  // Gives back the packet and its references.
  void Release(Packet* packet);
  // Drops bytes beyond `length` (link padding), releasing slices that become empty.
  void Trim(Packet* packet, uint32_t length);
  // Copies up to `size` bytes starting at `offset` from data(); returns the number copied.
  static uint32_t Copy(const Packet& packet, uint32_t offset, void* to, uint32_t size);
  uint32_t live() const { return pool_.live(); }

 private:
  BufferPool* buffers_ = nullptr;
  Pool<Packet> pool_;
};

}  // namespace userstack
