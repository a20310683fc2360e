#include "netstack/ip/membership.h"

#include "netstack/base/check.h"

namespace userstack {

GroupMember* Membership::Add(uint16_t interface, const IpAddress& group) {
  GroupMember* member = pool_.New();
  if (member == nullptr) return nullptr;
  member->interface = interface;
  member->group = group;
  groups_.PushBack(member);
  return member;
}

GroupMember* Membership::Find(uint16_t interface, const IpAddress& group) const {
  for (GroupMember* m = groups_.front(); m != nullptr; m = groups_.Next(m)) {
    if (m->interface == interface && m->group == group) return m;
  }
  return nullptr;
}

void Membership::Remove(GroupMember* member) {
  member->node.Unlink();
  pool_.Delete(member);
}

void Membership::Mend() {
  uint32_t count = 0;
  for (GroupMember* m = groups_.front(); m != nullptr; m = groups_.Next(m)) ++count;
  pool_.set_live(count);
}

void Membership::CheckInvariants() const {
  uint32_t count = 0;
  for (GroupMember* m = groups_.front(); m != nullptr; m = groups_.Next(m)) {
    ++count;
    Check(m->joins > 0 || m->reports_left > 0, "membership: nothing left to do");
    Check(Find(m->interface, m->group) == m, "membership: twice in the table");
  }
  Check(count == pool_.live(), "membership: count");
}

}  // namespace userstack
