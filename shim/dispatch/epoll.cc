// Epoll: epoll_ctl. See epoll.h.
#include "shim/dispatch/epoll.h"

#include "shim/dispatch/call.h"

namespace userstack::shim {
namespace {

Watch* FindItem(Pollable& target, const WatchSet& set, int fd) {
  for (Watch* watch = target.watches.front(); watch != nullptr;
       watch = target.watches.Next(watch)) {
    if (watch->set == &set && watch->descriptor == fd) return watch;
  }
  return nullptr;
}

void RemoveItem(Session& session, Watch* watch) {
  Detach(*watch, session.core().wakes);
  CurrentShared().watches.Delete(watch);
}

bool HasEvent(int operation) { return operation == EPOLL_CTL_ADD || operation == EPOLL_CTL_MOD; }

// A kernel descriptor in an instance of ours.
long ControlKernelItem(int epoll, int operation, int fd, epoll_event* event) {
  Session session;
  if (session.failed()) return -ENETDOWN;
  const long result = RawSyscall(SYS_epoll_ctl, epoll, operation, fd, Word(event));
  Description* instance = Lookup(epoll);
  if (result != 0 || operation != EPOLL_CTL_ADD || instance == nullptr ||
      instance->kind != Description::Kind::kEpoll || instance->epoll_has_kernel) {
    return result;
  }
  instance->epoll_has_kernel = true;
  WakeAll(session, *instance->epoll);
  return 0;
}

// The instance behind `epoll`, or an error. With `create`, upgraded.
long FindInstance(Session& session, int epoll, int fd, bool create, Description** instance) {
  *instance = Lookup(epoll);
  if (*instance != nullptr) {
    return (*instance)->kind == Description::Kind::kEpoll ? 0 : -EINVAL;
  }
  // Not ours: does the kernel have an instance there? It says EBADF, EINVAL, or that the
  // placeholder is not in it.
  epoll_event unused{};
  const long known = RawSyscall(SYS_epoll_ctl, epoll, EPOLL_CTL_DEL, fd, Word(&unused));
  if (known != -ENOENT && known != 0) return known;
  if (!create) return -ENOENT;
  *instance = UpgradeEpoll(session, epoll);
  return *instance == nullptr ? -ENOMEM : 0;
}

long ModifyItem(Session& session, Watch* watch, const epoll_event& event) {
  // Linux: an exclusive item cannot be changed.
  if ((watch->flags & kWatchExclusive) != 0) return -EINVAL;
  const uint8_t nested = watch->flags & kWatchNested;
  SetWatchEvent(event, watch);
  watch->flags |= nested;
  Rearm(*watch, session.core().wakes);
  return 0;
}

long ControlSocket(Session& session, int epoll, int operation, int fd, const epoll_event* event) {
  Description* target = Lookup(fd);
  Description* instance = nullptr;
  const long found = FindInstance(session, epoll, fd, operation == EPOLL_CTL_ADD, &instance);
  if (found != 0) return found;
  Pollable& pollable = target->socket->pollable;
  Watch* item = FindItem(pollable, *instance->epoll, fd);
  switch (operation) {
    case EPOLL_CTL_ADD:
      if (item != nullptr) return -EEXIST;
      return AddItem(session, *instance, &pollable, fd, *event, 0);
    case EPOLL_CTL_MOD:
      return item == nullptr ? -ENOENT : ModifyItem(session, item, *event);
    case EPOLL_CTL_DEL:
      if (item == nullptr) return -ENOENT;
      RemoveItem(session, item);
      return 0;
  }
  return -EINVAL;
}

// An instance of ours inside another. The kernel halves are nested too, so that the kernel judges
// loops, depth and double registration.
long ControlNested(Session& session, int epoll, int operation, int fd, epoll_event* event) {
  const long result = RawSyscall(SYS_epoll_ctl, epoll, operation, fd, Word(event));
  if (result != 0) return result;
  Description* inner = Lookup(fd);
  Description* outer = Lookup(epoll);
  if (outer == nullptr) outer = UpgradeEpoll(session, epoll);
  if (outer == nullptr || outer->kind != Description::Kind::kEpoll) return -ENOMEM;
  outer->epoll_has_kernel = true;
  Pollable& pollable = inner->epoll->pollable;
  Watch* item = FindItem(pollable, *outer->epoll, fd);
  if (operation == EPOLL_CTL_ADD && item == nullptr) {
    const long added = AddItem(session, *outer, &pollable, fd, *event, kWatchNested);
    WakeAll(session, *outer->epoll);
    return added;
  }
  if (item == nullptr) return 0;
  if (operation == EPOLL_CTL_MOD) return ModifyItem(session, item, *event);
  if (operation == EPOLL_CTL_DEL) RemoveItem(session, item);
  return 0;
}

}  // namespace

int FindEpollDescriptor(const WatchSet& set) {
  Process& process = CurrentProcess();
  for (unsigned fd = 0; fd < process.slot_limit; ++fd) {
    const Description* description = process.slots[fd].description.load(std::memory_order_relaxed);
    if (description != nullptr && description->kind == Description::Kind::kEpoll &&
        description->epoll == &set) {
      return static_cast<int>(fd);
    }
  }
  return -1;
}

void WakeAll(Session& session, WatchSet& set) {
  while (Waiter* waiter = set.waiters.PopFront()) session.core().wakes.Push(waiter);
}

long AddKernelItem(Session& session, int epoll, int fd, epoll_event event) {
  const long result = RawSyscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, Word(&event));
  Description* instance = Lookup(epoll);
  if (result == 0 && instance != nullptr && instance->kind == Description::Kind::kEpoll) {
    instance->epoll_has_kernel = true;
    WakeAll(session, *instance->epoll);
  }
  return result;
}

long AddItem(Session& session, Description& epoll, Pollable* target, int fd,
             const epoll_event& event, uint8_t flags) {
  if (target->set != nullptr || IsNested(*epoll.epoll)) {
    session.ReturnQueue(*target);
  } else {
    session.ReturnRequestQueue(*target);
  }
  session.ReturnRequestQueue(epoll.epoll->pollable);  // of the one that was alone
  Watch* watch = CurrentShared().watches.New();
  if (watch == nullptr) return -ENOMEM;
  SetWatchEvent(event, watch);
  watch->flags |= flags;
  watch->descriptor = fd;
  watch->target = target;
  watch->set = epoll.epoll;
  Attach(*watch, session.core().wakes);
  return 0;
}

long sys_epoll_ctl(int epoll, int operation, int fd, epoll_event* event) {
  if (!IsOurs(fd)) {
    if (IsOurs(epoll)) return ControlKernelItem(epoll, operation, fd, event);
    return RawSyscall(SYS_epoll_ctl, epoll, operation, fd, Word(event));
  }
  if (HasEvent(operation) && IsBadAddress(event)) return -EFAULT;
  Session session;
  if (session.failed()) return -ENETDOWN;
  Description* target = Lookup(fd);
  if (target == nullptr || epoll == fd || Lookup(epoll) == target) {
    return RawSyscall(SYS_epoll_ctl, epoll, operation, fd, Word(event));
  }
  const bool nested = target->kind == Description::Kind::kEpoll;
  const long rules = CheckControl(operation, HasEvent(operation) ? event->events : 0, nested);
  if (rules != 0) {
    // A number that is not open, or not an epoll instance, comes first.
    Description* instance = nullptr;
    const long found = FindInstance(session, epoll, fd, false, &instance);
    return found == -EBADF ? found : rules;
  }
  return nested ? ControlNested(session, epoll, operation, fd, event)
                : ControlSocket(session, epoll, operation, fd, event);
}

}  // namespace userstack::shim
