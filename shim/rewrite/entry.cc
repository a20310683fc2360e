// Entry: which vector registers this processor and kernel have.
#include "shim/rewrite/entry.h"

#include <cpuid.h>

namespace userstack::shim::rewrite {
namespace {

constexpr uint32_t kHasXsave = 1u << 27;     // CPUID.1:ECX.OSXSAVE
constexpr uint32_t kHasAvx512Bw = 1u << 30;  // CPUID.7.0:EBX
// XCR0: what the kernel switches between threads.
constexpr uint32_t kAvxState = 0x6;
constexpr uint32_t kAvx512State = 0xe6;

uint32_t EnabledState() {
  uint32_t low = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

}  // namespace

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
