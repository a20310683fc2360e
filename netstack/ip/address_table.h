// AddressTable: the addresses of the stack, with the states of duplicate address detection. Plain
// records in a small array: the look-up that every packet makes scans one cache line or two.
//
// Owner: Ip; the stack's lock. Invariants: 1. keys_[i] equals addresses_[i].prefix.address for
// i < high_water_, and is "::" where the slot is free. 2. No address is in the table twice.
#pragma once

#include <cstdint>

#include "netstack/base/ip_address.h"
#include "netstack/base/time.h"
#include "netstack/timer/timer.h"

namespace userstack {

inline constexpr unsigned kMaxAddresses = 32;

enum class AddressState : uint8_t {
  kFree,        // the slot is unused
  kOptimistic,  // usable while duplicate address detection runs (RFC 4429; IPv4: RFC 5227 2.1.1)
  kPreferred,
  kDeprecated,  // preferred lifetime over: not chosen for new conversations
  kDuplicate,   // somebody else has it: not ours
};

struct Address {
  Prefix prefix;
  uint16_t interface = 0;
  AddressState state = AddressState::kFree;
  bool autoconfigured = false;                // by a router advertisement
  uint8_t probes_left = 0;                    // duplicate address detection
  uint8_t announcements_left = 0;             // gratuitous ARP, unsolicited advertisement
  Timer timer{TimerKind::kDuplicateAddress};  // probes, announcements, then lifetimes
  Instant preferred_until = Instant::Never();
  Instant valid_until = Instant::Never();
  Instant defended;  // when a conflict was last answered (RFC 5227 2.4)

  bool usable() const { return state != AddressState::kFree && state != AddressState::kDuplicate; }
};

class AddressTable {
 public:
  // nullptr when the table is full. The caller has looked for duplicates.
  Address* Add(uint16_t interface, const Prefix& prefix);
  void Remove(Address* address);
  // Any state but free; nullptr when it is not in the table.
  Address* Find(const IpAddress& address);
  const Address* Find(const IpAddress& address) const {
    return const_cast<AddressTable*>(this)->Find(address);
  }
  // The slots, free ones included: i < size().
  unsigned size() const { return high_water_; }
  Address& at(unsigned i) { return addresses_[i]; }
  const Address& at(unsigned i) const { return addresses_[i]; }
  void CheckInvariants() const;

 private:
  unsigned high_water_ = 0;
  IpAddress keys_[kMaxAddresses];
  Address addresses_[kMaxAddresses];
};

}  // namespace userstack
