// Hooks: setrlimit and its relatives, for RLIMIT_AS (shim/address_limit.cc) and RLIMIT_NOFILE,
// which the library raises for moments (shim/internal_descriptors.cc). Every other limit is the
// kernel's, and so are these without a configuration.
#include <sys/resource.h>
#include <unistd.h>

#include "shim/hooks/hook.h"
#include "shim/signals.h"

namespace userstack::shim {
namespace {

bool IsSelf(pid_t pid) { return pid == 0 || pid == RawSyscall(SYS_getpid); }

long Prlimit(pid_t pid, int resource, const rlimit* set, rlimit* get) {
  const bool ours = (resource == RLIMIT_NOFILE || resource == RLIMIT_AS) && MayHaveStack();
  if (!ours || !IsSelf(pid)) return RawSyscall(SYS_prlimit64, pid, resource, Word(set), Word(get));
  if (resource == RLIMIT_NOFILE) {
    const SignalsHeld held;
    const NumberLimit limit;
    return RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, Word(set), Word(get));
  }
  rlimit before{};
  long result = RawSyscall(SYS_prlimit64, 0, RLIMIT_AS, 0, Word(&before));
  DiscountAddressLimit(&before);
  if (result == 0 && set != nullptr) result = SetAddressLimit(*set);
  if (result == 0 && get != nullptr) *get = before;
  return result;
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int getrlimit(__rlimit_resource_t resource, rlimit* limit) noexcept {
  return ReturnInt(Prlimit(0, static_cast<int>(resource), nullptr, limit));
}
[[gnu::alias("getrlimit")]] int getrlimit64(__rlimit_resource_t resource, rlimit64* limit) noexcept;

int setrlimit(__rlimit_resource_t resource, const rlimit* limit) noexcept {
  return ReturnInt(Prlimit(0, static_cast<int>(resource), limit, nullptr));
}
[[gnu::alias("setrlimit")]] int setrlimit64(__rlimit_resource_t resource,
                                            const rlimit64* limit) noexcept;

int prlimit(pid_t pid, __rlimit_resource resource, const rlimit* set, rlimit* get) noexcept {
  return ReturnInt(Prlimit(pid, static_cast<int>(resource), set, get));
}
[[gnu::alias("prlimit")]] int prlimit64(pid_t pid, __rlimit_resource resource, const rlimit64* set,
                                        rlimit64* get) noexcept;

}  // extern "C"
