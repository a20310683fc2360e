// Timer and TimerWheel: deadlines as data. A Timer is embedded in its owner and carries a kind;
// when it is due, the stack takes it from the wheel and one exhaustive switch on the kind finds the
// owner. There are no callbacks.
//
// The wheel is hierarchical: 8 levels of 64 slots, the lowest slot 2^16 ns (65.5 us) wide. Arm and
// Disarm are O(1). Invariants: 1. An armed timer is on exactly one list. 2. tick_ never goes
// back. 3. A timer is never popped before its deadline, and is popped by the first PopExpired whose
// `now` is one slot past it at the latest.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/base/time.h"

namespace userstack {

enum class TimerKind : uint8_t {
  kTcpRetransmit,  // RTO, zero-window probe, SYN and SYN-ACK retransmission
  kTcpDelayedAck,
  kTcpKeepAlive,
  kTcpTimeWait,  // TIME_WAIT, and FIN_WAIT_2 of an orphan
  kTcpPacing,
  kTcpReorder,   // RACK reordering timer, tail loss probe
  kTcpSynQueue,  // per listener
  kNeighbor,     // ARP and NUD, per neighbour entry
  kDuplicateAddress,
  kRouterSolicit,
  kRouterLifetime,
  kReassembly,
  kMulticastReport,  // IGMP and MLD
  kPathMtu,
};

struct Timer {
  explicit Timer(TimerKind k) : kind(k) {}
  ListNode node;
  Instant deadline = Instant::Never();
  TimerKind kind;
  uint8_t level = 0;  // where in the wheel; kept by TimerWheel
  uint8_t slot = 0;
  bool armed() const { return node.linked(); }
};

class TimerWheel {
 public:
  void Initialize(Instant now);

  // Arms or re-arms. A deadline in the past is due at the next PopExpired; Never() disarms.
  void Arm(Timer* timer, Instant deadline);
  void Disarm(Timer* timer);

  // A timer whose deadline is at or before `now`, disarmed; nullptr when there is none left.
  Timer* PopExpired(Instant now);

  // When to call PopExpired next: never later than the earliest deadline plus one slot; Never()
  // when nothing is armed.
  Instant NextDeadline() const;

  // After a death in the middle of a change: places anew what is on any list. Who should be armed
  // and is not, its owner knows.
  void Mend();

  size_t armed_count() const { return armed_; }

 private:
  static constexpr int kLevels = 8;
  static constexpr int kSlotBits = 6;
  static constexpr int kSlots = 1 << kSlotBits;
  static constexpr int kTickBits = 16;
  static constexpr uint8_t kDueLevel = kLevels;
  using Slot = List<Timer, &Timer::node>;

  void Place(Timer* timer);
  uint64_t NextOccupiedTick() const;
  void MoveTo(uint64_t tick);

  uint64_t tick_ = 0;  // every timer in a tick before this one is due
  size_t armed_ = 0;
  uint64_t occupied_[kLevels] = {};
  Slot slots_[kLevels][kSlots];
  Slot due_;
};

}  // namespace userstack
