#include "netstack/ip/path_mtu.h"

#include <algorithm>

#include "netstack/wire/ipv6.h"

namespace userstack {

bool PathMtuTable::Initialize(Core* core) {
  core_ = core;
  pool_.Initialize(core->arena, kMaxEntries, 16);
  return table_.Initialize(core->arena, 256);
}

uint64_t PathMtuTable::Hash(const IpAddress& destination) const {
  return SipHash(core_->hash_key, destination.v6_bytes(), 16);
}

const PathMtuEntry* PathMtuTable::Find(const IpAddress& destination) const {
  if (table_.size() == 0) return nullptr;
  return table_.Find(Hash(destination),
                     [&](const PathMtuEntry& e) { return e.destination == destination; });
}

bool PathMtuTable::Update(const IpAddress& destination, uint32_t mtu, Instant now) {
  bool locked = false;
  if (destination.is_v4()) {
    if (mtu < wire::kIpv4MinimumMtu) return false;
    locked = mtu < kFloorV4;
    mtu = std::max(mtu, kFloorV4);
  } else if (mtu < wire::kIpv6MinimumMtu) {
    return false;  // RFC 8201 4
  }
  auto* entry = const_cast<PathMtuEntry*>(Find(destination));
  if (entry != nullptr && entry->mtu < mtu) return false;
  if (entry == nullptr) {
    if (pool_.live() >= pool_.limit()) Remove(lru_.back());
    entry = pool_.New();
    if (entry == nullptr) return false;
    entry->destination = destination;
    table_.Insert(entry, Hash(destination));
    lru_.PushFront(entry);
  }
  const bool changed = entry->mtu != mtu || entry->locked != (entry->locked || locked);
  entry->mtu = mtu;
  entry->locked = entry->locked || locked;
  core_->timers.Arm(&entry->timer, now + kLifetime);
  return changed;
}

void PathMtuTable::Remove(PathMtuEntry* entry) {
  core_->timers.Disarm(&entry->timer);
  table_.Erase(entry);
  entry->lru_node.Unlink();
  pool_.Delete(entry);
}

void PathMtuTable::Mend(Instant now) {
  table_.Clear();
  uint32_t count = 0;
  for (PathMtuEntry* e = lru_.front(); e != nullptr; e = lru_.Next(e)) {
    ++count;
    e->hash_node = {};
    table_.Insert(e, Hash(e->destination));
    if (!e->timer.armed()) core_->timers.Arm(&e->timer, now + kLifetime);
  }
  pool_.set_live(count);
}

void PathMtuTable::CheckInvariants() const {
  uint32_t count = 0;
  for (PathMtuEntry* e = lru_.front(); e != nullptr; e = lru_.Next(e)) {
    ++count;
    Check(e->hash_node.linked && e->timer.armed(), "path MTU: entry not linked");
  }
  Check(count == pool_.live() && count == table_.size(), "path MTU: count");
}

}  // namespace userstack
