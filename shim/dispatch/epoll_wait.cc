// Epoll: epoll_wait and its relatives. See epoll.h.
//
// Both halves are asked in every round, each with the lock held; which goes first alternates, so
// that neither starves the other when `maxevents` is small. Events are taken from the kernel only
// into room that the caller has, because an edge that was taken is gone.
#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstddef>

#include "shim/dispatch/call.h"
#include "shim/dispatch/epoll.h"

namespace userstack::shim {

namespace {

constexpr int kMaxEvents = INT_MAX / static_cast<int>(sizeof(epoll_event));

// Whose turn it is to be asked first. Only fairness depends on it, not correctness.
std::atomic<unsigned> g_turn{0};

WatchSet& InnerSet(const Watch& watch) {
  return *reinterpret_cast<WatchSet*>(reinterpret_cast<char*>(watch.target) -
                                      offsetof(WatchSet, pollable));
}

// One round of both halves into the caller's array.
class Collection {
 public:
  Collection(Session& session, int epoll, Description& instance, epoll_event* events, int limit)
      : session_(session), epoll_(epoll), instance_(instance), events_(events), limit_(limit) {}

  // How many events there are, or -errno of the kernel's half, if that is asked.
  long Collect(bool ask_kernel) {
    BeginHarvest(*instance_.epoll);
    if (!instance_.epoll_has_kernel || !ask_kernel) {
      TakeStack(limit_);
      return Finish();
    }
    const bool stack_first = g_turn.fetch_add(1, std::memory_order_relaxed) % 2 == 0;
    if (stack_first) TakeStack((limit_ + 1) / 2);
    const long asked = TakeKernel(stack_first ? limit_ - count_ : (limit_ + 1) / 2);
    if (asked < 0) return asked;
    TakeStack(limit_ - count_);
    if (!stack_first && kernel_count_ == (limit_ + 1) / 2 && count_ < limit_) {
      const long more = TakeKernel(limit_ - count_);
      if (more < 0) return more;
    }
    return Finish();
  }

 private:
  void TakeStack(int room) {
    WatchSet& set = *instance_.epoll;
    while (room > 0 && !stack_done_) {
      EventMask happened = 0;
      Watch* watch = Harvest(set, &happened, session_.core().wakes);
      if (watch == nullptr) {
        stack_done_ = true;
        return;
      }
      const bool level = (watch->flags & (kWatchEdge | kWatchOneShot)) == 0;
      const bool nested = (watch->flags & kWatchNested) != 0;
      if (nested && !HasReady(InnerSet(*watch), session_.core().wakes)) continue;
      events_[count_].events = happened;
      events_[count_].data.u64 = watch->data;
      ++count_;
      --room;
      if (nested && level && nested_count_ < kMaxNested)
        nested_data_[nested_count_++] = watch->data;
    }
  }
  long TakeKernel(int room) {
    if (room <= 0) return 0;
    const long taken = RawSyscall(SYS_epoll_pwait, epoll_, Word(events_ + count_), room, 0, 0, 8);
    if (taken == -EINTR) return 0;
    if (taken < 0) return taken;
    kernel_count_ += static_cast<int>(taken);
    const int kept = DropKicks(events_ + count_, static_cast<int>(taken));
    if (kept != taken) ExpireKicks(session_.now());
    count_ += kept;
    return taken;
  }
  long Finish() {
    if (nested_count_ != 0) DropDoubles();
    // Linux (ep_done_scan): what is left is the next sleeper's.
    WatchSet& set = *instance_.epoll;
    if (!set.ready.empty() && !set.waiters.empty()) {
      session_.core().wakes.Push(set.waiters.PopFront());
    }
    return count_;
  }
  // A nested instance that is ready in both halves is one item and reported once. Only
  // level-triggered ones are dropped: they come again.
  void DropDoubles() {
    int kept = 0;
    for (int i = 0; i < count_; ++i) {
      bool doubled = false;
      for (int n = 0; n < nested_count_; ++n) {
        if (events_[i].data.u64 != nested_data_[n]) continue;
        for (int j = 0; j < kept; ++j) doubled |= events_[j].data.u64 == nested_data_[n];
      }
      if (!doubled) events_[kept++] = events_[i];
    }
    count_ = kept;
  }

  static constexpr int kMaxNested = 16;
  Session& session_;
  int epoll_;
  Description& instance_;
  epoll_event* events_;
  int limit_;
  int count_ = 0;
  int kernel_count_ = 0;
  bool stack_done_ = false;
  int nested_count_ = 0;
  uint64_t nested_data_[kMaxNested];
};

long WaitOnInstance(Session& session, int epoll, Description& instance, epoll_event* events,
                    int limit, Instant deadline, bool at_once, const sigset_t* mask) {
  Session::NoteWaitApart();
  bool last_look = at_once;
  bool interrupted = false;
  bool polled = false;
  bool ask_kernel = true;
  while (true) {
    const long count = Collection(session, epoll, instance, events, limit).Collect(ask_kernel);
    if (count != 0) {
      session.LookBeside(session.QueuesOf(*instance.epoll));
      return count;
    }
    if (interrupted) return -EINTR;
    if (!polled) {
      // The device may hold what would make us ready.
      polled = true;
      const Socket* const only = OnlySocket(instance.epoll->pollable);
      if (at_once) {
        session.Poll(only, session.QueuesOf(*instance.epoll));
      } else {
        session.PollBeforeWait(only);
      }
      if (HasReady(*instance.epoll, session.core().wakes)) continue;
    }
    if (last_look) return 0;
    pollfd kernel{epoll, POLLIN, 0};
    WaitRequest request;
    request.set = instance.epoll;
    request.kernel = &kernel;
    request.kernel_count = instance.epoll_has_kernel ? 1 : 0;
    request.deadline = deadline;
    request.mask = mask;
    const WaitResult result = Wait(session, request);
    if (session.failed()) return -ENETDOWN;
    // Asked a moment ago, and it did not end the sleep.
    ask_kernel = result != WaitResult::kStackReady;
    last_look = result == WaitResult::kTimedOut;
    interrupted = result == WaitResult::kInterrupted;
  }
}

}  // namespace

long sys_epoll_pwait2(int epoll, epoll_event* events, int limit, const timespec* timeout,
                      const sigset_t* mask) {
  if (IsOurs(epoll)) {
    if (limit <= 0 || limit > kMaxEvents) return -EINVAL;
    if (IsBadAddress(events)) return -EFAULT;
    Instant deadline;
    bool at_once = false;
    if (!ParseTimeout(timeout, &deadline, &at_once)) return -EINVAL;
    Session session;
    if (session.failed()) return -ENETDOWN;
    Description* instance = Lookup(epoll);
    if (instance != nullptr) {
      if (instance->kind != Description::Kind::kEpoll) return -EINVAL;
      session.EndBatch();
      Pin(instance);
      const long result =
          WaitOnInstance(session, epoll, *instance, events, limit, deadline, at_once, mask);
      if (!session.failed()) {
        Unpin(instance, session.now());
        session.BeginBatch(result);
      }
      return result;
    }
  }
  return RawSyscall(SYS_epoll_pwait2, epoll, Word(events), limit, Word(timeout), Word(mask), 8);
}

}  // namespace userstack::shim
