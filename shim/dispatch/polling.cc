// Polling: poll and ppoll over any mixture of kernel and stack descriptors. One sleep for both: the
// thread's own set holds a watch for each stack descriptor, and the kernel's descriptors are waited
// on beside it.
//
// Invariants: 1. Watches are attached before the last look at the levels and the sleep, with the
// lock held throughout, so that no event is lost. 2. A watch that is no longer linked had its
// socket destroyed (closed meanwhile): it is not looked at again.
#include <algorithm>

#include "shim/dispatch/call.h"
#include "shim/dispatch/epoll.h"
#include "shim/dispatch/scratch.h"

namespace userstack::shim {
namespace {

constexpr size_t kInlineEntries = 32;
constexpr EventMask kPollMask = 0xffff;

struct Item {
  unsigned entry;
  Description* description;
  Watch* watch;
};

class Poller {
 public:
  Poller(Session& session, pollfd* entries, nfds_t count)
      : session_(session), entries_(entries), items_(count), kernel_(count), kernel_entry_(count) {
    if (!ok()) return;
    for (nfds_t i = 0; i < count; ++i) {
      entries[i].revents = 0;
      if (entries[i].fd >= 0) Sort(static_cast<unsigned>(i));
    }
    LearnQueues();
  }
  ~Poller() {
    if (session_.failed()) return;
    for (size_t i = 0; i < item_count_; ++i) {
      if (items_[i].watch == nullptr) continue;
      Detach(*items_[i].watch, session_.core().wakes);
      CurrentShared().watches.Delete(items_[i].watch);
    }
  }
  bool ok() { return items_.ok() && kernel_.ok() && kernel_entry_.ok(); }

  long Run(Instant deadline, bool at_once, const sigset_t* mask);

 private:
  // Which side answers for this entry? An epoll instance may need both.
  void Sort(unsigned entry) {
    Description* description = Lookup(entries_[entry].fd);
    bool ask_kernel = description == nullptr;
    if (description != nullptr) {
      items_[item_count_++] = {entry, description, nullptr};
      ask_kernel = description->kind == Description::Kind::kEpoll && description->epoll_has_kernel;
    }
    if (ask_kernel) {
      kernel_[kernel_count_] = {entries_[entry].fd, entries_[entry].events, 0};
      kernel_entry_[kernel_count_++] = entry;
    }
  }
  // Which queues of the device the sockets have that are looked at, and which they may not keep: of
  // what an instance watches only that instance's own waits see the queues.
  void LearnQueues() {
    for (size_t i = 0; i < item_count_; ++i) {
      const bool socket = items_[i].description->kind == Description::Kind::kSocket;
      if (!socket) {
        session_.ReturnQueue(Target(items_[i]));
      } else if (item_count_ > 1) {
        session_.ReturnRequestQueue(Target(items_[i]));
        queues_ |= session_.QueuesOf(*items_[i].description->socket);
      }
    }
  }
  bool IsGone(const Item& item) const {
    return item.watch != nullptr && !item.watch->set_node.linked();
  }
  Pollable& Target(const Item& item) {
    return item.description->kind == Description::Kind::kEpoll ? item.description->epoll->pollable
                                                               : item.description->socket->pollable;
  }
  void LookAtStack() {
    for (size_t i = 0; i < item_count_; ++i) {
      const Item& item = items_[i];
      if (IsGone(item)) continue;
      if (item.description->kind == Description::Kind::kEpoll) {
        HasReady(*item.description->epoll, session_.core().wakes);  // drops what is stale
      }
      pollfd& entry = entries_[item.entry];
      const EventMask wanted = static_cast<uint16_t>(entry.events) | kEventsAlways;
      entry.revents |= static_cast<short>(Target(item).level & wanted & kPollMask);
    }
  }
  long LookAtKernel() {
    if (kernel_count_ == 0) return 0;
    const timespec zero{};
    const long result = RawSyscall(SYS_ppoll, Word(kernel_.data()), kernel_count_, Word(&zero));
    return result == -EINTR ? 0 : result;
  }
  void TakeKernelEvents() {
    for (unsigned i = 0; i < kernel_count_; ++i) {
      entries_[kernel_entry_[i]].revents |= kernel_[i].revents;
    }
  }
  long CountReady() const {
    long ready = 0;
    for (size_t i = 0; i < item_count_; ++i) ready += CountOnce(items_[i].entry);
    for (unsigned i = 0; i < kernel_count_; ++i) ready += CountOnce(kernel_entry_[i]);
    for (size_t i = 0; i < item_count_; ++i) entries_[items_[i].entry].revents &= ~kCounted;
    for (unsigned i = 0; i < kernel_count_; ++i) entries_[kernel_entry_[i]].revents &= ~kCounted;
    return ready;
  }
  // An entry that both sides answer for counts once; the mark is a bit that no event has.
  static constexpr short kCounted = 0x4000;
  long CountOnce(unsigned entry) const {
    short& revents = entries_[entry].revents;
    if (revents == 0 || (revents & kCounted) != 0) return 0;
    revents |= kCounted;
    return 1;
  }
  long AttachAll();

  Session& session_;
  pollfd* entries_;
  mutable Scratch<Item, kInlineEntries> items_;
  Scratch<pollfd, kInlineEntries> kernel_;
  mutable Scratch<unsigned, kInlineEntries> kernel_entry_;
  size_t item_count_ = 0;
  unsigned kernel_count_ = 0;
  QueueMask queues_ = 0;
  bool attached_ = false;
};

long Poller::AttachAll() {
  WatchSet& set = CurrentSleeper().own_set;
  for (size_t i = 0; i < item_count_; ++i) {
    Item& item = items_[i];
    item.watch = CurrentShared().watches.New();
    if (item.watch == nullptr) return -ENOMEM;
    item.watch->target = &Target(item);
    item.watch->set = &set;
    item.watch->interest = static_cast<uint16_t>(entries_[item.entry].events) | kEventsAlways;
    Attach(*item.watch, session_.core().wakes);
  }
  attached_ = true;
  return 0;
}

long Poller::Run(Instant deadline, bool at_once, const sigset_t* mask) {
  Session::NoteWaitApart();
  bool kernel_known = false;
  bool last_look = at_once;
  bool interrupted = false;
  bool polled = false;
  while (true) {
    LookAtStack();
    if (!kernel_known) {
      const long result = LookAtKernel();
      if (result < 0) return result;
    }
    TakeKernelEvents();
    const long ready = CountReady();
    if (ready != 0) {
      session_.LookBeside(queues_);
      return ready;
    }
    if (interrupted) return -EINTR;
    if (!polled) {
      // The device may hold what would make us ready.
      polled = true;
      kernel_known = true;
      const Socket* const only = item_count_ == 1 ? OnlySocket(Target(items_[0])) : nullptr;
      if (at_once) {
        session_.Poll(only, queues_);
      } else {
        session_.PollBeforeWait(only);
      }
      continue;
    }
    if (last_look) return 0;
    if (!attached_) {
      const long bad = AttachAll();
      if (bad != 0) return bad;
    }
    WaitRequest request;
    request.set = &CurrentSleeper().own_set;
    request.kernel = kernel_.data();
    request.kernel_count = kernel_count_;
    request.deadline = deadline;
    request.mask = mask;
    const WaitResult result = Wait(session_, request);
    if (session_.failed()) return -ENETDOWN;
    kernel_known = result == WaitResult::kKernelReady;
    last_look = result == WaitResult::kTimedOut;
    interrupted = result == WaitResult::kInterrupted;
  }
}

}  // namespace

bool AnyOurs(const pollfd* entries, nfds_t count) {
  if (g_slots == nullptr || IsBadAddress(entries)) return false;
  for (nfds_t i = 0; i < count; ++i) {
    if (IsOurs(entries[i].fd)) return true;
  }
  return false;
}

bool ParseTimeout(const timespec* timeout, Instant* deadline, bool* at_once) {
  *deadline = Instant::Never();
  *at_once = false;
  if (timeout == nullptr) return true;
  if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1'000'000'000) {
    return false;
  }
  *at_once = timeout->tv_sec == 0 && timeout->tv_nsec == 0;
  constexpr int64_t kLongest = Duration::Infinite().seconds() / 2;
  if (timeout->tv_sec < kLongest) {
    *deadline = MonotonicNow() + Duration::Seconds(timeout->tv_sec) +
                Duration::Nanoseconds(timeout->tv_nsec);
  }
  return true;
}

long sys_ppoll(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* mask,
               Duration* remaining) {
  Instant deadline;
  bool at_once = false;
  if (!ParseTimeout(timeout, &deadline, &at_once)) return -EINVAL;
  long result = 0;
  Instant end;
  {
    Session session;
    if (session.failed()) return -ENETDOWN;
    Poller poller(session, entries, count);
    result = poller.ok() ? poller.Run(deadline, at_once, mask) : -ENOMEM;
    end = session.now();
  }
  if (remaining != nullptr) *remaining = end < deadline ? deadline - end : Duration{};
  return result;
}

}  // namespace userstack::shim
