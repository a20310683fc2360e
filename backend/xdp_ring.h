// The rings of AF_XDP, and what every process of a stack must know of them: XdpShared, the first
// page of the memory that holds the frames.
//
// Frames have no owner to be kept in a list. A receive frame is in the fill ring, in the receive
// ring, or the kernel's; what is taken from the one goes into the other. A transmit frame is
// unused yet, in the transmit ring, the kernel's, or in the completion ring, which serves as the
// free list. The cursors of the rings are in memory shared by kernel and processes, so the only
// moments of doubt are those between two cursors that move together: an Intent is written before,
// and who comes after a death finishes what it says (FinishIntent).
#pragma once

#include <linux/if_xdp.h>

#include <cstddef>
#include <cstdint>

#include "netstack/base/ip_address.h"

namespace userstack::backend {

inline constexpr unsigned kMaxXdpQueues = 8;
inline constexpr uint32_t kXdpRingEntries = 2048;  // of each ring, and frames of each direction
inline constexpr uint32_t kFramesPerQueue = 2 * kXdpRingEntries;

// One ring as this process sees it. One side is the kernel's, the other ours.
template <typename Entry>
struct XdpRing {
  uint32_t* producer = nullptr;
  uint32_t* consumer = nullptr;
  uint32_t* flags = nullptr;
  Entry* entries = nullptr;
  void* mapping = nullptr;
  size_t mapped = 0;

  Entry& at(uint32_t cursor) const { return entries[cursor & (kXdpRingEntries - 1)]; }
  uint32_t LoadProducer() const { return __atomic_load_n(producer, __ATOMIC_ACQUIRE); }
  uint32_t LoadConsumer() const { return __atomic_load_n(consumer, __ATOMIC_ACQUIRE); }
  void StoreProducer(uint32_t v) const { __atomic_store_n(producer, v, __ATOMIC_RELEASE); }
  void StoreConsumer(uint32_t v) const { __atomic_store_n(consumer, v, __ATOMIC_RELEASE); }
  bool NeedsWakeup() const {
    return (__atomic_load_n(flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0;
  }
};

// Two cursors that move together, and by how much: `producer` from `produced`, the other one from
// `consumed` by `count`. When the producer has moved, the consumer must as well.
struct XdpIntent {
  uint32_t active = 0;
  uint32_t produced = 0;
  uint32_t consumed = 0;
  uint32_t count = 0;   // by how many `consumer` moves
  uint32_t unused = 0;  // transmit: XdpQueueShared::unused afterwards
};

struct XdpQueueShared {
  uint32_t id = 0;      // of the interface's queue
  uint32_t unused = 0;  // transmit frames from this index on have never been used
  uint32_t taken = 0;   // cursor of the receive ring: its frames up to here have been used
  XdpIntent receive;
  XdpIntent transmit;
};

struct XdpShared {
  static constexpr uint64_t kMagic = 0x7573786470303032;
  uint64_t magic = 0;
  char interface[16] = {};
  uint32_t queue_count = 0;
  uint32_t frame_bytes = 0;  // of one umem chunk
  uint32_t mtu = 0;
  MacAddress mac;
  MacAddress identifier;
  bool multi_buffer = false;
  bool partial_checksums = false;  // what arrives may lack its transport checksum (veth)
  bool headers_apart = false;      // a frame of several pieces has its headers in one of their own
  bool checksum_offload = false;   // the kernel is asked to finish transport checksums
  bool down = false;               // the interface was, when somebody last asked
  uint32_t metadata_bytes = 0;     // in front of what is sent, in every chunk
  XdpQueueShared queues[kMaxXdpQueues];
};

inline constexpr size_t kXdpSharedBytes = 4096;
static_assert(sizeof(XdpShared) <= kXdpSharedBytes);

// One queue: a socket with its four rings. Frames are addressed by their offset from `frames`.
struct XdpQueue {
  int descriptor = -1;
  XdpQueueShared* shared = nullptr;
  uint32_t first_receive = 0;   // index of the first receive frame in the umem
  uint32_t first_transmit = 0;  // and of the first transmit frame
  XdpRing<uint64_t> fill;
  XdpRing<uint64_t> completion;
  XdpRing<xdp_desc> receive;
  XdpRing<xdp_desc> transmit;

  // 0 or a positive errno.
  long Map();
  void Unmap();
  // Completes what a process that died in between had begun.
  void FinishIntents() const;
};

}  // namespace userstack::backend
