#include "netstack/ip/address_table.h"

#include "netstack/base/check.h"

namespace userstack {

Address* AddressTable::Add(uint16_t interface, const Prefix& prefix) {
  for (unsigned i = 0; i < kMaxAddresses; ++i) {
    Address& slot = addresses_[i];
    if (slot.state != AddressState::kFree) continue;
    slot.prefix = prefix;
    slot.interface = interface;
    slot.state = AddressState::kPreferred;
    slot.autoconfigured = false;
    slot.probes_left = slot.announcements_left = 0;
    slot.preferred_until = slot.valid_until = Instant::Never();
    slot.defended = {};
    keys_[i] = prefix.address;
    if (i >= high_water_) high_water_ = i + 1;
    return &slot;
  }
  return nullptr;
}

void AddressTable::Remove(Address* address) {
  const auto i = static_cast<unsigned>(address - addresses_);
  address->state = AddressState::kFree;
  keys_[i] = {};
  while (high_water_ > 0 && addresses_[high_water_ - 1].state == AddressState::kFree) {
    --high_water_;
  }
}

Address* AddressTable::Find(const IpAddress& address) {
  for (unsigned i = 0; i < high_water_; ++i) {
    if (keys_[i] == address && addresses_[i].state != AddressState::kFree) return &addresses_[i];
  }
  return nullptr;
}

void AddressTable::CheckInvariants() const {
  for (unsigned i = 0; i < kMaxAddresses; ++i) {
    const Address& a = addresses_[i];
    const bool free = a.state == AddressState::kFree;
    Check(free || i < high_water_, "address: beyond the high water mark");
    Check(free || keys_[i] == a.prefix.address, "address: key differs");
    Check(!free || !a.timer.armed(), "address: timer of a free slot");
    for (unsigned j = 0; !free && j < i; ++j) {
      Check(addresses_[j].state == AddressState::kFree || !(keys_[i] == keys_[j]),
            "address: twice in the table");
    }
  }
}

}  // namespace userstack
