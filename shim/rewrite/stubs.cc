// Stubs: see stubs.h.
#include "shim/rewrite/stubs.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

// The linker's: where this object begins.
extern "C" [[gnu::visibility("hidden")]] const char __ehdr_start[];

namespace userstack::shim::rewrite {
namespace {

using backend::SystemCall;

constexpr uint8_t kJump = 0xe9;  // jmp rel32

constinit std::atomic<size_t> g_used{0};

uint64_t Begin() { return reinterpret_cast<uint64_t>(userstack_rewrite_stubs); }
uint64_t End() { return reinterpret_cast<uint64_t>(userstack_rewrite_stubs_end); }

enum State : int { kUnused, kBeingMade, kReady };

long MakeExecutable() {
  static constinit std::atomic<int> state{kUnused};
  int expected = kUnused;
  while (!state.compare_exchange_strong(expected, kBeingMade)) {
    if (expected == kReady) return 0;
    SystemCall(SYS_sched_yield);
    expected = kUnused;
  }
  // A new mapping, not mprotect: some policies refuse what becomes executable later.
  const long result = SystemCall(SYS_mmap, static_cast<long>(Begin()),
                                 static_cast<long>(End() - Begin()), PROT_READ | PROT_EXEC,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  const bool failed = result < 0 && result > -4096;
  state.store(failed ? kUnused : kReady);
  return failed ? result : 0;
}

struct FreeRun {
  uint64_t first;
  size_t count;
};

// Never destroyed: a library may be closed by a destructor.
std::vector<FreeRun>& FreeRuns() {
  static std::vector<FreeRun>& runs = *new std::vector<FreeRun>;
  return runs;
}

void JumpTo(uint64_t target, uint64_t address, uint8_t* out) {
  const auto displacement = static_cast<int32_t>(target - (address + 5));
  out[0] = kJump;
  memcpy(out + 1, &displacement, sizeof displacement);
}

}  // namespace

AddressRange OwnRange() { return {reinterpret_cast<uint64_t>(__ehdr_start), End()}; }

uint64_t TakeStubs(size_t count, long* error) {
  *error = MakeExecutable();
  if (*error != 0) return 0;
  const size_t capacity = (End() - Begin()) / kStubSize;
  size_t used = g_used.load();
  do {
    if (capacity - used < count) {
      *error = -ENOSPC;
      return 0;
    }
  } while (!g_used.compare_exchange_weak(used, used + count));
  return Begin() + used * kStubSize;
}

uint64_t ReuseStubs(size_t count) {
  for (FreeRun& run : FreeRuns()) {
    if (run.count < count) continue;
    const uint64_t first = run.first;
    run.first += count * kStubSize;
    run.count -= count;
    return first;
  }
  return 0;
}

void GiveBackStubs(uint64_t first, size_t count) {
  if (first != 0) FreeRuns().push_back({first, count});
}

void MakeStub(const Stub& stub, uint64_t address, uint8_t (&out)[kStubSize]) {
  constexpr uint8_t kSyscall[] = {0x0f, 0x05};
  constexpr uint8_t kJumpTail[] = {0xff, 0x25, 8, 0, 0, 0};                    // jmp *+24
  constexpr uint8_t kLoadReal[] = {0x48, 0x8d, 0x0d, 0xe1, 0xff, 0xff, 0xff};  // lea +8, %rcx
  constexpr size_t kClone = 16;
  constexpr size_t kTail = 24;
  memset(out, 0xcc, kStubSize);
  memcpy(out, &stub.next, sizeof stub.next);
  memcpy(out + kStubReal, kSyscall, sizeof kSyscall);
  memcpy(out + kStubReal + sizeof kSyscall, kJumpTail, sizeof kJumpTail);
  memcpy(out + kClone, kSyscall, sizeof kSyscall);
  constexpr size_t kBehind = kClone + sizeof kSyscall;
  JumpTo(reinterpret_cast<uint64_t>(&userstack_rewrite_after_clone), address + kBehind,
         out + kBehind);
  memcpy(out + kTail, &stub.tail, sizeof stub.tail);
  memcpy(out + kStubThunk, kLoadReal, sizeof kLoadReal);
  constexpr size_t kEnd = kStubThunk + sizeof kLoadReal;
  JumpTo(reinterpret_cast<uint64_t>(stub.entry), address + kEnd, out + kEnd);
}

void ForkableLock::Lock() {
  uint64_t before = 0;
  const uint64_t all = ~(uint64_t{1} << (SIGSYS - 1));  // see watch.h
  SystemCall(SYS_rt_sigprocmask, SIG_BLOCK, reinterpret_cast<long>(&all),
             reinterpret_cast<long>(&before), sizeof before);
  const long self = SystemCall(SYS_getpid);
  for (long holder = 0; !process_.compare_exchange_strong(holder, self);) {
    // Whoever held it before the fork is not here to let it go.
    if (holder == self) {
      SystemCall(SYS_sched_yield);
      holder = 0;
    }
  }
  mask_ = before;
}

void ForkableLock::Unlock() {
  const uint64_t before = mask_;
  process_.store(0);
  SystemCall(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&before), 0, sizeof before);
}

CodeWriter::CodeWriter()
    : memory_(static_cast<int>(backend::KernelOpen("/proc/self/mem", O_RDWR | O_CLOEXEC))) {}

long CodeWriter::Write(uint64_t address, const uint8_t* bytes, const uint8_t* old,
                       size_t size) const {
  if (!memory_.valid()) return memory_.get();
  const auto word = [](const uint8_t* pointer) { return reinterpret_cast<long>(pointer); };
  const auto wanted = static_cast<long>(size);
  const auto to = static_cast<long>(address);
  const long written = SystemCall(SYS_pwrite64, memory_.get(), word(bytes), wanted, to);
  if (written == wanted) return 0;
  if (written > 0 && old != nullptr) {
    SystemCall(SYS_pwrite64, memory_.get(), word(old), written, to);
  }
  return written < 0 ? written : -EIO;
}

}  // namespace userstack::shim::rewrite
