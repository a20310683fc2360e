// Membership: the multicast groups that the stack listens to, by interface, with what IGMP and MLD
// have still to say of them.
//
// Owner: Ip; the stack's lock. Invariants: 1. A group is on the list exactly while it is joined or
// has leave reports to send. 2. No (interface, group) pair is on it twice.
#pragma once

#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/ip_address.h"
#include "netstack/timer/timer.h"

namespace userstack {

struct GroupMember {
  ListNode node;
  IpAddress group;
  uint16_t interface = 0;
  uint32_t joins = 0;           // sockets and the stack itself; 0: only leave reports are left
  uint8_t reports_left = 0;     // unsolicited: join or leave
  bool answer_pending = false;  // the timer answers a query
  bool silent = false;          // never reported: 224.0.0.1, ff02::1, interface-local scope
  Timer timer{TimerKind::kMulticastReport};
};

class Membership {
 public:
  static constexpr uint32_t kMaxGroups = 512;

  void Initialize(Arena* arena) { pool_.Initialize(arena, kMaxGroups, 16); }
  GroupMember* Add(uint16_t interface, const IpAddress& group);  // nullptr: no room
  GroupMember* Find(uint16_t interface, const IpAddress& group) const;
  void Remove(GroupMember* member);
  bool Contains(uint16_t interface, const IpAddress& group) const {
    const GroupMember* member = Find(interface, group);
    return member != nullptr && member->joins > 0;
  }
  GroupMember* first() const { return groups_.front(); }
  GroupMember* Next(const GroupMember* member) const { return groups_.Next(member); }
  // After a death in the middle of a change.
  void Mend();
  void CheckInvariants() const;

 private:
  Pool<GroupMember> pool_;
  List<GroupMember, &GroupMember::node> groups_;
};

}  // namespace userstack
