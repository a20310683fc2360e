// Shared: the shim's part of the arena, beside the stack: the lock, the attached processes and
// their descriptors, the sleeping threads. Every process of one stack maps it at the same address
// (kArenaAddress).
//
// Owner: `lock`, a robust process-shared mutex, except where a field says "atomic". After
// EOWNERDEAD the next owner audits. Invariants: 1. description->references equals the number of
// slots that point at it, in all live processes.
// 2. description->pins equals the number of entries in the sleepers' `pinned` that name it.
// 3. A Process with pid 0 is free, and its slots are all null.
// 4. A frame whose flow is in `carried` is on that sleeper's list, or not yet out of the stack.
// 5. A watch with descriptor >= 0 is an epoll item and is freed with its target or its set; one
// with descriptor -1 belongs to the call that made it, which frees it.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/stack/stack.h"

namespace userstack::shim {

// Far from heaps, libraries and shadows: 32 TiB, but with the thread sanitizer, which keeps its own
// there, below 512 GiB.
#ifdef __SANITIZE_THREAD__
inline constexpr uintptr_t kArenaAddress = 0x4000000000;
#else
inline constexpr uintptr_t kArenaAddress = 0x200000000000;
#endif
inline constexpr unsigned kMaxProcesses = 512;
inline constexpr unsigned kMaxDescriptors = 65536;  // numbers from here on are refused with EMFILE
inline constexpr unsigned kMaxPins = 8;             // descriptions that one thread holds at once

// An open file description of the stack: what dup and fork share.
struct Description {
  enum class Kind : uint8_t { kSocket, kEpoll };
  Kind kind = Kind::kSocket;
  bool nonblocking = false;  // O_NONBLOCK
  bool async = false;        // O_ASYNC
  bool missed = false;       // the last look found nothing, without asking the device
  bool carried = false;      // data has gone through the stack: it cannot become the kernel's
  bool epoll_has_kernel =
      false;  // kEpoll: kernel descriptors were added, so the kernel half must be asked too
  bool unfit = false;  // others may hold its placeholder, or it was changed: not to be used again
  int8_t spare = -1;   // which of its process's spares it is made of (spares.h); -1: of none
  Socket* socket = nullptr;   // kSocket
  WatchSet* epoll = nullptr;  // kEpoll: the stack's half; the kernel epoll is the descriptor itself
  uint32_t references = 0;    // descriptors in all processes
  uint32_t in_flight = 0;     // references that are no slot: messages that carry it (SCM_RIGHTS)
  uint32_t pins = 0;          // calls in progress that must find it alive
  uint32_t placed = 0;        // Shared::placements when it got its placeholder; 0: a new one
  uint64_t inode = 0;         // of the placeholder: identity across exec and SCM_RIGHTS
  Duration receive_timeout = Duration::Infinite();  // SO_RCVTIMEO
  Duration send_timeout = Duration::Infinite();     // SO_SNDTIMEO
  ListNode node;                                    // on Shared::all_descriptions
  ListNode flight_node;                             // on Shared::in_flight, while in_flight > 0
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
  pid_t tid = 0;
  bool needs_doorbell = false;  // atomic: it sleeps in ppoll, not on the futex
  uint8_t doorbell_length = 0;
  char doorbell[16] = {};  // sun_path bytes, leading NUL included
  uint8_t pinned_count = 0;
  Description* pinned[kMaxPins] = {};
  // What its thread is at without the lock (apart.cc): frames that it writes to the device, in
  // order, and memory that it fills.
  List<Frame, &Frame::node> carried;
  tcp::SendChunks filling;
  ListNode node;  // on Shared::all_sleepers
};

struct Process {
  pid_t pid = 0;            // 0: free; -1: reserved for a child that is being forked
  pid_t parent = 0;         // of a reserved one: who reserved it
  uint64_t start_time = 0;  // /proc/PID/stat field 22: tells a reused pid
  unsigned slot_limit = 0;  // every slot from here on is null
  bool executing = false;   // between PrepareExec and the new program's Attach
  bool exiting = false;     // ProcessExit has run: not counted as attached
  Slot slots[kMaxDescriptors];
};

// What the pump is doing (see pump.cc).
enum class PumpState : uint32_t { kNone, kParked, kTicking, kAttending };

// One further queue of the device, while it is open (queues.cc).
struct QueueUse {
  int64_t looked = 0;     // atomic, ns: when it was read last
  int64_t filled = 0;     // ns: when it had something
  bool requests = false;  // atomic: its reader waits for a request at a time
};

// A flow some frames of which are on `by`'s list: what follows them goes there too.
struct CarriedFlow {
  const void* flow = nullptr;
  const Sleeper* by = nullptr;
};

struct Shared {
  static constexpr unsigned kMostCarriedFlows = 32;
  static constexpr uint64_t kMagic = 0x7573657273746b31;  // "userstk1"
  uint64_t magic = 0;
  uint8_t build[32] = {};         // the library that made this; another build must not touch it
  char configuration[1024] = {};  // DescribeStack of who made it
  pid_t creator = 0;
  Arena* arena = nullptr;
  Stack* stack = nullptr;
  pthread_mutex_t lock;       // the stack's lock
  pthread_mutex_t pump_lock;  // the pump's lease: held for life by the process that pumps
  const tcp::Connection* suspect = nullptr;  // what an audit looks at
  bool failed = false;                       // an audit found the stack beyond repair; atomic

  // The device. `attendant` (SetAttendant) is the sleeper that watches it, asleep or polling; null:
  // nobody does.
  Sleeper* attendant = nullptr;
  Sleeper* pump = nullptr;
  PumpState pump_state = PumpState::kNone;  // atomic
  int64_t attended_until = 0;               // ns: when the attendant wakes at the latest
  int64_t next_deadline = 0;                // atomic, ns: the stack's, as the last session left it
  int64_t last_poll = 0;                    // atomic, ns: when the device was read last
  int64_t pump_looks_at = 0;  // atomic, ns: when a ticking pump wakes next; 0: nobody knows
  int64_t pump_hurry = 0;     // atomic, ns: when somebody last wanted it to tick fast
  uint64_t sessions = 0;      // atomic: activity, for the pump
  bool output_held = false;   // atomic: something waits for more to follow it
  int64_t held_until = 0;     // atomic, ns: what a batch of events sends goes by then; 0: nothing
  int64_t contended_at = 0;   // ns: when somebody last had to sleep for the lock
  bool device_busy = false;   // atomic: it refused a frame: wait for POLLOUT too
  uint32_t placements = 0;    // placeholders that were used again
  uint32_t open_queues = 0;   // atomic: bit i is queue i + 1
  QueueUse queue_use[DeviceQueues::kMost];
  uint32_t carried_flows = 0;  // bit i: carried[i] is in use
  CarriedFlow carried[kMostCarriedFlows];
  uint32_t local_generation = 0;    // Ip::local_generation() that the device knows
  uint64_t process_generation = 0;  // atomic: the pump looks at the processes again

  // Allocation for dispatch/: epoll sets, and the watches of epoll items and of calls in progress.
  Pool<Description> descriptions;
  Pool<WatchSet> watch_sets;
  Pool<Watch> watches;
  Pool<Sleeper> sleepers;
  List<Description, &Description::node> all_descriptions;
  List<Description, &Description::flight_node> in_flight;
  List<Sleeper, &Sleeper::node> all_sleepers;
  Process* processes[kMaxProcesses] = {};
};

// This process's view of the arena; null until attached.
extern Shared* g_shared;

}  // namespace userstack::shim
