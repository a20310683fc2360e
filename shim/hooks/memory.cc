// Hooks: mmap and mprotect, for one question: does the program make memory executable? Then there
// may be system calls in it that nothing can verify (rewrite/watch.h). The calls are the kernel's.
#include <sys/mman.h>

#include "shim/hooks/hook.h"
#include "shim/rewrite/watch.h"

namespace userstack::shim {
namespace {

long Note(long result, long begin, size_t size, int protection) {
  const bool failed = result < 0 && result > -4096;
  if ((protection & PROT_EXEC) != 0 && !failed &&
      g_executable_memory_matters.load(std::memory_order_relaxed)) {
    const auto first = static_cast<uint64_t>(begin);
    OnExecutableMemory(first, first + size);
  }
  return Return(result);
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

void* mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  const long result =
      RawSyscall(SYS_mmap, Word(address), static_cast<long>(size), protection, flags, fd, offset);
  return reinterpret_cast<void*>(Note(result, result, size, protection));
}
[[gnu::alias("mmap")]] void* mmap64(void* address, size_t size, int protection, int flags, int fd,
                                    off64_t offset) noexcept;

int mprotect(void* address, size_t size, int protection) noexcept {
  const long result = RawSyscall(SYS_mprotect, Word(address), static_cast<long>(size), protection);
  return static_cast<int>(Note(result, Word(address), size, protection));
}

int pkey_mprotect(void* address, size_t size, int protection, int key) noexcept {
  // As libc: without a key it is mprotect, on kernels without keys too.
  if (key == -1) return mprotect(address, size, protection);
  const long result =
      RawSyscall(SYS_pkey_mprotect, Word(address), static_cast<long>(size), protection, key);
  return static_cast<int>(Note(result, Word(address), size, protection));
}

}  // extern "C"
