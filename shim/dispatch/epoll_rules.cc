// Epoll: the rules that need no table and no lock. See epoll.h.
#include <cerrno>
#include <cstring>

#include "shim/dispatch/epoll.h"

namespace userstack::shim {
namespace {

constexpr uint32_t kFlagBits = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
constexpr uint32_t kExclusiveAllowed =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

bool HasEvent(int operation) { return operation == EPOLL_CTL_ADD || operation == EPOLL_CTL_MOD; }

const char* SkipSpaces(const char* p, const char* end) {
  while (p < end && (*p == ' ' || *p == '\t')) ++p;
  return p;
}

// "name: value" with the value in `base`. Moves *at past it.
bool ParseField(const char** at, const char* end, const char* name, unsigned base,
                uint64_t* value) {
  const char* p = SkipSpaces(*at, end);
  const size_t length = std::strlen(name);
  if (static_cast<size_t>(end - p) < length || std::memcmp(p, name, length) != 0) return false;
  p = SkipSpaces(p + length, end);
  *value = 0;
  const char* first = p;
  for (; p < end; ++p) {
    unsigned digit = base;
    if (*p >= '0' && *p <= '9') digit = static_cast<unsigned>(*p - '0');
    if (*p >= 'a' && *p <= 'f') digit = static_cast<unsigned>(*p - 'a') + 10;
    if (digit >= base) break;
    *value = *value * base + digit;
  }
  *at = p;
  return p != first;
}

}  // namespace

long CheckControl(int operation, uint32_t events, bool target_is_epoll) {
  if (!HasEvent(operation)) return operation == EPOLL_CTL_DEL ? 0 : -EINVAL;
  if ((events & EPOLLEXCLUSIVE) == 0) return 0;
  if (operation == EPOLL_CTL_MOD || target_is_epoll) return -EINVAL;
  return (events & ~kExclusiveAllowed) != 0 ? -EINVAL : 0;
}

void SetWatchEvent(const epoll_event& event, Watch* watch) {
  // Errors and hang-ups are reported whatever was asked; the bits also tell an interest in nothing
  // else from a one-shot that has fired.
  watch->interest = (event.events & ~kFlagBits) | kEventsAlways;
  watch->flags = 0;
  if ((event.events & EPOLLET) != 0) watch->flags |= kWatchEdge;
  if ((event.events & EPOLLONESHOT) != 0) watch->flags |= kWatchOneShot;
  if ((event.events & EPOLLEXCLUSIVE) != 0) watch->flags |= kWatchExclusive;
  watch->data = event.data.u64;
}

epoll_event EventOf(const Watch& watch) {
  epoll_event event{};
  event.events = watch.interest;
  if ((watch.flags & kWatchEdge) != 0) event.events |= EPOLLET;
  if ((watch.flags & kWatchOneShot) != 0) event.events |= EPOLLONESHOT;
  if ((watch.flags & kWatchExclusive) != 0) event.events |= EPOLLEXCLUSIVE;
  event.data.u64 = watch.data;
  return event;
}

bool ParseRegistration(const char* line, const char* end, int* fd, epoll_event* event) {
  uint64_t number = 0;
  uint64_t events = 0;
  uint64_t data = 0;
  if (!ParseField(&line, end, "tfd:", 10, &number) ||
      !ParseField(&line, end, "events:", 16, &events) ||
      !ParseField(&line, end, "data:", 16, &data)) {
    return false;
  }
  *fd = static_cast<int>(number);
  event->events = static_cast<uint32_t>(events);
  event->data.u64 = data;
  return true;
}

}  // namespace userstack::shim
