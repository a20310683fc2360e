// NeighborTable: who has which link address, for IPv4 (ARP) and IPv6 (NDP) alike, with the states
// of neighbour unreachability detection (RFC 4861 7.3). It decides and remembers; asking on the
// wire is its caller's business, told by NeighborAction.
//
// Owner: Ip; the stack's lock.
// Invariants: 1. An entry is in the hash table and on the LRU list exactly while it lives. 2. Only
// an incomplete entry holds pending frames, within the limits below. 3. The timer is armed in
// states incomplete, delay and probe, and in no other. 4. recent_ points at living entries only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/hash_table.h"
#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/ip_address.h"
#include "netstack/base/time.h"
#include "netstack/link/interface.h"
#include "netstack/packet/core.h"

namespace userstack {

enum class NeighborState : uint8_t {
  kIncomplete,  // asked, no answer yet
  kReachable,   // confirmed until reachable_until
  kStale,       // link address known, not recently confirmed
  kDelay,       // used while stale; waits for a hint from above
  kProbe,       // asked by unicast
};

struct Neighbor {
  ListNode lru_node;
  HashNode<Neighbor> hash_node;
  Timer timer{TimerKind::kNeighbor};
  IpAddress address;
  MacAddress mac;
  uint16_t interface = 0;
  NeighborState state = NeighborState::kIncomplete;
  bool is_router = false;
  uint8_t probes = 0;         // solicitations sent in this state
  uint8_t pending_count = 0;  // frames with network header, without link header
  uint32_t pending_bytes = 0;
  Instant reachable_until;  // kReachable
  List<Frame, &Frame::node> pending;
};

// What the caller must do.
enum class NeighborAction : uint8_t {
  kNone,
  kAskAll,  // broadcast ARP request, or solicitation to the solicited-node group
  kAskOne,  // the same to neighbor->mac
  kFlush,   // resolved: send the pending frames (TakePending)
  kFail,    // no answer: report the pending frames (TakePending), then Remove
};

class NeighborTable {
 public:
  static constexpr uint32_t kMaxNeighbors = 1024;
  static constexpr uint32_t kMaxPendingFrames = 64;
  static constexpr uint32_t kMaxPendingBytes = 212992;      // Linux: unres_qlen_bytes
  static constexpr uint8_t kMaxMulticastSolicitations = 3;  // RFC 4861 10; Linux: mcast_solicit
  static constexpr uint8_t kMaxUnicastSolicitations = 3;
  static constexpr Duration kDelayFirstProbe = Duration::Seconds(5);

  [[nodiscard]] bool Initialize(Core* core);

  Neighbor* Find(uint16_t interface, const IpAddress& address) {
    Neighbor* recent = recent_[RecentSlot(address)];
    if (recent != nullptr && recent->interface == interface && recent->address == address) {
      return recent;
    }
    return FindSlow(interface, address);
  }
  // A new entry without state; evicts the least recently used when the table is full. nullptr only
  // when the arena is exhausted. Pending frames of an evicted entry are dropped.
  Neighbor* Create(uint16_t interface, const IpAddress& address);
  // Drops pending frames and the entry.
  void Remove(Neighbor* neighbor);
  void RemoveAll(uint16_t interface);

  // True when `mac` may be used now. Inline part of the fast path.
  static bool IsFresh(const Neighbor& neighbor, Instant now) {
    return neighbor.state == NeighborState::kReachable && now < neighbor.reachable_until;
  }
  // A frame is about to be sent to a known neighbour that is not fresh: moves it to delay.
  void Used(Neighbor* neighbor, Instant now);
  // Begins to resolve a new entry.
  NeighborAction Begin(Neighbor* neighbor, const Interface& interface, Instant now);
  // A new entry whose link address came without being asked for.
  void StartStale(Neighbor* neighbor, const MacAddress& mac);
  // Keeps a frame until the entry is resolved; the oldest frames make room (counted).
  void Pend(Neighbor* neighbor, Frame* frame);
  Frame* TakePending(Neighbor* neighbor);

  NeighborAction OnTimer(Neighbor* neighbor, const Interface& interface, Instant now);
  // Someone spoke of its own link address without being asked (ARP request, NS, RS, RA).
  NeighborAction OnHeard(Neighbor* neighbor, const MacAddress& mac);
  // An answer: ARP reply, or neighbour advertisement with its flags (RFC 4861 7.2.5).
  NeighborAction OnAnswer(Neighbor* neighbor, const Interface& interface, const MacAddress* mac,
                          bool solicited, bool override_flag, Instant now);
  // A transport saw its data acknowledged: the path works (RFC 4861 7.3.1).
  void Confirm(Neighbor* neighbor, const Interface& interface, Instant now);

  uint32_t size() const { return pool_.live(); }
  // After a death in the middle of a change.
  void Mend(Instant now);
  void CheckInvariants() const;

 private:
  static constexpr unsigned kRecent = 64;
  static unsigned RecentSlot(const IpAddress& address) {
    const uint64_t low = address.low();
    return static_cast<unsigned>(low ^ low >> 8 ^ low >> 32) % kRecent;
  }
  void EvictOne();
  Neighbor* FindSlow(uint16_t interface, const IpAddress& address);
  uint64_t Hash(uint16_t interface, const IpAddress& address) const;
  void SetReachable(Neighbor* neighbor, const Interface& interface, Instant now);
  void SetStale(Neighbor* neighbor);

  Core* core_ = nullptr;
  Pool<Neighbor> pool_;
  HashTable<Neighbor, &Neighbor::hash_node> table_;
  List<Neighbor, &Neighbor::lru_node> lru_;  // front: most recently used
  Neighbor* recent_[kRecent] = {};
};

}  // namespace userstack
