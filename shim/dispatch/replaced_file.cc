// Replaced file: see replaced_file.h.
#include "shim/dispatch/replaced_file.h"

#include <sys/uio.h>

#include <atomic>
#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr char kResolvConf[] = "/etc/resolv.conf";

constinit std::atomic<bool> g_said{false};

// The bytes of a path that may be no address at all; false: it is another path.
bool IsResolvConf(const char* path) {
  char copy[sizeof kResolvConf];
  const iovec here{copy, sizeof copy};
  const iovec there{const_cast<char*>(path), sizeof copy};
  const long self = RawSyscall(SYS_getpid);
  const long read = RawSyscall(SYS_process_vm_readv, self, Word(&here), 1, Word(&there), 1, 0);
  return read == static_cast<long>(sizeof copy) && memcmp(copy, kResolvConf, sizeof copy) == 0;
}

}  // namespace

// Most programs open files before anything else of ours is awake: the name is looked at first.
const char* ReplacedFile(const char* path) {
  if (path == nullptr || strcmp(path, kResolvConf) != 0) return nullptr;
  if (CurrentMode() != Mode::kStack || !g_replaces_files) return nullptr;
  return CurrentConfig().resolv_conf;
}

const char* ReplacedFileOf(const char* path) {
  if (CurrentMode() != Mode::kStack || !g_replaces_files || !IsResolvConf(path)) return nullptr;
  return CurrentConfig().resolv_conf;
}

long OpenReplaced(long number, long a, long b, long c, long d) {
  const long result = RawSyscall(number, a, b, c, d);
  if (result < 0 && !g_said.exchange(true)) {
    Log(LogLevel::kError, "USERSTACK_RESOLV_CONF=%.200s: cannot be read (errno %ld)",
        CurrentConfig().resolv_conf, -result);
  }
  return result;
}

}  // namespace userstack::shim
