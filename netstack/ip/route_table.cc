#include "netstack/ip/route_table.h"

#include "netstack/base/check.h"

namespace userstack {
namespace {

bool GoesBefore(const RouteEntry& a, const RouteEntry& b) {
  if (a.destination.length != b.destination.length) {
    return a.destination.length > b.destination.length;
  }
  return a.metric < b.metric;
}

}  // namespace

Result<RouteEntry*> RouteTable::Add(const Prefix& destination, const IpAddress& gateway,
                                    uint16_t interface, uint32_t metric) {
  if (FindExact(destination, gateway, interface) != nullptr) return Status(EEXIST);
  RouteEntry* entry = pool_.New();
  if (entry == nullptr) return Status(ENOBUFS);
  entry->destination = destination;
  entry->gateway = gateway;
  entry->interface = interface;
  entry->metric = metric;
  auto& list = ListOf(destination.address);
  RouteEntry* position = list.front();
  while (position != nullptr && !GoesBefore(*entry, *position)) position = list.Next(position);
  if (position != nullptr) {
    list.InsertBefore(position, entry);
  } else {
    list.PushBack(entry);
  }
  return entry;
}

void RouteTable::Remove(RouteEntry* entry) {
  entry->node.Unlink();
  pool_.Delete(entry);
}

RouteEntry* RouteTable::FindExact(const Prefix& destination, const IpAddress& gateway,
                                  uint16_t interface) const {
  const auto& list = ListOf(destination.address);
  for (RouteEntry* e = list.front(); e != nullptr; e = list.Next(e)) {
    const bool same_gateway = e->gateway == gateway || (e->on_link() && gateway.is_unspecified());
    if (same_gateway && e->destination.length == destination.length &&
        e->destination.Contains(destination.address) &&
        (interface == 0 || e->interface == interface)) {
      return e;
    }
  }
  return nullptr;
}

const RouteEntry* RouteTable::Match(const IpAddress& destination, uint16_t interface) const {
  const auto& list = ListOf(destination);
  for (const RouteEntry* e = list.front(); e != nullptr; e = list.Next(e)) {
    if (interface != 0 && e->interface != interface) continue;
    if (e->destination.Contains(destination)) return e;
  }
  return nullptr;
}

void RouteTable::Mend() {
  uint32_t count = 0;
  for (const auto& list : lists_) {
    for (const RouteEntry* e = list.front(); e != nullptr; e = list.Next(e)) ++count;
  }
  pool_.set_live(count);
}

void RouteTable::CheckInvariants() const {
  uint32_t count = 0;
  for (const auto& list : lists_) {
    for (const RouteEntry* e = list.front(); e != nullptr; e = list.Next(e)) {
      ++count;
      const RouteEntry* next = list.Next(e);
      Check(next == nullptr || !GoesBefore(*next, *e), "route: order");
    }
  }
  Check(count == pool_.live(), "route: count");
}

}  // namespace userstack
