// Meeting: see meeting.h.
#include "backend/meeting.h"

#include <sys/time.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "backend/system_call.h"

namespace userstack::backend {
namespace {

long Word(const void* pointer) { return reinterpret_cast<long>(pointer); }

}  // namespace

socklen_t MeetingAddress(long user, const char* device, sockaddr_un* address) {
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  const int length = static_cast<int>(strcspn(device, ","));
  const int n = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "userstack/%ld/%.*s",
                         user, length < 80 ? length : 80, device);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(n));
}

Holder AskHolder(long user, const std::string& device) {
  const OwnedDescriptor socket(
      static_cast<int>(SystemCall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)));
  if (!socket.valid()) return Holder::kNone;
  const timeval patience{1, 0};
  for (const int option : {SO_SNDTIMEO, SO_RCVTIMEO}) {
    SystemCall(SYS_setsockopt, socket.get(), SOL_SOCKET, option, Word(&patience), sizeof(patience));
  }
  sockaddr_un address;
  const socklen_t length = MeetingAddress(user, device.c_str(), &address);
  if (SystemCall(SYS_connect, socket.get(), Word(&address), length) != 0) return Holder::kNone;
  const Hello hello;
  if (SystemCall(SYS_write, socket.get(), Word(&hello), sizeof(hello)) != sizeof(hello)) {
    return Holder::kNone;  // it has just ended
  }
  Reply reply;
  const long got = SystemCall(SYS_read, socket.get(), Word(&reply), sizeof(reply));
  if (got == 0 || got == -ECONNRESET) return Holder::kNone;
  const bool soon =
      got == sizeof(reply) && reply.magic == kHelloMagic && reply.answer == Answer::kSoon;
  return soon ? Holder::kGivesWay : Holder::kStays;
}

}  // namespace userstack::backend
