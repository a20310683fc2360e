// Internal: what the files behind runtime.h share with each other. Nothing here is for dispatch/.
//
// Owners: `g_local` belongs to this process and is written under the attach lock or, in a forked
// child, by its only thread; `t_state` belongs to its thread and its signal handlers.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "backend/device.h"
#include "shim/batch_estimate.h"
#include "shim/config.h"
#include "shim/descriptors.h"
#include "shim/outbox.h"
#include "shim/reply_estimate.h"
#include "shim/runtime.h"
#include "shim/wait_estimate.h"

namespace userstack::shim {

// --- this process ---

inline constexpr unsigned kMaxDeviceDescriptors = 16;

struct Local {
  pid_t pid = 0;
  Process* process = nullptr;
  backend::Device* device = nullptr;
  bool problem_reported = false;  // the device's; guarded by the stack's lock
  bool no_queues = false;         // the device's further queues cannot be opened; likewise
  int arena_descriptor = -1;
  int listener_descriptor = -1;  // rendezvous
  int ringer_descriptor = -1;    // sends to doorbells
  std::atomic<bool> pump_started{false};
  std::atomic<uint32_t> pump_apart{0};  // futex: it has left the program's descriptors
  bool exited = false;                  // ProcessExit has run
  // A page that is zero in a forked child: tells of a fork that no hook saw.
  std::atomic<uint32_t>* fork_mark = nullptr;
};
extern Local g_local;

// --- descriptors (descriptors.cc) ---
void UnpinFrom(Sleeper& sleeper, Description* description, Instant now);
// After a death in the middle of counting: counts anew, and drops what nobody has.
void RecountReferences(Instant now);

// --- this thread ---

inline constexpr unsigned kMaxDeferredSignals = 8;

// What one thread reads from one socket, or from any (null), to see whether that is bulk.
struct BulkReader {
  const Socket* socket = nullptr;
  Instant since;
  uint64_t bytes = 0;
};

// How often this thread, which waits for one socket alone, was in the way of others of the stack,
// or they in its.
struct Crossings {
  const Socket* socket = nullptr;
  Instant since;
  unsigned count = 0;
};

struct ThreadState {
  Sleeper* sleeper = nullptr;
  // Read by signal handlers of this thread.
  volatile bool in_session = false;     // it holds the lock, or is about to
  volatile bool waiting = false;        // asleep in Wait: in the stack's queues, without the lock
  volatile bool wait_detached = false;  // a handler took it out of them
  volatile uint32_t deferred_count = 0;
  volatile uint32_t handlers_run = 0;
  // A static program's handler was put off until it leaves us (guest/): no sleep may begin.
  volatile bool leaves_for_handlers = false;
  volatile bool all_restart = true;            // every handler since Wait began had SA_RESTART
  timespec* volatile sleep_timeout = nullptr;  // a handler zeroes it: the sleep that has not begun
                                               // ends at once
  sigset_t saved_mask = {};
  siginfo_t deferred[kMaxDeferredSignals] = {};
  // Waits that a handler interrupted and may have jumped out of (signals.cc).
  Sleeper* suspended = nullptr;
  const void* suspended_frame = nullptr;
  int doorbell = -1;
  pid_t tid = 0;
  WaitEstimate estimate;
  ReplyEstimate replies;
  BatchEstimate batch;
  // Where its call wants text of that socket (Session::OfferMemory).
  Socket* landing_socket = nullptr;
  void* landing_memory = nullptr;
  size_t landing_size = 0;
  // The connection that it last read with room for a frame, and how often it has read since it last
  // waited apart.
  const void* reads_from = nullptr;
  unsigned reads_since_wait = ~0u;
  bool waited_apart = false;           // its last wait was for queues of connections' own
  const WatchSet* waits_in = nullptr;  // its last wait's set, which may be gone: to compare only
  unsigned queue_turn = 0;             // of several queues that it waits for, the last it took from
  Crossings crossings;
  unsigned queue = 0;  // the device's, by which that text comes
  BulkReader bulk;
  pollfd* poll_buffer = nullptr;
  size_t poll_capacity = 0;
  Outbox* outbox = nullptr;
  uint32_t refused = 0;  // frames of the outbox, by the device
  bool is_pump = false;
  bool own_files = false;  // its descriptor table is its own, not the program's
  bool forking = false;    // between PrepareFork and what follows, lock held
  // Of hooks/catching.cc: what the kernel reads at each of this thread's system calls, and where
  // the call began whose system calls are caught; null: none.
  volatile uint8_t catching_selector = 0;
  const void* catching_frame = nullptr;
};
extern constinit thread_local ThreadState t_state __attribute__((tls_model("initial-exec")));

// --- configuration (mode.cc) ---
// Valid once CurrentMode() has returned kStack; never changes after.
const Config& CurrentConfig();
// From now on the stack cannot be had in this process.
void BreakMode();
// USERSTACK_RESOLV_CONF is configured (and CurrentMode() has been asked).
extern bool g_replaces_files;

// --- log (log.cc) ---
void ConfigureLog(LogLevel level, const char* file);
int LogDescriptor();
// Called before the line of a failed Check is written (audit.cc).
void OnCheckFailed(const char* what);

// --- the limit of the address space (address_limit.cc) ---
// Before an arena is mapped in a process whose parent had none: raises the limit as far as it goes.
void MakeAddressRoom();
// `memory`, or what a limit that could not be raised leaves for it.
uint64_t MemoryWithinLimit(uint64_t memory);

// --- our own descriptors (internal_descriptors.cc) ---
// Moves `fd` above the program's numbers, close-on-exec, and marks it ours. Returns the new number,
// or -errno (then `fd` is closed too).
int MoveInternal(int fd);
// A descriptor that already is where it should be (inherited).
void MarkInternal(int fd);
// Closes every descriptor that is not ours. `unshare`: in a table of this thread's own from now on,
// so that nothing it opens takes a number of the program's; false when the kernel cannot.
bool CloseAllButInternal(bool unshare);
void CloseInternal(int fd);
// One more number for `fd`, ours, close-on-exec; -errno also when it would be one of those that the
// program may have.
long DuplicateBeyond(int fd);

// While it lives, descriptors may be made at floor() or above. Short, and where no handler can run.
class HighNumbers {
 public:
  HighNumbers();
  ~HighNumbers();
  HighNumbers(const HighNumbers&) = delete;
  HighNumbers& operator=(const HighNumbers&) = delete;
  int floor() const { return floor_; }
  // The program is not likely to miss them.
  bool beyond() const { return beyond_; }

 private:
  const NumberLimit limit_;
  uint64_t soft_ = 0;
  uint64_t hard_ = 0;
  int floor_ = 3;
  bool raised_ = false;
  bool beyond_ = false;
};

// --- the arena (arena_map.cc) ---
// Maps `size` bytes of `fd` at kArenaAddress. 0 or -errno (-EEXIST: the address is taken).
long MapArena(int fd, size_t size);
void UnmapArena(size_t size);
// A new arena: an unlinked file in memory. Its descriptor (internal) or -errno.
int CreateArenaFile(size_t size);
// The size of an arena's file that was handed over; 0 when `fd` is none, is too small for one, or
// could shrink under us.
uint64_t ArenaFileSize(int fd);
// Formats the mapped arena: Shared, then the stack. Null: too small.
Shared* FormatArena(size_t size, const Config& config);
// Finds Shared in a mapped arena. Null: not one of ours, or made by another build.
Shared* FindShared();
// This library's build: the same in every process that may share a stack.
void BuildIdentity(uint8_t (&identity)[32]);

// --- the lock (lock.cc) ---
void InitializeLock(pthread_mutex_t* mutex);
// False: the stack is lost; the lock is not held then. The caller has set t_state.in_session.
bool LockShared();
void UnlockShared();
// Without the lock: has anybody that lives taken it?
bool IsLockTaken();
// Tries for so long to take a mutex of another purpose (the pump's lease): *got. True when the
// owner before died.
bool LockRobust(pthread_mutex_t* mutex, Duration patience, bool* got);

// --- repair (repair.cc) ---
// Finds the list that a dead owner left in the middle of a change, and mends it. Returns how many
// nodes were mended (at most one per death).
unsigned RepairLists();

// --- audit (audit.cc) ---
// After the death of a process that held the lock: true when the stack can be used.
bool AuditAfterDeath();

// --- session (session.cc) ---
struct SessionAccess {
  static void SetNow(Session& session, Instant now) { session.now_ = now; }
  static void SetFailed(Session& session) { session.failed_ = true; }
};
// Sets in_session, locks, makes the thread's sleeper. False: failed.
bool EnterStack();
// Unlocks, wakes whoever was found ready, and lets deferred signals in.
void LeaveStack();
// Takes what waits on the device: everything (within bounds), or at most one packet. Returns how
// many there were.
size_t TakeInput(Instant now);
size_t TakeOne(Instant now);
size_t TakeOneOf(unsigned queue, Instant now);
// Lets the stack advance and puts out what it has; `all`: what is held for more to follow too.
void Drain(Instant now, bool all = true);
// Says once what went wrong with the device. Not from a thread that has no stderr.
void ReportProblem();

// With the lock, at its end: whoever sleeps on the device keeps the deadline that there is now.
void KeepDeadline();
// Lets go of the lock, wakes who was found ready, and writes what does not need it. Handlers stay
// put off.
void LetGo();
// The lock again after LetGo. False: failed, and handlers have run.
bool TakeAgain();

// --- what a thread does for the stack without its lock (apart.cc) ---
// With the lock: whether others had to sleep for it lately, and nothing holds the device up.
bool IsContended(Instant now);
// With the lock, for each frame in the order of the stack. True: this thread has it, or who carries
// its flow already, and writes it after the lock.
bool Carry(Frame* frame, bool contended);
struct CarriedFrames {
  static constexpr unsigned kMost = 8;
  unsigned count = 0;
  Frame* frames[kMost];
};
// With the lock: the first frames of this thread's.
CarriedFrames FirstCarried();
// Without it: writes these and what has come behind them.
void WriteCarried(CarriedFrames frames);
// What a thread that is no more was at.
void DropApart(Sleeper* sleeper);

// --- the device's further queues (queues.cc) ---
// This thread has read so much from `socket` at once: it may get a queue for it.
void NoteBulk(Socket& socket, size_t received, Instant now);
// The same of a thread that waits for several sockets and then reads: all that it has read counts.
void NoteBulkOfSeveral(Socket& socket, size_t received, Instant now);
// The open queues of sockets that are waited for in `set`.
QueueMask QueuesOf(const WatchSet& set);
// Takes frames until the socket whose queue it is can be read, if there are so many.
size_t TakeUntilReadable(unsigned queue, Instant now);
// The same of each of these at which nobody has looked for so long.
void TakeUnseen(QueueMask queues, Instant now, Duration unseen);
// Takes one frame of the first of these queues that has any.
void TakeFirstOf(QueueMask queues, Instant now);
// Their connections use the first queue from now on.
void ReturnQueues(QueueMask queues, Instant now);
// What ppoll is to wait for on these queues, and which of them it found readable.
size_t AddEntries(QueueMask queues, pollfd* entries);
QueueMask ReadableOf(QueueMask queues, const pollfd* entries);
// A wait in `set`, for nothing but `socket`: this thread took what was for others from the device,
// or they took what was for it. It may get a queue for it.
void NoteCrossing(Socket& socket, const WatchSet& set, Instant now);
// The queue is one whose reader waits for a request at a time.
bool IsForRequests(unsigned queue);
// Takes what is on one queue, within TakeInput's bounds.
size_t TakeQueue(unsigned queue, Instant now);
void NoteLook(unsigned queue, bool found, Instant now);
// Looks at open queues at which nobody has looked lately. HasForgotten: without the lock.
void TakeForgotten(Instant now);
bool HasForgotten(Instant now);
bool HasOpenQueues();
// The pump's part: looks at what is forgotten, and closes what nobody needs.
void TendQueues(Instant now);

// --- sleepers (sleepers.cc) ---
// This thread's record, with the lock. Null: out of memory.
Sleeper* NewSleeper();
// With the lock: of a thread that ends, or is no more.
void ReleaseSleeper(Sleeper* sleeper, Instant now);
// Rings or wakes one sleeper, or all of them. Without or with the lock.
void WakeSleeper(const Sleeper& sleeper);
void WakeEverybody();
// This thread's doorbell, made when missing; false: it cannot be had.
bool EnsureDoorbell(Sleeper& sleeper);
void DrainDoorbell();
void SendRing(const Sleeper& sleeper);

// --- waiting (wait.cc) ---
// With the lock; the pump looks without it.
inline void SetAttendant(Sleeper* sleeper) {
  __atomic_store_n(&g_shared->attendant, sleeper, __ATOMIC_RELEASE);
}
// With the lock: `sleeper` no longer watches the device.
void StopAttending(Sleeper* sleeper);
// Takes a thread that a handler interrupts out of the queues (from the trampoline).
void DetachWait();

// --- signals (signals.cc; see signals.h) ---
// Raises again what came during the session, with the mask that the program had.
void DeliverDeferredSignals();
// A forked child: what was put off is its parent's.
void ForgetDeferredSignals();
// With the lock: a wait that a handler left by siglongjmp is over.
void DropAbandonedWait();

// At the end of a thread: what its sleeps in ppoll used.
void ForgetPollBuffer();

// --- pump (pump.cc) ---
void EnsurePump();
void RingPump();
void ForgetPump();  // in a forked child
// A newcomer that cannot share this stack wants its device. True: nobody else uses it, and it will
// be free soon.
bool YieldToNewcomer();
// The successor's main loop: until no work is left. Returns.
void PumpUntilDone(Instant deadline);

// --- processes (process.cc) ---
Process* NewProcess(pid_t pid);
uint64_t StartTimeOf(pid_t pid);  // 0: unknown
// The main thread has ended by pthread_exit and all others but one have ended too.
bool IsLastThread();
bool CannotRun(pid_t thread);  // stopped, by SIGSTOP or a tracer, or dead
// With the lock: records of live processes, those reserved for children being forked included.
unsigned AttachedProcesses();
void ReapProcess(Process& process, Instant now);
// In a forked process that is no program's: it has no record and no descriptors of its own.
void BecomeSuccessor();
// After a fork that no hook saw.
void AdoptAfterSilentFork();
// Keeps those slots of `process` whose descriptors are still there (after exec).
void RevalidateSlots(Process& process, Instant now);
// Finds placeholders among our descriptors and installs them (after a spawn that was not seen).
void ScanDescriptors(Process& process);
void OnThreadExit(void* unused);
void InitializeThreadExit();
void AnnounceThread();

// --- devices that were opened for us (handed_over.cc) ---
// Copies of the descriptors, ours; 0: there are none.
unsigned TakeHandedOver(int (&descriptors)[kMaxDeviceDescriptors]);

// --- rendezvous (rendezvous.cc) ---
class SignalsHeld;
struct Handover {
  int arena = -1;
  int listener = -1;
  int device[kMaxDeviceDescriptors] = {};
  unsigned device_count = 0;
  uint64_t memory = 0;
};
enum class Meeting : uint8_t { kNobody, kJoined, kRefused };
// Asks whoever holds the device for the stack. kRefused: one line was written.
Meeting MeetHolder(const Config& config, const SignalsHeld& held, Handover* handover);
// The socket that newcomers meet at, bound but not listening; -EADDRINUSE: somebody else holds it.
int BindListener(const Config& config);
void StartListening(int listener);
// Answers one newcomer, if there is one.
void ServeNewcomer();

// --- rights that nobody took (stray.cc) ---
void ReleaseStrayRights();

// --- successor (successor.cc) ---
void SpawnSuccessor();

}  // namespace userstack::shim
