// RouteTable: where to send what, by longest prefix and then lowest metric. Small and sorted, so
// that the first match is the answer; connections keep the result (Route), so that it is asked
// rarely.
//
// Owner: Ip; the stack's lock. Invariant: each list is sorted by falling prefix length, then rising
// metric.
#pragma once

#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/ip_address.h"
#include "netstack/base/status.h"
#include "netstack/timer/timer.h"

namespace userstack {

struct RouteEntry {
  ListNode node;
  Prefix destination;
  IpAddress gateway;  // unspecified: on-link
  uint16_t interface = 0;
  uint32_t metric = 0;
  bool advertised = false;  // by a router advertisement
  bool connected = false;   // follows from an address
  Timer timer{TimerKind::kRouterLifetime};

  bool on_link() const { return gateway.is_unspecified(); }
};

class RouteTable {
 public:
  static constexpr uint32_t kMaxRoutes = 256;

  void Initialize(Arena* arena) { pool_.Initialize(arena, kMaxRoutes, 16); }
  // EEXIST (same destination, gateway and interface), ENOBUFS.
  Result<RouteEntry*> Add(const Prefix& destination, const IpAddress& gateway, uint16_t interface,
                          uint32_t metric);
  void Remove(RouteEntry* entry);
  RouteEntry* FindExact(const Prefix& destination, const IpAddress& gateway,
                        uint16_t interface) const;  // interface 0: any
  // The best entry for `destination`; `interface` 0: any.
  const RouteEntry* Match(const IpAddress& destination, uint16_t interface) const;
  // Calls visit(RouteEntry*); `visit` may remove the entry.
  template <typename Visit>
  void ForEach(Visit visit) {
    for (List<RouteEntry, &RouteEntry::node>& list : lists_) {
      for (RouteEntry* e = list.front(); e != nullptr;) {
        RouteEntry* next = list.Next(e);
        visit(e);
        e = next;
      }
    }
  }
  // After a death in the middle of a change.
  void Mend();
  void CheckInvariants() const;

 private:
  List<RouteEntry, &RouteEntry::node>& ListOf(const IpAddress& address) {
    return lists_[static_cast<int>(address.family())];
  }
  const List<RouteEntry, &RouteEntry::node>& ListOf(const IpAddress& address) const {
    return lists_[static_cast<int>(address.family())];
  }

  Pool<RouteEntry> pool_;
  List<RouteEntry, &RouteEntry::node> lists_[2];
};

}  // namespace userstack
