// Sleepers: how one thread of a stack finds another, in whatever process, and wakes it: by its
// futex, or by a datagram to its doorbell when it sleeps in ppoll.
//
// Owner: the lock, for the list and its members; WakeSleeper and SendRing need none.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr long kFutexWake = 1;  // FUTEX_WAKE, shared between processes
constexpr long kEveryWaiter = 0x7fffffff;

}  // namespace

Sleeper* NewSleeper() {
  Sleeper* sleeper = g_shared->sleepers.New();
  if (sleeper == nullptr) return nullptr;
  if (t_state.tid == 0) t_state.tid = static_cast<pid_t>(RawSyscall(SYS_gettid));
  sleeper->pid = g_local.pid;
  sleeper->tid = t_state.tid;
  g_shared->all_sleepers.PushBack(sleeper);
  return sleeper;
}

void WakeSleeper(const Sleeper& sleeper) {
  // Without the lock: it may be awake already and asleep again otherwise, which costs it a look.
  if (__atomic_load_n(&sleeper.needs_doorbell, __ATOMIC_RELAXED)) {
    SendRing(sleeper);
  } else {
    RawSyscall(SYS_futex, Word(&sleeper.waiter.wake_word), kFutexWake, kEveryWaiter);
  }
}

void SendRing(const Sleeper& sleeper) {
  if (sleeper.doorbell_length == 0) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, sleeper.doorbell, sleeper.doorbell_length);
  const char ring = 1;
  // EAGAIN: it rings already. ECONNREFUSED: its process is gone.
  RawSyscall(SYS_sendto, g_local.ringer_descriptor, Word(&ring), 1, MSG_DONTWAIT | MSG_NOSIGNAL,
             Word(&address), static_cast<long>(sizeof(sa_family_t) + sleeper.doorbell_length));
}

void WakeEverybody() {
  for (Sleeper* s = g_shared->all_sleepers.front(); s != nullptr;
       s = g_shared->all_sleepers.Next(s)) {
    __atomic_store_n(&s->waiter.wake_word, 1, __ATOMIC_RELEASE);
    if (s != t_state.sleeper) WakeSleeper(*s);
  }
}

bool EnsureDoorbell(Sleeper& sleeper) {
  if (t_state.doorbell < 0) {
    const long fd = RawSyscall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    const sa_family_t family = AF_UNIX;  // the kernel chooses an abstract name
    RawSyscall(SYS_bind, fd, Word(&family), sizeof(family));
    t_state.doorbell = MoveInternal(static_cast<int>(fd));
    if (t_state.doorbell < 0) return false;
    sleeper.doorbell_length = 0;
  }
  if (sleeper.doorbell_length != 0) return true;
  sockaddr_un address{};
  int length = sizeof(address);
  if (RawSyscall(SYS_getsockname, t_state.doorbell, Word(&address), Word(&length)) != 0) {
    return false;
  }
  const size_t path = static_cast<size_t>(length) - sizeof(sa_family_t);
  if (path == 0 || path > sizeof(sleeper.doorbell)) return false;
  memcpy(sleeper.doorbell, address.sun_path, path);
  sleeper.doorbell_length = static_cast<uint8_t>(path);
  return true;
}

void DrainDoorbell() {
  char bytes[8];
  while (RawSyscall(SYS_recvfrom, t_state.doorbell, Word(bytes), sizeof(bytes), MSG_DONTWAIT, 0,
                    0) > 0) {
  }
}

void ReleaseSleeper(Sleeper* sleeper, Instant now) {
  Core& core = g_shared->stack->core();
  StopAttending(sleeper);
  if (g_shared->pump == sleeper) g_shared->pump = nullptr;
  sleeper->waiter.node.Unlink();
  DropApart(sleeper);
  while (Watch* watch = sleeper->own_set.all.front()) {
    Detach(*watch, core.wakes);
    g_shared->watches.Delete(watch);
  }
  while (sleeper->pinned_count > 0) UnpinFrom(*sleeper, sleeper->pinned[0], now);
  sleeper->node.Unlink();
  g_shared->sleepers.Delete(sleeper);
}

}  // namespace userstack::shim
