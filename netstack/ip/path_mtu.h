// PathMtuTable: the largest packet that is known to reach a destination, where it is less than the
// interface's (RFC 1191, RFC 8201). Entries expire, so that a path that grew is found again.
//
// Owner: Ip; the stack's lock. Invariant: an entry is in the hash table, on the LRU list and has
// its timer armed exactly while it lives.
#pragma once

#include <cstdint>

#include "netstack/arena/hash_table.h"
#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/ip_address.h"
#include "netstack/packet/core.h"

namespace userstack {

struct PathMtuEntry {
  ListNode lru_node;
  HashNode<PathMtuEntry> hash_node;
  Timer timer{TimerKind::kPathMtu};
  IpAddress destination;
  uint32_t mtu = 0;
  bool locked = false;  // below the floor: fragments must be allowed (Linux: mtu lock)
};

class PathMtuTable {
 public:
  static constexpr uint32_t kMaxEntries = 1024;
  static constexpr Duration kLifetime = Duration::Seconds(600);  // RFC 1191 6.3
  // Linux: min_pmtu. Smaller reports are not believed for the size of segments, but DF goes.
  static constexpr uint32_t kFloorV4 = 552;

  [[nodiscard]] bool Initialize(Core* core);
  const PathMtuEntry* Find(const IpAddress& destination) const;
  // True when something changed. Only lowers, except by expiry.
  bool Update(const IpAddress& destination, uint32_t mtu, Instant now);
  void OnTimer(PathMtuEntry* entry) { Remove(entry); }
  // After a death in the middle of a change.
  void Mend(Instant now);
  void CheckInvariants() const;

 private:
  uint64_t Hash(const IpAddress& destination) const;
  void Remove(PathMtuEntry* entry);

  Core* core_ = nullptr;
  Pool<PathMtuEntry> pool_;
  HashTable<PathMtuEntry, &PathMtuEntry::hash_node> table_;
  List<PathMtuEntry, &PathMtuEntry::lru_node> lru_;  // front: newest
};

}  // namespace userstack
