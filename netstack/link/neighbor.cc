#include "netstack/link/neighbor.h"

namespace userstack {
namespace {

// Buckets for kMaxNeighbors entries.
constexpr size_t kBuckets = 1024;
// How many entries an eviction looks at before it takes the oldest whatever its state.
constexpr int kEvictionScan = 8;

}  // namespace

bool NeighborTable::Initialize(Core* core) {
  core_ = core;
  pool_.Initialize(core->arena, kMaxNeighbors, 16);
  return table_.Initialize(core->arena, kBuckets);
}

uint64_t NeighborTable::Hash(uint16_t interface, const IpAddress& address) const {
  uint8_t key[18];
  std::memcpy(key, address.v6_bytes(), 16);
  Store16(key + 16, interface);
  return SipHash(core_->hash_key, key, sizeof key);
}

Neighbor* NeighborTable::FindSlow(uint16_t interface, const IpAddress& address) {
  Neighbor* neighbor = table_.Find(Hash(interface, address), [&](const Neighbor& n) {
    return n.interface == interface && n.address == address;
  });
  if (neighbor == nullptr) return nullptr;
  neighbor->lru_node.Unlink();
  lru_.PushFront(neighbor);
  recent_[RecentSlot(address)] = neighbor;
  return neighbor;
}

// A flood of unknown senders must not push out neighbours in use: those get a second chance.
void NeighborTable::EvictOne() {
  core_->counters.Add(Counter::kNeighborTableOverflow);
  Neighbor* victim = lru_.back();
  for (int i = 0; i < kEvictionScan; ++i) {
    const bool in_use =
        victim->state != NeighborState::kStale || recent_[RecentSlot(victim->address)] == victim;
    if (!in_use) break;
    victim->lru_node.Unlink();
    lru_.PushFront(victim);
    victim = lru_.back();
  }
  Remove(victim);
}

Neighbor* NeighborTable::Create(uint16_t interface, const IpAddress& address) {
  if (pool_.live() >= pool_.limit()) EvictOne();
  Neighbor* neighbor = pool_.New();
  if (neighbor == nullptr) return nullptr;
  neighbor->interface = interface;
  neighbor->address = address;
  table_.Insert(neighbor, Hash(interface, address));
  lru_.PushFront(neighbor);
  return neighbor;
}

void NeighborTable::Remove(Neighbor* neighbor) {
  while (Frame* frame = TakePending(neighbor)) {
    core_->counters.Add(Counter::kNeighborQueueDrop);
    core_->frames.Release(frame);
  }
  core_->timers.Disarm(&neighbor->timer);
  Neighbor*& recent = recent_[RecentSlot(neighbor->address)];
  if (recent == neighbor) recent = nullptr;
  table_.Erase(neighbor);
  neighbor->lru_node.Unlink();
  pool_.Delete(neighbor);
}

void NeighborTable::RemoveAll(uint16_t interface) {
  for (Neighbor* n = lru_.front(); n != nullptr;) {
    Neighbor* next = lru_.Next(n);
    if (n->interface == interface) Remove(n);
    n = next;
  }
}

void NeighborTable::Used(Neighbor* neighbor, Instant now) {
  if (neighbor->state != NeighborState::kStale && neighbor->state != NeighborState::kReachable) {
    return;
  }
  neighbor->state = NeighborState::kDelay;
  core_->timers.Arm(&neighbor->timer, now + kDelayFirstProbe);
}

NeighborAction NeighborTable::Begin(Neighbor* neighbor, const Interface& interface, Instant now) {
  neighbor->state = NeighborState::kIncomplete;
  neighbor->probes = 1;
  core_->timers.Arm(&neighbor->timer, now + interface.retransmit_time);
  return NeighborAction::kAskAll;
}

void NeighborTable::StartStale(Neighbor* neighbor, const MacAddress& mac) {
  neighbor->mac = mac;
  neighbor->state = NeighborState::kStale;
}

void NeighborTable::Pend(Neighbor* neighbor, Frame* frame) {
  while (neighbor->pending_count > 0 &&
         (neighbor->pending_count >= kMaxPendingFrames ||
          neighbor->pending_bytes + frame->length() > kMaxPendingBytes)) {
    // Linux: the oldest goes, because the newest is what the program waits for.
    core_->counters.Add(Counter::kNeighborQueueDrop);
    core_->frames.Release(TakePending(neighbor));
  }
  neighbor->pending.PushBack(frame);
  ++neighbor->pending_count;
  neighbor->pending_bytes += frame->length();
}

Frame* NeighborTable::TakePending(Neighbor* neighbor) {
  Frame* frame = neighbor->pending.PopFront();
  if (frame == nullptr) return nullptr;
  --neighbor->pending_count;
  neighbor->pending_bytes -= frame->length();
  return frame;
}

NeighborAction NeighborTable::OnTimer(Neighbor* neighbor, const Interface& interface, Instant now) {
  switch (neighbor->state) {
    case NeighborState::kIncomplete:
      if (neighbor->probes >= kMaxMulticastSolicitations) return NeighborAction::kFail;
      ++neighbor->probes;
      core_->timers.Arm(&neighbor->timer, now + interface.retransmit_time);
      return NeighborAction::kAskAll;
    case NeighborState::kDelay:
      neighbor->state = NeighborState::kProbe;
      neighbor->probes = 1;
      core_->timers.Arm(&neighbor->timer, now + interface.retransmit_time);
      return NeighborAction::kAskOne;
    case NeighborState::kProbe:
      if (neighbor->probes >= kMaxUnicastSolicitations) return NeighborAction::kFail;
      ++neighbor->probes;
      core_->timers.Arm(&neighbor->timer, now + interface.retransmit_time);
      return NeighborAction::kAskOne;
    case NeighborState::kReachable:
    case NeighborState::kStale:
      return NeighborAction::kNone;
  }
  return NeighborAction::kNone;
}

void NeighborTable::SetReachable(Neighbor* neighbor, const Interface& interface, Instant now) {
  core_->timers.Disarm(&neighbor->timer);
  neighbor->state = NeighborState::kReachable;
  // Between half and one and a half times the base, so that neighbours do not probe in step
  // (RFC 4861 6.3.2).
  const int64_t base = interface.reachable_time.nanoseconds;
  const auto jitter = static_cast<int64_t>(core_->random.Below(static_cast<uint64_t>(base) + 1));
  neighbor->reachable_until = now + Duration{base / 2 + jitter};
}

void NeighborTable::SetStale(Neighbor* neighbor) {
  core_->timers.Disarm(&neighbor->timer);
  neighbor->state = NeighborState::kStale;
}

NeighborAction NeighborTable::OnHeard(Neighbor* neighbor, const MacAddress& mac) {
  if (neighbor->state == NeighborState::kIncomplete) {
    neighbor->mac = mac;
    SetStale(neighbor);
    return NeighborAction::kFlush;
  }
  if (neighbor->mac == mac) return NeighborAction::kNone;
  neighbor->mac = mac;
  SetStale(neighbor);
  return NeighborAction::kNone;
}

NeighborAction NeighborTable::OnAnswer(Neighbor* neighbor, const Interface& interface,
                                       const MacAddress* mac, bool solicited, bool override_flag,
                                       Instant now) {
  if (neighbor->state == NeighborState::kIncomplete) {
    if (mac == nullptr) return NeighborAction::kNone;
    neighbor->mac = *mac;
    if (solicited) {
      SetReachable(neighbor, interface, now);
    } else {
      SetStale(neighbor);
    }
    return NeighborAction::kFlush;
  }
  const bool differs = mac != nullptr && !(*mac == neighbor->mac);
  if (differs && !override_flag) {
    if (neighbor->state == NeighborState::kReachable) SetStale(neighbor);
    return NeighborAction::kNone;
  }
  if (differs) neighbor->mac = *mac;
  if (solicited) {
    SetReachable(neighbor, interface, now);
  } else if (differs) {
    SetStale(neighbor);
  }
  return NeighborAction::kNone;
}

void NeighborTable::Confirm(Neighbor* neighbor, const Interface& interface, Instant now) {
  if (neighbor->state == NeighborState::kIncomplete) return;
  // Called for every acknowledgment: nothing to do while much of the time is left.
  if (IsFresh(*neighbor, now + interface.reachable_time / 4)) return;
  SetReachable(neighbor, interface, now);
}

void NeighborTable::Mend(Instant now) {
  table_.Clear();
  for (Neighbor*& recent : recent_) recent = nullptr;
  uint32_t count = 0;
  for (Neighbor* n = lru_.front(); n != nullptr; n = lru_.Next(n)) {
    ++count;
    n->hash_node = {};
    table_.Insert(n, Hash(n->interface, n->address));
    while (n->state != NeighborState::kIncomplete && !n->pending.empty()) {
      core_->frames.Release(n->pending.PopFront());
    }
    n->pending_count = n->pending_bytes = 0;
    for (Frame* f = n->pending.front(); f != nullptr; f = n->pending.Next(f)) {
      ++n->pending_count;
      n->pending_bytes += f->length();
    }
    const bool waits = n->state == NeighborState::kIncomplete ||
                       n->state == NeighborState::kDelay || n->state == NeighborState::kProbe;
    if (waits && !n->timer.armed()) core_->timers.Arm(&n->timer, now + Duration::Seconds(1));
    if (!waits) core_->timers.Disarm(&n->timer);
  }
  pool_.set_live(count);
}

void NeighborTable::CheckInvariants() const {
  uint32_t count = 0;
  for (Neighbor* n = lru_.front(); n != nullptr; n = lru_.Next(n)) {
    ++count;
    Check(n->hash_node.linked, "neighbour: not in the table");
    uint32_t frames = 0;
    uint32_t bytes = 0;
    for (Frame* f = n->pending.front(); f != nullptr; f = n->pending.Next(f)) {
      ++frames;
      bytes += f->length();
    }
    Check(frames == n->pending_count && bytes == n->pending_bytes, "neighbour: pending count");
    Check(frames == 0 || n->state == NeighborState::kIncomplete, "neighbour: pending while known");
    Check(frames <= kMaxPendingFrames, "neighbour: too many pending");
    const bool waits = n->state == NeighborState::kIncomplete ||
                       n->state == NeighborState::kDelay || n->state == NeighborState::kProbe;
    Check(waits == n->timer.armed(), "neighbour: timer");
  }
  Check(count == pool_.live() && count == table_.size(), "neighbour: table size");
}

}  // namespace userstack
