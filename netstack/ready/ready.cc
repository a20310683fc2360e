#include "netstack/ready/ready.h"

namespace userstack {
namespace {

EventMask Wanted(const Watch& watch) {
  return watch.interest == 0 ? 0 : watch.interest | kEventsAlways;
}

// Wakes one waiter: epoll_wait sleepers are exclusive (Linux: ep_poll adds itself with
// __add_wait_queue_exclusive).
void WakeOne(WatchSet& set, WakeList& wakes) {
  Waiter* waiter = set.waiters.PopFront();
  if (waiter != nullptr) wakes.Push(waiter);
}

constexpr EventMask kSetReadable = kEventIn | kEventReadNormal;

void UpdateNested(WatchSet& set, EventMask edges, WakeList& wakes) {
  const EventMask level = set.ready.empty() ? 0 : kSetReadable;
  if (level != set.pollable.level || (edges != 0 && level != 0)) {
    Publish(set.pollable, level, edges & level, wakes);
  }
}

// What is true of the watch's interest now. A set is asked, because entries of its ready list may
// have gone stale (Linux: __ep_eventpoll_poll).
EventMask Happened(const Watch& watch, WakeList& wakes) {
  EventMask level = watch.target->level;
  if (WatchSet* inner = watch.target->set; inner != nullptr) {
    level = HasReady(*inner, wakes) ? kSetReadable : 0;
  }
  return level & Wanted(watch);
}

// True when somebody sleeps on the watch's set, or on a set around it.
bool HasSleeper(const WatchSet& set) {
  if (!set.waiters.empty()) return true;
  for (Watch* outer = set.pollable.watches.front(); outer != nullptr;
       outer = set.pollable.watches.Next(outer)) {
    if (HasSleeper(*outer->set)) return true;
  }
  return false;
}

void QueueReady(Watch& watch, WakeList& wakes) {
  WatchSet& set = *watch.set;
  if (!watch.ready_node.linked()) set.ready.PushBack(&watch);
  WakeOne(set, wakes);
  UpdateNested(set, kEventIn, wakes);
}

}  // namespace

void Publish(Pollable& pollable, EventMask level, EventMask edges, WakeList& wakes) {
  edges |= level & ~pollable.level;
  pollable.level = level;
  if (edges == 0) return;
  bool exclusive_woken = false;
  for (Watch* watch = pollable.watches.front(); watch != nullptr;) {
    Watch* next = pollable.watches.Next(watch);
    if ((Wanted(*watch) & edges) != 0) {
      const bool exclusive = (watch->flags & kWatchExclusive) != 0;
      if (!exclusive) {
        QueueReady(*watch, wakes);
      } else if (!exclusive_woken) {
        // Linux: __wake_up_common stops after one exclusive waiter that was really woken, because
        // otherwise a set without a sleeper would swallow the event; the others keep it on their
        // ready list for the next harvest.
        exclusive_woken = HasSleeper(*watch->set);
        QueueReady(*watch, wakes);
      }
    }
    watch = next;
  }
}

void Attach(Watch& watch, WakeList& wakes) {
  watch.set->all.PushBack(&watch);
  ++watch.set->count;
  // Linux: add_wait_queue puts the newest first, add_wait_queue_exclusive last; events reach the
  // watches in that order, and exclusive ones only after all others.
  if ((watch.flags & kWatchExclusive) != 0) {
    watch.target->watches.PushBack(&watch);
  } else {
    watch.target->watches.PushFront(&watch);
  }
  if (Happened(watch, wakes) != 0) QueueReady(watch, wakes);
}

// Linux: ep_modify wakes nobody for an item that is on the ready list already.
void Rearm(Watch& watch, WakeList& wakes) {
  if (Happened(watch, wakes) != 0 && !watch.ready_node.linked()) QueueReady(watch, wakes);
}

namespace {

// A call that was woken in place of others ends without having taken what it was woken for: then
// the next of them is to see it.
void PassOn(const Watch& watch, WakeList& wakes) {
  const bool of_call = watch.descriptor < 0 && (watch.flags & kWatchExclusive) != 0;
  if (!of_call || !watch.ready_node.linked()) return;
  List<Watch, &Watch::target_node>& others = watch.target->watches;
  for (Watch* other = others.front(); other != nullptr; other = others.Next(other)) {
    const bool waits = (other->flags & kWatchExclusive) != 0 && HasSleeper(*other->set);
    if (other == &watch || !waits || Happened(*other, wakes) == 0) continue;
    QueueReady(*other, wakes);
    return;
  }
}

}  // namespace

void Detach(Watch& watch, WakeList& wakes) {
  if (!watch.set_node.linked()) return;
  PassOn(watch, wakes);
  watch.target_node.Unlink();
  watch.ready_node.Unlink();
  watch.set_node.Unlink();
  --watch.set->count;
  UpdateNested(*watch.set, 0, wakes);
}

void BeginHarvest(WatchSet& set) {
  if (++set.pass == 0) set.pass = 1;
}

Watch* Harvest(WatchSet& set, EventMask* events, WakeList& wakes) {
  while (Watch* watch = set.ready.front()) {
    if (set.pass != 0 && watch->pass == set.pass) return nullptr;
    watch->ready_node.Unlink();
    *events = Happened(*watch, wakes);
    if (*events == 0) continue;
    if ((watch->flags & kWatchOneShot) != 0) {
      watch->interest = 0;
    } else if ((watch->flags & kWatchEdge) == 0) {
      set.ready.PushBack(watch);
      watch->pass = set.pass;
    }
    UpdateNested(set, 0, wakes);
    return watch;
  }
  UpdateNested(set, 0, wakes);
  return nullptr;
}

bool HasReady(WatchSet& set, WakeList& wakes) {
  while (Watch* watch = set.ready.front()) {
    if (Happened(*watch, wakes) != 0) return true;
    watch->ready_node.Unlink();
  }
  UpdateNested(set, 0, wakes);
  return false;
}

}  // namespace userstack
