// Epoll: an instance of the kernel becomes one of ours. See epoll.h.
//
// Threads may sleep inside the kernel's epoll_wait on it at that moment, and would not hear of the
// stack's events. They are counted while they sleep there; an upgrade that finds some puts a
// readable eventfd into the kernel's half, they come out one after the other, each drops the event
// again and waits anew on both halves, and the last one takes the eventfd away.
//
// Owner: process-local tables. The counters are atomic; the kicks change with the stack's lock
// held.
#include <fcntl.h>
#include <sys/eventfd.h>

#include <atomic>
#include <cstring>

#include "shim/dispatch/call.h"
#include "shim/dispatch/epoll.h"

namespace userstack::shim {
namespace {

// Numbers that epoll_create gave out. Only a hint: a number that was closed since costs a look.
uint8_t g_known[kMaxDescriptors];
// An instance was duplicated or put inside another while the kernel alone knew it.
std::atomic<bool> g_relations{false};

std::atomic<uint16_t> g_sleepers[kMaxDescriptors];
std::atomic<uint32_t> g_all_sleepers{0};

struct Kick {
  int epoll = -1;
  int event = -1;
  Instant placed;
};
// A thread that was cancelled in its sleep stays counted: no kick stays longer than this.
constexpr Duration kKickLife = Duration::Milliseconds(100);
constexpr int kMaxKicks = 16;
Kick g_kicks[kMaxKicks];

bool InTable(int fd) { return fd >= 0 && fd < static_cast<int>(kMaxDescriptors); }

// The mark of a kick's event: an address of ours, which no other data can be.
uint64_t KickData() { return reinterpret_cast<uint64_t>(&g_kicks); }

void PlaceKick(int epoll) {
  for (Kick& kick : g_kicks) {
    if (kick.epoll >= 0) continue;
    const long low = RawSyscall(SYS_eventfd2, 1, EFD_CLOEXEC);
    if (low < 0) return;
    // Out of the way of numbers that the program counts on.
    const long high = RawSyscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 512);
    if (high >= 0) RawSyscall(SYS_close, low);
    kick = {epoll, static_cast<int>(high >= 0 ? high : low), MonotonicNow()};
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = KickData();
    RawSyscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, kick.event, Word(&event));
    return;
  }
}

void TakeAway(Kick& kick) {
  epoll_event unused{};
  RawSyscall(SYS_epoll_ctl, kick.epoll, EPOLL_CTL_DEL, kick.event, Word(&unused));
  RawSyscall(SYS_close, kick.event);
  kick = {};
}

void RemoveKick(int epoll) {
  Session session;
  for (Kick& kick : g_kicks) {
    if (kick.epoll == epoll && g_sleepers[epoll].load() == 0) TakeAway(kick);
  }
}

bool IsSameInstance(int a, int b) {
  constexpr int kKcmpFile = 0;
  const long pid = RawSyscall(SYS_getpid);
  return RawSyscall(SYS_kcmp, pid, pid, kKcmpFile, a, b) == 0;
}

// Reads /proc/self/fdinfo/`epoll` and calls `visit(fd, event)` for each registration. False when it
// cannot be read.
template <typename Visit>
bool ForEachRegistration(int epoll, Visit visit) {
  char path[40] = "/proc/self/fdinfo/";
  char* digits = path + std::strlen(path);
  char reversed[12];
  int length = 0;
  do {
    reversed[length++] = static_cast<char>('0' + epoll % 10);
    epoll /= 10;
  } while (epoll != 0);
  while (length > 0) *digits++ = reversed[--length];
  *digits = 0;
  const long file = RawSyscall(SYS_openat, AT_FDCWD, Word(path), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char buffer[2048];
  size_t filled = 0;
  while (true) {
    const long n = RawSyscall(SYS_read, file, Word(buffer + filled), sizeof buffer - filled);
    if (n <= 0) break;
    filled += static_cast<size_t>(n);
    char* line = buffer;
    char* end = buffer + filled;
    while (char* newline = static_cast<char*>(std::memchr(line, '\n', end - line))) {
      int fd = -1;
      epoll_event event;
      if (ParseRegistration(line, newline, &fd, &event)) visit(fd, event);
      line = newline + 1;
    }
    filled = static_cast<size_t>(end - line);
    std::memmove(buffer, line, filled);
    if (filled == sizeof buffer) filled = 0;
  }
  RawSyscall(SYS_close, file);
  return true;
}

bool HasRegistrations(int epoll) {
  bool any = false;
  const bool readable = ForEachRegistration(epoll, [&any](int, const epoll_event&) { any = true; });
  return any || !readable;
}

bool IsKernelEpoll(unsigned fd) {
  return g_known[fd] != 0 &&
         CurrentProcess().slots[fd].description.load(std::memory_order_relaxed) == nullptr;
}

// Other numbers of the same instance become ours too.
void InstallDuplicates(int epoll, Description* instance) {
  for (unsigned fd = 0; fd < kMaxDescriptors; ++fd) {
    if (!IsKernelEpoll(fd) || !IsSameInstance(epoll, static_cast<int>(fd))) continue;
    Install(CurrentProcess(), static_cast<int>(fd), instance);
  }
}

// Instances that this one is inside of get a watch on its set, and are upgraded for it.
void JoinOuterInstances(Session& session, Description* inner) {
  for (unsigned fd = 0; fd < kMaxDescriptors; ++fd) {
    const int outer_fd = static_cast<int>(fd);
    if (g_known[fd] == 0 || Lookup(outer_fd) == inner) continue;
    ForEachRegistration(outer_fd, [&](int target, const epoll_event& event) {
      if (!InTable(target) || Lookup(target) != inner) return;
      Description* outer = Lookup(outer_fd);
      if (outer == nullptr) outer = UpgradeEpoll(session, outer_fd);
      if (outer == nullptr || outer->kind != Description::Kind::kEpoll) return;
      AddItem(session, *outer, &inner->epoll->pollable, target, event, kWatchNested);
    });
  }
}

void KickSleepers(const Description* instance) {
  Process& process = CurrentProcess();
  for (unsigned fd = 0; fd < process.slot_limit; ++fd) {
    if (process.slots[fd].description.load(std::memory_order_relaxed) != instance) continue;
    if (g_sleepers[fd].load(std::memory_order_relaxed) != 0) PlaceKick(static_cast<int>(fd));
  }
}

}  // namespace

void NoteEpollCreated(int fd) {
  if (InTable(fd)) g_known[fd] = 1;
}

void NoteDuplicated(int fd, int copy) {
  if (!InTable(fd) || g_known[fd] == 0) return;
  NoteEpollCreated(copy);
  g_relations.store(true, std::memory_order_relaxed);
}

void NoteAdded(int fd) {
  if (InTable(fd) && g_known[fd] != 0) g_relations.store(true, std::memory_order_relaxed);
}

Description* UpgradeEpoll(Session& session, int epoll) {
  if (!InTable(epoll)) return nullptr;
  WatchSet* set = CurrentShared().watch_sets.New();
  if (set == nullptr) return nullptr;
  Description* instance = NewDescription(set, 0);
  if (instance == nullptr) {
    CurrentShared().watch_sets.Delete(set);
    return nullptr;
  }
  instance->epoll_has_kernel = HasRegistrations(epoll);
  Install(CurrentProcess(), epoll, instance);
  if (g_relations.load(std::memory_order_relaxed)) {
    InstallDuplicates(epoll, instance);
    JoinOuterInstances(session, instance);
  }
  // Pairs with KernelSleep: either the sleeper sees the slot, or it is counted here.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (g_all_sleepers.load(std::memory_order_relaxed) != 0) KickSleepers(instance);
  return instance;
}

KernelSleep::KernelSleep(int epoll) : epoll_(InTable(epoll) ? epoll : -1) {
  if (epoll_ < 0) return;
  g_all_sleepers.fetch_add(1, std::memory_order_relaxed);
  g_sleepers[epoll_].fetch_add(1, std::memory_order_seq_cst);
}

KernelSleep::~KernelSleep() {
  if (epoll_ < 0) return;
  g_all_sleepers.fetch_sub(1, std::memory_order_relaxed);
  const uint16_t before = g_sleepers[epoll_].fetch_sub(1, std::memory_order_seq_cst);
  if (before == 1 && IsOurs(epoll_)) RemoveKick(epoll_);
}

int DropKicks(epoll_event* events, int count) {
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.u64 != KickData()) events[kept++] = events[i];
  }
  return kept;
}

void ExpireKicks(Instant now) {
  for (Kick& kick : g_kicks) {
    if (kick.epoll >= 0 && now > kick.placed + kKickLife) TakeAway(kick);
  }
}

void ForgetKernelSleeps() {
  if (g_all_sleepers.load(std::memory_order_relaxed) == 0) return;
  for (auto& sleepers : g_sleepers) sleepers.store(0, std::memory_order_relaxed);
  g_all_sleepers.store(0, std::memory_order_relaxed);
}

}  // namespace userstack::shim
