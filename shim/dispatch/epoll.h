// Epoll: an instance is the kernel's epoll (the real number) and, once a socket of the stack was
// added to it, a WatchSet in the arena beside it. Kernel descriptors stay registered in the
// kernel's half with the program's own data; nothing of ours is ever told apart by that data.
//
// An instance that holds kernel descriptors only is not known here at all: its calls pass through.
// The first EPOLL_CTL_ADD of a stack's socket upgrades it (epoll_upgrade.cc).
//
// Owner: the stack's lock. Invariants: 1. An item of the stack is a Watch whose set is the
// instance's and whose descriptor is the number it was added under. 2. An epoll instance of the
// stack inside another is registered in both halves: its own kernel half in the outer's kernel
// half, and a watch (kWatchNested) on its set.
#pragma once

#include <sys/epoll.h>

#include "shim/descriptors.h"
#include "shim/runtime.h"

namespace userstack::shim {

// A flag of Watch beside WatchFlag's: the target is another instance's set.
inline constexpr uint8_t kWatchNested = 8;

// The rules of epoll_ctl that need no table (do_epoll_ctl): 0 or -EINVAL.
long CheckControl(int operation, uint32_t events, bool target_is_epoll);
// epoll_event's bits to a watch and back.
void SetWatchEvent(const epoll_event& event, Watch* watch);
epoll_event EventOf(const Watch& watch);

// The number under which this process has the instance of `set`; -1: it has none.
int FindEpollDescriptor(const WatchSet& set);
// Registers a kernel descriptor in an upgraded instance.
long AddKernelItem(Session& session, int epoll, int fd, epoll_event event);
// Wakes all that sleep on `set`, so that they look at the instance anew.
void WakeAll(Session& session, WatchSet& set);
// Adds an item. 0 or -ENOMEM.
long AddItem(Session& session, Description& epoll, Pollable* target, int fd,
             const epoll_event& event, uint8_t flags);

// --- epoll_upgrade.cc ---
// The instance behind `epoll`, made one of ours when it is only the kernel's so far. nullptr: no
// memory. `epoll` is known to be an epoll instance.
Description* UpgradeEpoll(Session& session, int epoll);
// Hints for the upgrade, from the hooks: this number was made by epoll_create; an instance was
// duplicated or nested while it was the kernel's only.
void NoteEpollCreated(int fd);
void NoteDuplicated(int fd, int copy);
void NoteAdded(int fd);

// One registration as /proc/PID/fdinfo shows it ("tfd: 5 events: 19 data: 5 pos:..."). Parses one
// line (`end` past its last byte); false when it is not one.
bool ParseRegistration(const char* line, const char* end, int* fd, epoll_event* event);

// A thread inside the kernel's epoll_wait on an instance that may be upgraded meanwhile.
class KernelSleep {
 public:
  explicit KernelSleep(int epoll);
  ~KernelSleep();
  KernelSleep(const KernelSleep&) = delete;
  KernelSleep& operator=(const KernelSleep&) = delete;

 private:
  int epoll_;
};
// Removes what an upgrade put among the events to wake the sleepers; returns how many are left.
int DropKicks(epoll_event* events, int count);
// With the lock, after DropKicks dropped some.
void ExpireKicks(Instant now);
// In the child of a fork: its copy of the counts speaks of the parent's threads.
void ForgetKernelSleeps();

}  // namespace userstack::shim
