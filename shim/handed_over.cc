// Handed over: descriptors of a device that somebody with privilege has opened for us:
// userstack-open, or a service manager that passes sockets (sd_listen_fds(3)). Those named
// "userstack" are the device's, in order. LISTEN_PID is not asked for: the process that needs a
// socket may be a child of the one that was started, and what the descriptors are is checked by who
// adopts them.
#include <cstdlib>
#include <cstring>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
constexpr char kName[] = "userstack";
constexpr long kMostPassed = 256;
constexpr long kDuplicateCloseOnExec = 1030;  // F_DUPFD_CLOEXEC

}  // namespace

unsigned TakeHandedOver(int (&descriptors)[kMaxDeviceDescriptors]) {
  const char* number = getenv("LISTEN_FDS");
  const char* names = getenv("LISTEN_FDNAMES");
  if (number == nullptr || names == nullptr) return 0;
  const long passed = strtol(number, nullptr, 10);
  unsigned count = 0;
  for (long i = 0; i < passed && i < kMostPassed; ++i) {
    const size_t length = strcspn(names, ":");
    const bool ours = length == sizeof(kName) - 1 && memcmp(names, kName, length) == 0;
    if (ours && count < kMaxDeviceDescriptors) {
      // Ours is a copy: the program and its other children keep what they were given.
      const long copy = RawSyscall(SYS_fcntl, kFirst + i, kDuplicateCloseOnExec, kFirst);
      const int moved = copy < 0 ? -1 : MoveInternal(static_cast<int>(copy));
      if (moved >= 0) descriptors[count++] = moved;
    }
    if (names[length] == '\0') break;
    names += length + 1;
  }
  return count;
}

}  // namespace userstack::shim
