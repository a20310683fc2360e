// Options: setsockopt and getsockopt. The timeouts are the shim's, because blocking is; the rest is
// the stack's.
#include <asm/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>

#include "shim/dispatch/call.h"

namespace userstack::shim {
namespace {

enum class Timeout : uint8_t { kNone, kReceive, kSend };

// On x86-64 the old and the new layouts are the same: two 64-bit words.
Timeout TimeoutOf(int level, int name) {
  if (level != SOL_SOCKET) return Timeout::kNone;
  if (name == SO_RCVTIMEO_OLD || name == SO_RCVTIMEO_NEW) return Timeout::kReceive;
  if (name == SO_SNDTIMEO_OLD || name == SO_SNDTIMEO_NEW) return Timeout::kSend;
  return Timeout::kNone;
}

Duration& TimeoutField(Description& description, Timeout which) {
  return which == Timeout::kSend ? description.send_timeout : description.receive_timeout;
}

// sock_set_timeout: {0, 0} is no timeout, negative seconds are "at once".
long SetTimeout(Duration& field, const void* value, socklen_t length) {
  timeval time;
  if (length < sizeof time) return -EINVAL;
  if (IsBadAddress(value)) return -EFAULT;
  std::memcpy(&time, value, sizeof time);
  if (time.tv_usec < 0 || time.tv_usec >= 1'000'000) return -EDOM;
  constexpr int64_t kLongest = Duration::Infinite().seconds() / 2;
  if (time.tv_sec < 0) {
    field = Duration{};
  } else if ((time.tv_sec == 0 && time.tv_usec == 0) || time.tv_sec > kLongest) {
    field = Duration::Infinite();
  } else {
    field = Duration::Seconds(time.tv_sec) + Duration::Microseconds(time.tv_usec);
  }
  return 0;
}

long GetTimeout(Duration field, void* value, socklen_t* length) {
  timeval time{};
  if (field != Duration::Infinite()) {
    time.tv_sec = field.seconds();
    time.tv_usec = field.microseconds() % 1'000'000;
  }
  const socklen_t size = std::min<socklen_t>(*length, sizeof time);
  std::memcpy(value, &time, size);
  *length = size;
  return 0;
}

}  // namespace

long sys_setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
  if (IsOurs(fd)) {
    if (static_cast<int>(length) < 0) return -EINVAL;
    SocketCall call(fd);
    if (call.status() == 0) {
      const Timeout timeout = TimeoutOf(level, name);
      if (timeout != Timeout::kNone) {
        return SetTimeout(TimeoutField(call.description(), timeout), value, length);
      }
      if (length != 0 && value != nullptr && IsBadAddress(value)) return -EFAULT;
      if (length != 0 && value == nullptr) return -EFAULT;
      return -call.stack().SetOption(call.socket(), level, name, value, length, call.now()).error();
    }
    if (call.status() != kNotOurs) return call.status();
  }
  return RawSyscall(SYS_setsockopt, fd, level, name, Word(value), length);
}

long sys_getsockopt(int fd, int level, int name, void* value, socklen_t* length) {
  if (IsOurs(fd)) {
    SocketCall call(fd);
    if (call.status() == 0) {
      if (IsBadAddress(length)) return -EFAULT;
      if (static_cast<int>(*length) < 0) return -EINVAL;
      if (*length != 0 && IsBadAddress(value)) return -EFAULT;
      const Timeout timeout = TimeoutOf(level, name);
      if (timeout != Timeout::kNone) {
        return GetTimeout(TimeoutField(call.description(), timeout), value, length);
      }
      return -call.stack().GetOption(call.socket(), level, name, value, length, call.now()).error();
    }
    if (call.status() != kNotOurs) return call.status();
  }
  return RawSyscall(SYS_getsockopt, fd, level, name, Word(value), Word(length));
}

}  // namespace userstack::shim
