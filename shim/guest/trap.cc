// Trap: system calls of a guest that could not be found or replaced beforehand, by Syscall User
// Dispatch. In guest mode every system call outside of the library raises SIGSYS. The library holds
// the stubs: those of what was rewritten (rewrite/stubs.h), and one for each place that has
// trapped, which goes to the same entry and makes the kernel's call.
//
// The handler runs in guest mode, on whatever stack a signal of the guest's would, with every
// signal blocked. General registers only, without FS (CMakeLists.txt).
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <cstddef>
#include <vector>

#include "shim/guest/actions.h"
#include "shim/guest/calls.h"
#include "shim/guest/start.h"
#include "shim/real.h"
#include "shim/rewrite/proved_site.h"
#include "shim/rewrite/site.h"
#include "shim/rewrite/stubs.h"

namespace userstack::shim::guest {
namespace {

constexpr long kStubSize = rewrite::kStubSize;
constexpr long kStubs = 2048;
constexpr long kSize = kStubSize * kStubs;
constexpr int kUserDispatch = 2;  // si_code SYS_USER_DISPATCH

// Code that never changes once it is executable; what a stub is for is data, a process's own.
constinit uint64_t g_stubs = 0;
constinit uint64_t g_next[kStubs] = {};  // where each goes on
constinit uint16_t g_places[kStubs] =
    {};  // index of the stub, by a hash of where it goes on; 0: none
constinit rewrite::ForkableLock g_lock;
constinit uint32_t g_used = 1;
constinit bool g_trapping = false;

class Code {
 public:
  explicit Code(uint8_t* out) : out_(out) {}
  void Bytes(std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) *out_++ = byte;
  }
  void Address(uint64_t address) {
    for (int i = 0; i < 8; ++i) *out_++ = static_cast<uint8_t>(address >> (8 * i));
  }

 private:
  uint8_t* out_;
};

// The first stub is how a handler returns, the guest's or ours.
constexpr long kReturnStub = 0;

void WriteStub(uint32_t index, uint8_t* out) {
  constexpr uint64_t kBeforeCall = 24;
  Code code(out);
  code.Bytes({0x48, 0xb9});  // mov $real, %rcx
  code.Address(g_stubs + index * kStubSize + kBeforeCall);
  code.Bytes({0x49, 0xbb});  // mov $entry, %r11
  code.Address(reinterpret_cast<uint64_t>(&userstack_guest_entry));
  code.Bytes({0x41, 0xff, 0xe3, 0x90});  // jmp *%r11
  code.Bytes({0x0f, 0x05});              // real: syscall
  code.Bytes({0x48, 0xb9});              // mov $where, %rcx
  code.Address(reinterpret_cast<uint64_t>(&g_next[index]));
  code.Bytes({0xff, 0x21});  // jmp *(%rcx)
}

// The place in g_places of the stub that goes on at `next`, or the one that is free for it.
uint64_t PlaceOf(uint64_t next) {
  uint64_t at = (next * 0x9e3779b97f4a7c15) >> 53;
  static_assert(kStubs == 1 << 11);
  while (g_places[at] != 0 && g_next[g_places[at]] != next) at = (at + 1) % kStubs;
  return at;
}

// So that it traps no more, unless its bytes are part of a neighbour's jump, or a neighbour's part
// of its own.
void RewriteInPlace(uint64_t next, uint64_t stub) {
  for (uint64_t distance = 1; distance < rewrite::kProvedSiteBytes; ++distance) {
    if (g_places[PlaceOf(next - distance)] != 0 || g_places[PlaceOf(next + distance)] != 0) return;
  }
  rewrite::RewriteProvedSite(next - rewrite::kSyscallSize, stub);
}

// The guest may have trapped on a stack of a few kilobytes, which the signal's frame fills (musl:
// posix_spawn's child). The host's is free while the guest runs.
void RewriteOnHostStack(uint64_t next, uint64_t stub) {
  asm volatile(
      "mov %%rsp, %%rbx\n\t"
      "mov %%gs:%c[stack], %%rsp\n\t"
      "call *%[work]\n\t"
      "mov %%rbx, %%rsp"
      : "+D"(next), "+S"(stub)
      : [work] "r"(&RewriteInPlace), [stack] "i"(offsetof(GuestThread, host_stack))
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
}

// 0: there is no room for another.
uint64_t StubFor(uint64_t next) {
  const rewrite::ForkableGuard making(g_lock);
  const uint64_t at = PlaceOf(next);
  const bool is_new = g_places[at] == 0 && g_used < kStubs - 1;
  if (is_new) {
    g_next[g_used] = next;
    g_places[at] = static_cast<uint16_t>(g_used++);
  }
  const uint16_t index = g_places[at];
  const uint64_t stub = index == 0 ? 0 : g_stubs + index * kStubSize;
  if (is_new) RewriteOnHostStack(next, stub);
  return stub;
}

void OnTrap(int, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto next = static_cast<uint64_t>(registers[REG_RIP]);
  const long number = info->si_syscall;
  if (info->si_code != kUserDispatch) return;  // a filter of the guest's own; ENOSYS or its errno
  registers[REG_RAX] = number;
  uint64_t stub = 0;
  if (number == SYS_rt_sigreturn) {
    stub = g_stubs + kReturnStub;
  } else {
    stub = StubFor(next);
  }
  if (stub == 0) {
    registers[REG_RAX] = -38;  // ENOSYS
    return;
  }
  registers[REG_RIP] = static_cast<long>(stub);
}

bool MakeStubs() {
  long error = 0;
  g_stubs = rewrite::TakeStubs(kStubs, &error);
  if (g_stubs == 0) return false;
  std::vector<uint8_t> code(kSize);
  Code(code.data()).Bytes({0xb8, SYS_rt_sigreturn, 0, 0, 0, 0x0f, 0x05});
  for (uint32_t i = 1; i < kStubs; ++i) WriteStub(i, code.data() + i * kStubSize);
  return rewrite::CodeWriter().Write(g_stubs, code.data(), nullptr, kSize) == 0;
}

}  // namespace

bool IsTrapping() { return g_trapping; }

void TrapInThisThread(GuestThread* thread) {
  if (!g_trapping) return;
  const rewrite::AddressRange own = rewrite::OwnRange();
  RawSyscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON,
             static_cast<long>(own.begin), static_cast<long>(own.end - own.begin),
             Word(&thread->selector));
}

bool BeginTrapping() {
  static constinit uint8_t allowed = 0;
  const long result =
      RawSyscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, Word(&allowed));
  if (result != 0 || !MakeStubs()) return false;
  KernelAction action;
  action.handler = reinterpret_cast<uint64_t>(&OnTrap);
  action.flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | kRestorer;
  action.restorer = g_stubs;
  action.mask = kAllSignals & ~(uint64_t{1} << (SIGSYS - 1));
  if (RawSyscall(SYS_rt_sigaction, SIGSYS, Word(&action), 0, 8) != 0) return false;
  KeepTrapSignal();
  g_trapping = true;
  return true;
}

}  // namespace userstack::shim::guest
