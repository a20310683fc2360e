// Watch: see watch.h. Owner of the table of sites: whoever holds g_making; it is read without.
#include "shim/rewrite/watch.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <ucontext.h>

#include <algorithm>
#include <cerrno>

#include "shim/real.h"
#include "shim/rewrite/entry.h"
#include "shim/rewrite/maps.h"
#include "shim/rewrite/proved_site.h"
#include "shim/rewrite/site.h"
#include "shim/runtime.h"

namespace userstack::shim {

constinit std::atomic<bool> g_watching{false};
constinit std::atomic<bool> g_executable_memory_matters{false};

namespace {

using rewrite::AddressRange;
using rewrite::kStubReal;
using rewrite::Mapping;

constexpr long kSetDispatch = 59;      // PR_SET_SYSCALL_USER_DISPATCH
constexpr long kDispatchOn = 1;        // everything but a range
constexpr int kDispatchedCode = 2;     // si_code SYS_USER_DISPATCH
constexpr size_t kSites = 16384;       // as many as there are stubs
constexpr size_t kTable = 2 * kSites;  // a power of two
constexpr size_t kMostCode = 1024;
// Neighbours in memory that are so close are taken together; code that is made later goes
// elsewhere.
constexpr uint64_t kNearby = 256 << 10;

struct ProvedSite {
  std::atomic<uint64_t> next;  // behind its `syscall`; 0: free
  std::atomic<uint64_t> stub;
};

constinit ProvedSite g_sites[kTable] = {};
constinit rewrite::ForkableLock g_making;
constinit KnownCode g_code[kMostCode] = {};
constinit std::atomic<size_t> g_code_count{0};
// Sent to threads that are to be watched.
constinit const char g_request = 0;

size_t PlaceOf(uint64_t next) { return (next * 0x9e3779b97f4a7c15 >> 40) % kTable; }

// The stub of the site, or 0.
uint64_t Find(uint64_t next) {
  for (size_t i = PlaceOf(next);; i = (i + 1) % kTable) {
    const uint64_t key = g_sites[i].next.load(std::memory_order_acquire);
    if (key == next) return g_sites[i].stub.load(std::memory_order_relaxed);
    if (key == 0) return 0;
  }
}

void Remember(uint64_t next, uint64_t stub) {
  size_t i = PlaceOf(next);
  while (g_sites[i].next.load(std::memory_order_relaxed) != 0) i = (i + 1) % kTable;
  g_sites[i].stub.store(stub, std::memory_order_relaxed);
  g_sites[i].next.store(next, std::memory_order_release);
}

bool HasSmallStack(uint64_t address) {
  const size_t count = g_code_count.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    if (g_code[i].small_stack && g_code[i].range.Holds(address)) return true;
  }
  return false;
}

// Unless its bytes are part of a neighbour's jump, or a neighbour's part of its own.
void RewriteInPlace(uint64_t next, uint64_t stub) {
  for (uint64_t distance = 1; distance < rewrite::kProvedSiteBytes; ++distance) {
    if (Find(next - distance) != 0 || Find(next + distance) != 0) return;
  }
  rewrite::RewriteProvedSite(next - rewrite::kSyscallSize, stub + rewrite::kStubThunk);
}

uint64_t Make(uint64_t next) {
  const rewrite::ForkableGuard making(g_making);
  const uint64_t made = Find(next);  // by another thread, meanwhile
  if (made != 0) return made;
  long error = 0;
  const uint64_t stub = rewrite::TakeStubs(1, &error);
  if (stub == 0) return 0;
  uint8_t bytes[rewrite::kStubSize];
  const auto entry =
      HasSmallStack(next - 1) ? userstack_rewrite_entry_small : userstack_rewrite_entry;
  rewrite::MakeStub({next, next, entry}, stub, bytes);
  if (rewrite::CodeWriter().Write(stub, bytes, nullptr, sizeof bytes) != 0) return 0;
  RewriteInPlace(next, stub);
  Remember(next, stub);
  return stub;
}

// Without a stub the call is made here, which is right for all but those whose child or mask would
// be this handler's.
void Answer(greg_t* registers) {
  const long number = registers[REG_RAX];
  const long arguments[] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                            registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
  if (userstack_rewrite_concerns(number, arguments)) {
    const rewrite::Answer answer = userstack_rewrite_call(number, arguments);
    if (answer.handled == rewrite::kAnswered) {
      registers[REG_RAX] = answer.result;
      return;
    }
  }
  registers[REG_RAX] = RawSyscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                                  arguments[4], arguments[5]);
}

void OnSystemCall(int signal, siginfo_t* info, void* context) {
  if (info->si_code != kDispatchedCode) {
    const bool asked = info->si_code == SI_QUEUE && info->si_value.sival_ptr == &g_request &&
                       info->si_pid == RawSyscall(SYS_getpid);
    if (asked) {
      WatchThread();
    } else {
      ForwardWatchSignal(signal, info, context);
    }
    return;
  }
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto next = static_cast<uint64_t>(registers[REG_RIP]);
  uint64_t stub = Find(next);
  if (stub == 0) stub = Make(next);
  if (stub == 0) {
    Answer(registers);
    return;
  }
  // The entry is reached as from a trampoline; rcx is free, `syscall` would have overwritten it.
  registers[REG_RIP] = static_cast<greg_t>(stub + rewrite::kStubThunk);
}

// --- the range ---

// Whether the code at `mapping` needs no watching.
bool IsVerified(const Mapping& mapping) {
  const size_t count = g_code_count.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    const AddressRange& range = g_code[i].range;
    if (range.begin < mapping.range.end && mapping.range.begin < range.end) {
      return g_code[i].verified;
    }
  }
  return false;
}

AddressRange UnwatchedRange() {
  const AddressRange own = rewrite::OwnRange();
  AddressRange range = own;
  AddressRange below = own;  // the verified neighbours in front so far
  bool has_below = false;
  bool growing = true;
  rewrite::MapsReader maps;
  for (Mapping mapping; maps.Next(&mapping);) {
    if (!mapping.executable) continue;
    const AddressRange& code = mapping.range;
    if (code.begin < own.end && own.begin < code.end) continue;
    if (code.end <= own.begin) {
      const bool verified = IsVerified(mapping);
      if (verified && !(has_below && code.begin - below.end <= kNearby)) below.begin = code.begin;
      below.end = code.end;
      has_below = verified;
    } else if (growing) {
      growing = IsVerified(mapping) && code.begin - range.end <= kNearby;
      if (growing) range.end = code.end;
    }
  }
  if (has_below && own.begin - below.end <= kNearby) range.begin = below.begin;
  return range;
}

void Publish(const AddressRange& range) {
  userstack_rewrite_unwatched[1] = range.end - range.begin;
  userstack_rewrite_unwatched[0] = range.begin;
}

long Ask() {
  return RawSyscall(SYS_prctl, kSetDispatch, kDispatchOn,
                    static_cast<long>(userstack_rewrite_unwatched[0]),
                    static_cast<long>(userstack_rewrite_unwatched[1]), 0);
}

// The other threads ask for themselves, in a handler: there is no other way.
void RequestOfOthers() {
  const long process = RawSyscall(SYS_getpid);
  const long self = RawSyscall(SYS_gettid);
  const backend::OwnedDescriptor tasks(
      static_cast<int>(backend::KernelOpen("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  alignas(8) char entries[2048];
  for (;;) {
    const long size = RawSyscall(SYS_getdents64, tasks.get(), Word(entries), sizeof entries);
    if (size <= 0) return;
    for (long at = 0; at < size;) {
      // struct linux_dirent64: inode, offset, length, type, name.
      constexpr long kLength = 16;
      constexpr long kName = 19;
      long thread = 0;
      for (const char* c = entries + at + kName; *c >= '0' && *c <= '9'; ++c) {
        thread = thread * 10 + (*c - '0');
      }
      at += *reinterpret_cast<const uint16_t*>(entries + at + kLength);
      if (thread == 0 || thread == self) continue;
      siginfo_t info{};
      info.si_signo = SIGSYS;
      info.si_code = SI_QUEUE;
      info.si_pid = static_cast<pid_t>(process);
      info.si_value.sival_ptr = const_cast<char*>(&g_request);
      RawSyscall(SYS_rt_tgsigqueueinfo, process, thread, SIGSYS, Word(&info));
    }
  }
}

}  // namespace

void DescribeCode(const KnownCode* code, size_t count) {
  const rewrite::ForkableGuard making(g_making);
  g_code_count.store(0, std::memory_order_release);
  count = std::min(count, kMostCode);
  std::copy(code, code + count, g_code);
  g_code_count.store(count, std::memory_order_release);
}

void WatchThread() {
  if (!g_watching.load(std::memory_order_acquire)) return;
  OpenWatchSignal();
  Ask();
}

bool WatchProcess(const char* reason) {
  if (g_watching.load(std::memory_order_acquire)) return true;
  static constinit std::atomic<bool> given_up{false};
  if (given_up.load()) return false;
  Publish(UnwatchedRange());
  long error = TakeWatchSignal(OnSystemCall);
  if (error == 0) {
    OpenWatchSignal();
    error = Ask();
  }
  if (error != 0) {
    given_up = true;
    Log(LogLevel::kWarn,
        "USERSTACK_REWRITE: %.200s cannot be watched: no Syscall User Dispatch (errno %ld); its "
        "system calls are reached by symbols only",
        reason, -error);
    return false;
  }
  g_watching.store(true, std::memory_order_release);
  RequestOfOthers();
  Log(LogLevel::kInfo, "system calls are watched, because of %.200s; all but those of %lx-%lx",
      reason, userstack_rewrite_unwatched[0],
      userstack_rewrite_unwatched[0] + userstack_rewrite_unwatched[1]);
  return true;
}

void OnExecutableMemory(uint64_t begin, uint64_t end) {
  if (!WatchProcess("code that is made at run time")) return;
  const uint64_t unwatched = userstack_rewrite_unwatched[0];
  if (begin >= unwatched + userstack_rewrite_unwatched[1] || end <= unwatched) return;
  const AddressRange own = rewrite::OwnRange();
  if (begin < own.end && own.begin < end) return;  // the stubs themselves
  Publish(own);
  Ask();
  RequestOfOthers();
}

}  // namespace userstack::shim
