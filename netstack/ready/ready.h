// Readiness: what poll, select and epoll are made of.
//   Pollable: a thing with a level of ready events (a socket, or a WatchSet inside another).
//   Watch:    an interest in one Pollable.
//   WatchSet: a collection of watches with a ready list (an epoll instance, or one poll call).
//   Waiter:   a thread asleep on a WatchSet.
// A protocol calls Publish whenever its level changes or something new happened. Interested watches
// move to their set's ready list, and one waiter of the set (all, if none is exclusive) moves to
// the WakeList, which the shim drains before it lets the lock go. Event bits are Linux's EPOLL*
// values (equal to POLL*).
//
// Owner: the stack's lock.
// Invariants: 1. A watch is on its target's list exactly while attached. 2. A watch on a ready list
// belongs to that set.
// 3. A Waiter is on at most one of {a set's list, the wake list}.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/list.h"

namespace userstack {

using EventMask = uint32_t;
inline constexpr EventMask kEventIn = 0x001;
inline constexpr EventMask kEventPriority = 0x002;
inline constexpr EventMask kEventOut = 0x004;
inline constexpr EventMask kEventError = 0x008;
inline constexpr EventMask kEventHangUp = 0x010;
inline constexpr EventMask kEventReadNormal = 0x040;
inline constexpr EventMask kEventReadBand = 0x080;
inline constexpr EventMask kEventWriteNormal = 0x100;
inline constexpr EventMask kEventWriteBand = 0x200;
inline constexpr EventMask kEventReadHangUp = 0x2000;
inline constexpr EventMask kEventsAlways =
    kEventError | kEventHangUp;  // reported whatever the interest

enum WatchFlag : uint8_t {
  kWatchEdge = 1,       // EPOLLET
  kWatchOneShot = 2,    // EPOLLONESHOT
  kWatchExclusive = 4,  // EPOLLEXCLUSIVE
};

struct Pollable;
struct WatchSet;

struct Watch {
  ListNode target_node;  // on target->watches
  ListNode ready_node;   // on set->ready
  ListNode set_node;     // on set->all
  Pollable* target = nullptr;
  WatchSet* set = nullptr;
  EventMask interest = 0;  // 0: none, as after a one-shot has fired; else kEventsAlways is implied
  uint8_t flags = 0;       // WatchFlag
  int descriptor =
      -1;             // the number it was registered under: with `target` the key of an epoll item
  uint64_t data = 0;  // epoll_event.data
  uint32_t pass = 0;  // of its set when it was last put back by Harvest
};

struct Pollable {
  EventMask level = 0;      // the events that are true now
  WatchSet* set = nullptr;  // when this is the readiness of a set: which (its `level` may be stale)
  List<Watch, &Watch::target_node> watches;
};

// A sleeping thread. The shim embeds it in a record of its own; `wake_word` is a futex shared
// between processes.
struct Waiter {
  ListNode node;  // on a set's waiters, or on the wake list
  WatchSet* set = nullptr;
  uint32_t wake_word = 0;  // set to 1 when woken, by whoever drains the wake list
  uint32_t record = 0;     // index of the shim's record
};

struct WatchSet {
  WatchSet() { pollable.set = this; }
  List<Watch, &Watch::ready_node> ready;
  List<Watch, &Watch::set_node> all;
  List<Waiter, &Waiter::node> waiters;  // first in, first woken
  Pollable pollable;                    // what an outer set watches when this one is nested
  uint32_t count = 0;                   // watches in `all`
  uint32_t pass = 0;                    // number of the harvest in progress, 0: none was announced
};

class WakeList {
 public:
  void Push(Waiter* waiter) {
    waiter->node.Unlink();
    list_.PushBack(waiter);
  }
  Waiter* Pop() { return list_.PopFront(); }
  bool empty() const { return list_.empty(); }

 private:
  List<Waiter, &Waiter::node> list_;
};

// Sets the level of `pollable`. `edges` are events that happened anew although they may have been
// true before (more data on a readable socket): they trigger edge-triggered watches and wake
// sleepers again. Bits newly set in `level` count as edges too.
void Publish(Pollable& pollable, EventMask level, EventMask edges, WakeList& wakes);

// Adds `watch` (target, set, interest, flags, descriptor, data filled in) to its set and target. If
// the target is ready now, the watch is queued and a waiter is woken, as EPOLL_CTL_ADD does.
void Attach(Watch& watch, WakeList& wakes);
// After a change of interest, flags or data (EPOLL_CTL_MOD): re-evaluates and re-arms edge and
// one-shot.
void Rearm(Watch& watch, WakeList& wakes);
// Takes `watch` off every list. A no-op when it is not attached. An exclusive one of a call
// (descriptor -1) that is ready still passes that on to the next exclusive one that is slept on.
void Detach(Watch& watch, WakeList& wakes);

// Begins a harvest: Harvest then gives each watch once at the most, and nullptr when only watches
// that it has given are left (in the order in which the next harvest will find them).
void BeginHarvest(WatchSet& set);
// Takes the next ready event from the set: the watch, and in *events what is true of its interest
// now. Level-triggered watches go back to the end of the ready list, so without BeginHarvest call
// at most once per watch in one harvest: stop after `set.count` calls, or at the first watch seen
// before. nullptr when nothing is ready. Stale entries are dropped on the way; a set within the set
// is asked itself.
Watch* Harvest(WatchSet& set, EventMask* events, WakeList& wakes);

// True when Harvest would return an event. Drops stale entries from the front.
bool HasReady(WatchSet& set, WakeList& wakes);

}  // namespace userstack
