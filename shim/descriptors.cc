// Descriptors: the reference counting of open file descriptions over the processes' tables.
// Owner: the stack's lock, except IsOurs and IsGenuine.
#include "shim/descriptors.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "netstack/base/check.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/spares.h"

namespace userstack::shim {

constinit Slot* g_slots = nullptr;

namespace {

// Takes every watch off `target`; epoll items go with it, other watches are their call's.
void DropWatchesOf(Pollable& target) {
  Core& core = g_shared->stack->core();
  while (Watch* watch = target.watches.front()) {
    Detach(*watch, core.wakes);
    if (watch->descriptor >= 0) g_shared->watches.Delete(watch);
  }
}

void DestroyEpoll(WatchSet* set) {
  Core& core = g_shared->stack->core();
  DropWatchesOf(set->pollable);
  while (Watch* watch = set->all.front()) {
    Detach(*watch, core.wakes);
    g_shared->watches.Delete(watch);
  }
  while (Waiter* waiter = set->waiters.PopFront()) {
    waiter->set = nullptr;
    core.wakes.Push(waiter);
  }
  g_shared->watch_sets.Delete(set);
}

void Destroy(Description* description, Instant now) {
  // Taken out before it is destroyed: who dies in between loses it, and nobody destroys it twice.
  Socket* const socket = std::exchange(description->socket, nullptr);
  WatchSet* const epoll = std::exchange(description->epoll, nullptr);
  KeepStoreOrder();
  if (socket != nullptr) {
    DropWatchesOf(socket->pollable);
    g_shared->stack->DestroySocket(socket, now);
  }
  if (epoll != nullptr) DestroyEpoll(epoll);
  ReleaseSpare(*description);
  description->flight_node.Unlink();
  description->node.Unlink();
  g_shared->descriptions.Delete(description);
}

void DestroyIfUnused(Description* description, Instant now) {
  if (description->references + description->in_flight + description->pins != 0) return;
  Destroy(description, now);
}

void DropSlotReference(Description* description, Instant now) {
  Check(description->references > 0, "descriptors: reference dropped twice");
  --description->references;
  DestroyIfUnused(description, now);
}

Description* New(Description::Kind kind, uint64_t inode) {
  Description* description = g_shared->descriptions.New();
  if (description == nullptr) return nullptr;
  description->kind = kind;
  description->inode = inode;
  g_shared->all_descriptions.PushBack(description);
  return description;
}

}  // namespace

Description* Lookup(int fd) {
  return IsOurs(fd) ? g_slots[fd].description.load(std::memory_order_relaxed) : nullptr;
}

Description* NewDescription(Socket* socket, uint64_t inode) {
  Description* description = New(Description::Kind::kSocket, inode);
  if (description != nullptr) description->socket = socket;
  return description;
}

Description* NewDescription(WatchSet* epoll, uint64_t inode) {
  Description* description = New(Description::Kind::kEpoll, inode);
  if (description != nullptr) description->epoll = epoll;
  return description;
}

void Discard(Description* description, Instant now) { Destroy(description, now); }

void Install(Process& process, int fd, Description* description) {
  Check(fd >= 0 && static_cast<unsigned>(fd) < kMaxDescriptors, "descriptors: number out of range");
  const auto number = static_cast<unsigned>(fd);
  ++description->references;
  if (&process == g_local.process) NotePlaced(*description);
  Description* old = process.slots[number].description.exchange(description);
  process.slot_limit = std::max(process.slot_limit, number + 1);
  if (old == nullptr) return;
  // The kernel gave the number out again, so it was closed where we do not see it (inside libc).
  --old->references;
  DestroyIfUnused(old, MonotonicNow());
}

void Remove(Process& process, int fd, Instant now) {
  if (static_cast<unsigned>(fd) >= kMaxDescriptors) return;
  Description* description = process.slots[fd].description.exchange(nullptr);
  if (description == nullptr) return;
  while (process.slot_limit > 0 &&
         process.slots[process.slot_limit - 1].description.load() == nullptr) {
    --process.slot_limit;
  }
  DropSlotReference(description, now);
}

void CopyAll(const Process& from, Process& to) {
  for (unsigned fd = 0; fd < from.slot_limit; ++fd) {
    Description* description = from.slots[fd].description.load(std::memory_order_relaxed);
    if (description == nullptr) continue;
    to.slots[fd].description.store(description);
    ++description->references;
    description->unfit = true;
  }
  to.slot_limit = from.slot_limit;
}

void RemoveAll(Process& process, Instant now) {
  for (unsigned fd = 0; fd < process.slot_limit; ++fd) {
    Description* description = process.slots[fd].description.exchange(nullptr);
    if (description != nullptr) DropSlotReference(description, now);
  }
  process.slot_limit = 0;
}

void Pin(Description* description) {
  Sleeper& sleeper = CurrentSleeper();
  Check(sleeper.pinned_count < kMaxPins, "descriptors: too many pins");
  sleeper.pinned[sleeper.pinned_count++] = description;
  ++description->pins;
}

void Unpin(Description* description, Instant now) { UnpinFrom(CurrentSleeper(), description, now); }

void UnpinFrom(Sleeper& sleeper, Description* description, Instant now) {
  for (unsigned i = sleeper.pinned_count; i-- > 0;) {
    if (sleeper.pinned[i] != description) continue;
    std::copy(sleeper.pinned + i + 1, sleeper.pinned + sleeper.pinned_count, sleeper.pinned + i);
    --sleeper.pinned_count;
    --description->pins;
    DestroyIfUnused(description, now);
    return;
  }
  Check(false, "descriptors: unpin without pin");
}

void RecountReferences(Instant now) {
  for (Description* d = g_shared->all_descriptions.front(); d != nullptr;
       d = g_shared->all_descriptions.Next(d)) {
    d->references = d->pins = 0;
  }
  for (const Process* process : g_shared->processes) {
    if (process == nullptr || process->pid == 0) continue;
    for (const Slot& slot : process->slots) {
      if (Description* d = slot.description.load(std::memory_order_relaxed)) ++d->references;
    }
  }
  for (Sleeper* s = g_shared->all_sleepers.front(); s != nullptr;
       s = g_shared->all_sleepers.Next(s)) {
    for (unsigned i = 0; i < s->pinned_count; ++i) ++s->pinned[i]->pins;
  }
  for (Description* d = g_shared->all_descriptions.front(); d != nullptr;) {
    Description* next = g_shared->all_descriptions.Next(d);
    DestroyIfUnused(d, now);
    d = next;
  }
}

void AddReference(Description* description) {
  description->unfit = true;
  if (++description->in_flight == 1) g_shared->in_flight.PushBack(description);
}

void DropReference(Description* description, Instant now) {
  Check(description->in_flight > 0, "descriptors: nothing is in flight");
  if (--description->in_flight == 0) description->flight_node.Unlink();
  DestroyIfUnused(description, now);
}

void DropFlight(Description* description, Instant now) {
  description->in_flight = 0;
  description->flight_node.Unlink();
  DestroyIfUnused(description, now);
}

Description* FindByInode(uint64_t inode) {
  for (Description* d = g_shared->all_descriptions.front(); d != nullptr;
       d = g_shared->all_descriptions.Next(d)) {
    if (d->inode == inode) return d;
  }
  return nullptr;
}

bool IsGenuine(int fd, const Description& description) {
  struct stat status;
  if (RawSyscall(SYS_fstat, fd, Word(&status)) != 0) return false;
  return status.st_ino == description.inode;
}

}  // namespace userstack::shim
