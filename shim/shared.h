// Shared: the shim's part of the arena, beside the stack: the lock, the attached processes and
// their descriptors, the sleeping threads. Every process of one stack maps it at the same address
// (kArenaAddress).
//
// Owner: `lock`, a robust process-shared mutex, except where a field says "atomic". After
// EOWNERDEAD the next owner audits. Invariants: 1. description->references equals the number of
// slots that point at it, in all live processes, plus `pins`.
// 2. A Process with pid 0 is free, and its slots are all null.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/stack/stack.h"

namespace userstack::shim {

inline constexpr uintptr_t kArenaAddress =
    0x200000000000;  // 32 TiB: far from heaps, libraries and sanitizer shadows
inline constexpr unsigned kMaxProcesses = 512;
inline constexpr unsigned kMaxDescriptors = 65536;  // numbers from here on are refused with EMFILE

// An open file description of the stack: what dup and fork share.
struct Description {
  enum class Kind : uint8_t { kSocket, kEpoll };
  Kind kind = Kind::kSocket;
  bool nonblocking = false;   // O_NONBLOCK
  bool async = false;         // O_ASYNC
  Socket* socket = nullptr;   // kSocket
  WatchSet* epoll = nullptr;  // kEpoll: the stack's half; the kernel epoll is the descriptor itself
  bool epoll_has_kernel =
      false;  // kEpoll: kernel descriptors were added, so the kernel half must be asked too
  uint32_t references = 0;  // descriptors in all processes
  uint32_t pins = 0;        // calls in progress that must find it alive
  uint64_t inode = 0;       // of the placeholder: identity across exec and SCM_RIGHTS
  Duration receive_timeout = Duration::Infinite();  // SO_RCVTIMEO
  Duration send_timeout = Duration::Infinite();     // SO_SNDTIMEO
};

struct Slot {
  std::atomic<Description*>
      description;  // read without the lock to ask "is it ours?"; changed under it
};

// A thread that sleeps, wherever it is. It wakes by `waiter.wake_word` (futex) or, when it waits on
// kernel descriptors too, by a datagram to its doorbell, an AF_UNIX abstract address.
struct Sleeper {
  Waiter waiter;
  WatchSet own_set;  // for calls that are not epoll_wait
  pid_t pid = 0;
  bool needs_doorbell = false;
  bool holds_device = false;  // it is the one that watches the device
  uint8_t doorbell_length = 0;
  char doorbell[16] = {};  // sun_path bytes, leading NUL included
};

struct Process {
  pid_t pid = 0;            // 0: free
  uint64_t start_time = 0;  // /proc/PID/stat field 22: tells a reused pid
  Slot slots[kMaxDescriptors];
};

}  // namespace userstack::shim
