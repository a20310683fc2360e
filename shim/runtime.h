// Runtime: how this process reaches the stack. Start-up on demand, the lock, sleeping and waking,
// fork and exit. The hooks (dispatch/) call only what is here and in descriptors.h.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdint>

#include "shim/shared.h"

namespace userstack::shim {

enum class Mode : uint8_t {
  kKernel,  // no configuration: everything passes to the kernel (said once on stderr at level info)
  kStack,   // sockets belong to the stack
  kBroken,  // configured, but it cannot be honoured: socket() fails with ENETDOWN (said once on
            // stderr)
};

// The mode, from the environment only; cheap after the first call, safe before constructors, does
// not allocate.
Mode CurrentMode();
// False: there is no configuration. Says nothing and decides nothing.
bool MayHaveStack();

// Attaches this process to its stack (maps the arena, opens the device, starts the pump) when it is
// not yet. 0 or -errno
// (-ENETDOWN after one clear line). Called by the first socket() and never for programs that use
// none.
long Attach();
bool IsAttached();
// When the library is loaded into a program that a wrapped one exec'd: attaches if descriptors of
// the stack were inherited, and adopts them. Silent when there is nothing to adopt.
void AttachInherited();

Process& CurrentProcess();                           // only when attached
bool IsKernelDestination(const Endpoint& endpoint);  // USERSTACK_KERNEL

// Further queues of the device: bit i is queue i + 1.
using QueueMask = uint32_t;

// The lock, held for one call. Construction locks, reads the clock and takes input that is waiting
// on the device; destruction lets the stack advance, sends, wakes sleepers, unlocks. While it
// lives, signal handlers are deferred.
class Session {
 public:
  // kWhenDue: looks at the device when nobody has for some tens of microseconds. kLater: the call
  // looks itself (LookBeside, Poll), once it knows whether it needs to.
  enum class Look : uint8_t { kWhenDue, kLater };
  explicit Session(Look look = Look::kWhenDue);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // True when the stack cannot be used: it was lost to a process that died inside it, or this
  // thread holds it already (a handler of SIGSEGV that calls send). The call returns -ENETDOWN
  // without touching stack(). To be asked after construction and again after Wait.
  bool failed() const { return failed_; }

  Stack& stack();
  Core& core();
  Instant now() const { return now_; }
  // Takes what waits on the device now. To be called before a call says EAGAIN: construction looks
  // at the device only when nobody has for some tens of microseconds.
  // `of`: the only socket that the call is about, whose text may come by a queue of its own;
  // `queues`: those of all that it is about, when they are several.
  void Poll(const Socket* of = nullptr, QueueMask queues = 0);
  // The same before a call that will Wait: not when it will probably sleep for long, because who
  // sleeps on the device sees there what has come.
  void PollBeforeWait(const Socket* of = nullptr);
  // For a call that has found what it came for: looks only when nobody has for so long that others
  // may be waiting for input.
  void LookBeside();
  // The same for a wait that has found something: at the queues of all that it is about.
  void LookBeside(QueueMask queues);
  // The queues of the device by which text of this socket comes, or of those that are waited for in
  // this set.
  QueueMask QueuesOf(const Socket& socket);
  QueueMask QueuesOf(const WatchSet& set);
  // For a call that has kBulk bytes to send, or more: what was sent before may be acknowledged, and
  // its buffers, which are still in the cache, take the new bytes. Beside the copy the look costs
  // little.
  static constexpr size_t kBulk = 65536;
  void LookBeforeBulk();
  // Whether a call with kBulk bytes had better copy them while others use the stack; and how: the
  // caller has pinned what it works on and reserved memory (CurrentSleeper().filling) for the first
  // of these bytes. When it returns the call may have failed, and anything may have changed.
  bool CopiesApart() const;
  void FillApart(const IoVector& from);
  // From now on, until it is called again: the call waits for text of `socket` and has this memory
  // for it (null: no more). What lands there is reported by the next Stack::Receive.
  static void OfferMemory(Socket* socket, void* memory, size_t size);
  // For a call that has found what it came for, and has memory left that it has offered: looks at
  // the device when the next frame is likely to land there. True: something did.
  bool LookForMore();
  // The thread waits for sockets apart from reading them (select, epoll).
  static void NoteWaitApart();
  // The socket, or what the set waits for, is waited for from now on by a thread that watches the
  // first queue of the device only: queues of their own end.
  void ReturnQueue(const Pollable& target);
  // The socket, or the only one of the set, is waited for with others from now on: a queue ends
  // that it got because its reader waits for a request at a time.
  void ReturnRequestQueue(const Pollable& target);
  // The call has read so much of that text: a reader of bulk may get a queue of the device for it.
  void NoteBulk(Socket& socket, size_t received);
  // The call has sent a datagram that others may follow at once: at its end the stack may keep it
  // for them, if it thinks so and the pump is about to look. `certain`: another follows within this
  // very call, whatever the pump does.
  void HoldOutput(bool certain = false) { hold_ = certain ? Hold::kCertain : Hold::kIfKept; }
  // Whether a short write on `connection` will probably be followed by its close at once, so that
  // it may be held for that; and that it was written, and closed.
  bool ExpectsClose() const;
  void NoteWrite(const Description& connection);
  void NoteClose(const Description& connection);
  // The call gives out so many events, and is about to look for the next: between the two, what the
  // thread sends may wait for the end of the batch (BatchEstimate).
  void BeginBatch(int64_t events);
  void EndBatch();
  // Sends what is queued now; for long calls (a blocking send of a gigabyte).
  void Flush();

 private:
  friend struct SessionAccess;
  enum class Hold : uint8_t { kNothing, kIfKept, kCertain };
  Instant now_;
  Hold hold_ = Hold::kNothing;
  bool failed_ = false;
};

// The set is itself waited for in another.
inline bool IsNested(const WatchSet& set) { return !set.pollable.watches.empty(); }
// What `target` belongs to, or what the only watch of the set does, when that is a socket; or null.
Socket* OnlySocket(const Pollable& target);

enum class WaitResult : uint8_t { kStackReady, kKernelReady, kTimedOut, kInterrupted };

struct WaitRequest {
  WatchSet* set = nullptr;   // sleep until it has a ready watch; null: kernel descriptors only
  pollfd* kernel = nullptr;  // descriptors of the kernel to wait on as well; revents are filled in
  unsigned kernel_count = 0;
  Instant deadline = Instant::Never();  // CLOCK_MONOTONIC
  const sigset_t* mask = nullptr;       // as in ppoll; null: unchanged
};

// Sleeps with the session's lock released and returns with it held again, its now() read anew.
// Spurious kStackReady is allowed: callers look again. kInterrupted: a signal handler ran (EINTR or
// restart is the caller's decision: see ShouldRestart).
WaitResult Wait(Session& session, const WaitRequest& request);

// After kInterrupted: true when every handler that ran had SA_RESTART.
bool ShouldRestart();
// Handlers cannot run before the call has returned (a static program's: guest/). One that would be
// restarted returns kHandlersFirst, and is made again by whoever called.
bool MustLeaveForHandlers();
inline constexpr long kHandlersFirst = -512;  // ERESTARTSYS, which no program sees

// The calling thread's sleeper (with the lock held): its own_set serves poll, select and
// single-socket waits. Never null when attached.
Sleeper& CurrentSleeper();

Instant MonotonicNow();

// fork: called around the real fork by its hook. PrepareFork reserves the child's Process, copies
// the slots and counts the references, with the lock held; exactly one of the other two follows in
// each process.
void PrepareFork();
void ForkInParent(pid_t child);  // -1: the fork failed
void ForkInChild();

// vfork: a child that shares our memory must not run hooks on it. The hook answers vfork with fork,
// and lets the parent wait until the child has exec'd or ended, as vfork does. Signals are held
// back from construction to RestoreSignals, in both.
class VforkWait {
 public:
  VforkWait();
  void HoldInChild();
  void WaitInParent(pid_t child);  // -1: the fork failed
  void RestoreSignals();

 private:
  struct Page;
  Page* page_ = nullptr;
  uint64_t mask_ = 0;
};
// posix_spawn: PrepareFork, PrepareExec, the real posix_spawn, ExecFailed, ForkInParent(pid or -1).

// exec: called before the real execve. Makes the stack's descriptors inheritable; undone when exec
// fails. Returns an assignment for the new program's environment ("USERSTACK_ATTACH=..."; replaces
// an old one), nullptr when there is nothing to hand on. It needs no lock and is safe after fork.
const char* PrepareExec();
void ExecFailed();

// Process end: exit handlers, _exit, exit_group. Drops this process's references; forks the
// successor if work is left.
void ProcessExit();

// The shared state of the stack; only when attached.
Shared& CurrentShared();

// Descriptors of our own (arena, device, doorbells) that the program must not close or see.
bool IsInternalDescriptor(int fd);
// The first of them at or above `from`, or -1: for close_range, which has to go around them.
int NextInternalDescriptor(int from);

// While it lives, RLIMIT_NOFILE is what the program set: the library, which raises it for a moment
// for a number of its own, waits, and so does who else holds it. Where no handler can run.
class NumberLimit {
 public:
  NumberLimit();
  ~NumberLimit();
  NumberLimit(const NumberLimit&) = delete;
  NumberLimit& operator=(const NumberLimit&) = delete;

 private:
  bool holds_;
};

// setrlimit(RLIMIT_AS) for a program that has a stack or will have one: what the library maps comes
// on top. 0 or -errno.
long SetAddressLimit(const rlimit& limit);
// What the kernel says of RLIMIT_AS, as the program set it.
void DiscountAddressLimit(rlimit* limit);

enum class LogLevel : uint8_t { kError, kWarn, kInfo, kDebug };
// One line to stderr or USERSTACK_LOG_FILE, prefixed "userstack: ", printf format; never allocates;
// keeps errno.
[[gnu::format(printf, 2, 3)]] void Log(LogLevel level, const char* format, ...);

}  // namespace userstack::shim
