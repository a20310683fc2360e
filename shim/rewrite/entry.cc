// Entry: which vector registers this processor and kernel have; stacks for threads whose own are
// too small.
#include "shim/rewrite/entry.h"

#include <cpuid.h>
#include <sys/mman.h>

#include "backend/system_call.h"

// entry.S reads and writes it.
extern "C" {
constinit thread_local uint64_t userstack_rewrite_stack __attribute__((tls_model("initial-exec"))) =
    0;
}

namespace userstack::shim::rewrite {
namespace {

constexpr uint32_t kHasXsave = 1u << 27;     // CPUID.1:ECX.OSXSAVE
constexpr uint32_t kHasAvx512Bw = 1u << 30;  // CPUID.7.0:EBX
// XCR0: what the kernel switches between threads.
constexpr uint32_t kAvxState = 0x6;
constexpr uint32_t kAvx512State = 0xe6;

// Four calls deep: one, and those of handlers that come during it.
constexpr long kGuard = 4096;
constexpr long kWholeStack = 4 * kReserved + kGuard;

class ThreadStack {
 public:
  ~ThreadStack();
  bool Make();

 private:
  long base_ = 0;
};

uint32_t EnabledState() {
  uint32_t low = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

}  // namespace

ThreadStack::~ThreadStack() {
  if (base_ == 0) return;
  userstack_rewrite_stack = 0;
  backend::SystemCall(SYS_munmap, base_, kWholeStack);
}

bool ThreadStack::Make() {
  if (base_ != 0) return true;
  const long base = backend::SystemCall(SYS_mmap, 0, kWholeStack, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base < 0 && base > -4096) return false;
  backend::SystemCall(SYS_mprotect, base, kGuard, PROT_NONE);
  base_ = base;
  userstack_rewrite_stack = static_cast<uint64_t>(base) + kWholeStack;
  return true;
}

bool MakeThreadStack() {
  static thread_local ThreadStack stack;
  return stack.Make();
}

void DetectVectors() {
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t c = 0;
  uint32_t d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kHasXsave) == 0) return;
  const uint32_t state = EnabledState();
  if ((state & kAvxState) != kAvxState) return;
  userstack_rewrite_vectors = 1;
  if ((state & kAvx512State) != kAvx512State) return;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kHasAvx512Bw) != 0) {
    userstack_rewrite_vectors = 2;
  }
}

}  // namespace userstack::shim::rewrite
