#include "netstack/timer/timer.h"

#include <algorithm>
#include <bit>

namespace userstack {
namespace {

constexpr uint64_t kNoTick = ~uint64_t{0};

}  // namespace

void TimerWheel::Initialize(Instant now) {
  tick_ = static_cast<uint64_t>(std::max<int64_t>(now.nanoseconds, 0)) >> kTickBits;
}

// A timer belongs to the level of the highest 6-bit digit in which its tick differs from the
// current tick. The tick is rounded up, so that the slot is emptied only when the deadline has
// passed.
void TimerWheel::Place(Timer* timer) {
  const uint64_t ns = static_cast<uint64_t>(std::max<int64_t>(timer->deadline.nanoseconds, 0));
  const uint64_t tick = (ns + (uint64_t{1} << kTickBits) - 1) >> kTickBits;
  if (tick <= tick_) {
    timer->level = kDueLevel;
    due_.PushBack(timer);
    return;
  }
  const int level = (63 - std::countl_zero(tick ^ tick_)) / kSlotBits;
  const int slot = static_cast<int>(tick >> (level * kSlotBits)) & (kSlots - 1);
  timer->level = static_cast<uint8_t>(level);
  timer->slot = static_cast<uint8_t>(slot);
  slots_[level][slot].PushBack(timer);
  occupied_[level] |= uint64_t{1} << slot;
}

void TimerWheel::Arm(Timer* timer, Instant deadline) {
  Disarm(timer);
  if (deadline.is_never()) return;
  timer->deadline = deadline;
  Place(timer);
  ++armed_;
}

void TimerWheel::Disarm(Timer* timer) {
  if (!timer->armed()) return;
  timer->node.Unlink();
  --armed_;
  if (timer->level != kDueLevel && slots_[timer->level][timer->slot].empty()) {
    occupied_[timer->level] &= ~(uint64_t{1} << timer->slot);
  }
}

// The first tick at which some slot must be emptied: for level 0 the timers' own tick, above it the
// start of the slot.
uint64_t TimerWheel::NextOccupiedTick() const {
  for (int level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    // Slots of a level lie after the current digit: the level is chosen by the highest differing
    // digit.
    const int slot = std::countr_zero(occupied_[level]);
    const int shift = level * kSlotBits;
    const uint64_t above =
        shift + kSlotBits >= 64 ? 0 : (tick_ >> (shift + kSlotBits)) << (shift + kSlotBits);
    return above | (static_cast<uint64_t>(slot) << shift);
  }
  return kNoTick;
}

void TimerWheel::MoveTo(uint64_t tick) {
  tick_ = tick;
  // Every slot that starts at this tick is emptied, highest level first, so that timers sink to
  // their place.
  for (int level = kLevels - 1; level >= 0; --level) {
    const int shift = level * kSlotBits;
    if ((tick & ((uint64_t{1} << shift) - 1)) != 0) continue;
    const int slot = static_cast<int>(tick >> shift) & (kSlots - 1);
    if ((occupied_[level] >> slot & 1) == 0) continue;
    occupied_[level] &= ~(uint64_t{1} << slot);
    while (Timer* timer = slots_[level][slot].PopFront()) Place(timer);
  }
}

Timer* TimerWheel::PopExpired(Instant now) {
  const uint64_t now_tick =
      static_cast<uint64_t>(std::max<int64_t>(now.nanoseconds, 0)) >> kTickBits;
  while (due_.empty()) {
    const uint64_t next = NextOccupiedTick();
    if (next > now_tick) {  // kNoTick included
      // Digits must stay consistent with slots, so the tick moves freely only up to the next
      // occupied slot.
      if (now_tick > tick_) tick_ = now_tick;
      return nullptr;
    }
    MoveTo(next);
  }
  // A timer armed for the past, or for a deadline inside the current tick, waits here; it is due
  // once `now` reaches it.
  for (Timer* timer = due_.front(); timer != nullptr; timer = due_.Next(timer)) {
    if (timer->deadline > now) continue;
    timer->node.Unlink();
    --armed_;
    return timer;
  }
  return nullptr;
}

void TimerWheel::Mend() {
  for (int level = 0; level < kLevels; ++level) {
    for (Slot& slot : slots_[level]) due_.Append(slot);
    occupied_[level] = 0;
  }
  armed_ = 0;
  for (const Timer* t = due_.front(); t != nullptr; t = due_.Next(t)) ++armed_;
  for (size_t i = 0; i < armed_; ++i) Place(due_.PopFront());
}

Instant TimerWheel::NextDeadline() const {
  Instant earliest = Instant::Never();
  for (Timer* timer = due_.front(); timer != nullptr; timer = due_.Next(timer)) {
    earliest = std::min(earliest, timer->deadline);
  }
  if (!earliest.is_never()) return earliest;
  const uint64_t next = NextOccupiedTick();
  if (next == kNoTick) return Instant::Never();
  return {static_cast<int64_t>(next << kTickBits)};
}

}  // namespace userstack
