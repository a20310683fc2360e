// Trap: system calls of a guest that could not be found or replaced beforehand, by Syscall User
// Dispatch. In guest mode every system call outside of one stretch of memory raises SIGSYS; that
// stretch holds the stubs, one for each place that has trapped, which go to the same entry as
// trampolines do and make the kernel's calls. What was rewritten does not trap but for its own
// `syscall` in its trampoline, which has a stub soon.
//
// The handler runs in guest mode, on whatever stack a signal of the guest's would, with every
// signal blocked. General registers only, without FS (CMakeLists.txt).
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <atomic>

#include "shim/guest/actions.h"
#include "shim/guest/calls.h"
#include "shim/guest/start.h"
#include "shim/real.h"

namespace userstack::shim::guest {
namespace {

constexpr long kStubSize = 64;
constexpr long kStubs = 2048;
constexpr long kSize = kStubSize * kStubs;
constexpr int kUserDispatch = 2;  // si_code SYS_USER_DISPATCH
constexpr uint64_t kSyscallBytes = 2;
// movb $0, %gs:1, in front of the deliveries' own calls
constexpr uint64_t kAllowBytes = 9;

// Code that never changes once it is executable; what a stub is for is data, a process's own.
constinit uint8_t* g_stubs = nullptr;
constinit uint64_t g_next[kStubs] = {};  // where each goes on
constinit uint16_t g_places[kStubs] =
    {};  // index of the stub, by a hash of where it goes on; 0: none
constinit std::atomic<int> g_lock{0};
constinit uint32_t g_used = 1;
constinit uint64_t g_length = kSize;  // of what does not trap, from g_stubs on
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

void WriteStub(uint32_t index) {
  constexpr uint64_t kBeforeCall = 24;
  uint8_t* const out = g_stubs + index * kStubSize;
  Code code(out);
  code.Bytes({0x48, 0xb9});  // mov $real, %rcx
  code.Address(reinterpret_cast<uint64_t>(out) + kBeforeCall);
  code.Bytes({0x49, 0xbb});  // mov $entry, %r11
  code.Address(reinterpret_cast<uint64_t>(&userstack_guest_entry));
  code.Bytes({0x41, 0xff, 0xe3, 0x90});  // jmp *%r11
  code.Bytes({0x0f, 0x05});              // real: syscall
  code.Bytes({0x48, 0xb9});              // mov $where, %rcx
  code.Address(reinterpret_cast<uint64_t>(&g_next[index]));
  code.Bytes({0xff, 0x21});  // jmp *(%rcx)
}

// 0: there is no room for another.
uint64_t StubFor(uint64_t next) {
  while (g_lock.exchange(1, std::memory_order_acquire) != 0) __builtin_ia32_pause();
  uint64_t at = (next * 0x9e3779b97f4a7c15) >> 53;
  static_assert(kStubs == 1 << 11);
  while (g_places[at] != 0 && g_next[g_places[at]] != next) at = (at + 1) % kStubs;
  if (g_places[at] == 0 && g_used < kStubs - 1) {
    g_next[g_used] = next;
    g_places[at] = static_cast<uint16_t>(g_used++);
  }
  const uint16_t index = g_places[at];
  g_lock.store(0, std::memory_order_release);
  return index == 0 ? 0 : reinterpret_cast<uint64_t>(g_stubs) + index * kStubSize;
}

void OnTrap(int, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto next = static_cast<uint64_t>(registers[REG_RIP]);
  const long number = info->si_syscall;
  if (info->si_code != kUserDispatch) return;  // a filter of the guest's own; ENOSYS or its errno
  registers[REG_RAX] = number;
  const auto begin = reinterpret_cast<uint64_t>(userstack_guest_calls_begin);
  const auto end = reinterpret_cast<uint64_t>(userstack_guest_calls_end);
  if (next > begin && next <= end) {
    // A handler came between the permission and the call.
    registers[REG_RIP] = static_cast<long>(next - kSyscallBytes - kAllowBytes);
    return;
  }
  uint64_t stub = 0;
  if (number == SYS_rt_sigreturn) {
    stub = reinterpret_cast<uint64_t>(g_stubs) + kReturnStub;
  } else {
    stub = StubFor(next);
  }
  if (stub == 0) {
    registers[REG_RAX] = -38;  // ENOSYS
    return;
  }
  registers[REG_RIP] = static_cast<long>(stub);
}

bool MapStubs(uint64_t trampolines, uint64_t size) {
  const auto map = [](uint64_t address, long flags) {
    return RawSyscall(SYS_mmap, static_cast<long>(address), kSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  };
  const auto failed = [](long result) { return result < 0 && result > -4096; };
  long memory = -1;
  if (trampolines > kSize) {
    // In front of the trampolines, so that the two are one stretch.
    memory = map(trampolines - kSize, MAP_FIXED_NOREPLACE);
    if (!failed(memory)) g_length = kSize + size;
  }
  if (failed(memory)) memory = map(0, 0);
  if (failed(memory)) return false;
  g_stubs = reinterpret_cast<uint8_t*>(memory);
  Code(g_stubs).Bytes({0xb8, SYS_rt_sigreturn, 0, 0, 0, 0x0f, 0x05});
  for (uint32_t i = 1; i < kStubs; ++i) WriteStub(i);
  return RawSyscall(SYS_mprotect, memory, kSize, PROT_READ | PROT_EXEC) == 0;
}

}  // namespace

bool IsTrapping() { return g_trapping; }

void TrapInThisThread(GuestThread* thread) {
  if (!g_trapping) return;
  RawSyscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, Word(g_stubs),
             static_cast<long>(g_length), Word(&thread->selector));
}

bool BeginTrapping(uint64_t trampolines, uint64_t size) {
  static constinit uint8_t allowed = 0;
  const long result =
      RawSyscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, Word(&allowed));
  if (result != 0 || !MapStubs(trampolines, size)) return false;
  KernelAction action;
  action.handler = reinterpret_cast<uint64_t>(&OnTrap);
  action.flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | kRestorer;
  action.restorer = reinterpret_cast<uint64_t>(g_stubs);
  action.mask = kAllSignals & ~(uint64_t{1} << (SIGSYS - 1));
  if (RawSyscall(SYS_rt_sigaction, SIGSYS, Word(&action), 0, 8) != 0) return false;
  KeepTrapSignal();
  g_trapping = true;
  return true;
}

}  // namespace userstack::shim::guest
