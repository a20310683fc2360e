// Rendezvous: how a newcomer finds the stack that already holds its device. The creator listens on
// an abstract address made of user and device (abstract names are per network namespace, as devices
// are); every process of the stack has the listening socket, and whoever pumps answers. The
// newcomer says what library and what configuration it has; it gets the arena and the device, or is
// refused.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "backend/meeting.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/signals.h"

namespace userstack::shim {
namespace {

constexpr long kAnswerSeconds = 5;
constexpr long kSignalMilliseconds = 50;  // so long a signal may have to wait for an answer
constexpr long kHelloMilliseconds = 100;
constexpr unsigned kMaxSent = kMaxDeviceDescriptors + 2;

using backend::Answer;
using backend::Hello;
using backend::kHelloMagic;
using backend::Reply;

socklen_t MakeAddress(const Config& config, sockaddr_un* address) {
  return backend::MeetingAddress(RawSyscall(SYS_geteuid), config.device, address);
}

long SetTimeout(int fd, int option, long milliseconds) {
  const timeval timeout{milliseconds / 1000, (milliseconds % 1000) * 1000};
  return RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, option, Word(&timeout), sizeof(timeout));
}

long Retry(long number, long a, long b, long c) {
  long result;
  do {
    result = RawSyscall(number, a, b, c);
  } while (result == -EINTR);
  return result;
}

bool IsSameUser(int fd) {
  ucred peer{};
  int length = sizeof(peer);
  if (RawSyscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, Word(&peer), Word(&length)) != 0) {
    return false;
  }
  const auto self = static_cast<uid_t>(RawSyscall(SYS_geteuid));
  return peer.uid == self || peer.uid == 0;
}

struct Control {
  alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(int) * kMaxSent)] = {};
};

long SendReply(int fd, const Reply& reply, const int* descriptors, unsigned count) {
  iovec part{const_cast<Reply*>(&reply), sizeof(reply)};
  Control control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
  }
  return RawSyscall(SYS_sendmsg, fd, Word(&message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

// How many descriptors came with `message`.
long TakeDescriptors(msghdr& message, int (&descriptors)[kMaxSent]) {
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
    return 0;
  }
  const size_t bytes = header->cmsg_len - CMSG_LEN(0);
  memcpy(descriptors, CMSG_DATA(header), bytes);
  return static_cast<long>(bytes / sizeof(int));
}

void CloseAll(const int* descriptors, long count) {
  for (long i = 0; i < count; ++i) RawSyscall(SYS_close, descriptors[i]);
}

// Returns the number of descriptors received, which only a welcome has, or -errno (-EAGAIN: nothing
// has come).
long ReceiveReply(int fd, Reply* reply, int (&descriptors)[kMaxSent]) {
  iovec part{reply, sizeof(*reply)};
  Control control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  const long n = Retry(SYS_recvmsg, fd, Word(&message), MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return n;
  const long count = TakeDescriptors(message, descriptors);
  const bool valid = n == sizeof(*reply) && reply->magic == kHelloMagic;
  if (valid && reply->answer == Answer::kWelcome) return count;
  CloseAll(descriptors, count);
  return valid ? 0 : -ECONNRESET;
}

// Moves what was received above the program's numbers. False: not all of it is there.
bool TakeOver(int (&descriptors)[kMaxSent], long count, Handover* handover) {
  handover->memory = count >= 3 ? ArenaFileSize(descriptors[0]) : 0;
  bool complete = handover->memory != 0;
  for (long i = 0; i < count; ++i) {
    descriptors[i] = MoveInternal(descriptors[i]);
    if (descriptors[i] < 0) complete = false;
  }
  if (!complete) {
    for (long i = 0; i < count; ++i) {
      if (descriptors[i] >= 0) CloseInternal(descriptors[i]);
    }
    return false;
  }
  handover->arena = descriptors[0];
  handover->listener = descriptors[1];
  handover->device_count = static_cast<unsigned>(count - 2);
  memcpy(handover->device, descriptors + 2, sizeof(int) * handover->device_count);
  return true;
}

// False: no answer yet, and a signal wants in. The newcomer asks again after it.
bool AwaitReply(int fd, const SignalsHeld& held) {
  const timespec slice{0, kSignalMilliseconds * 1'000'000};
  for (long waited = 0; waited < kAnswerSeconds * 1000; waited += kSignalMilliseconds) {
    pollfd entry{fd, POLLIN, 0};
    timespec timeout = slice;
    if (RawSyscall(SYS_ppoll, Word(&entry), 1, Word(&timeout), 0, 8) != 0) break;
    if (held.has_pending()) return false;
  }
  return true;
}

Meeting Converse(int fd, const Config& config, const SignalsHeld& held, Handover* handover) {
  Hello hello;
  BuildIdentity(hello.build);
  DescribeStack(config, hello.configuration, sizeof(hello.configuration));
  if (Retry(SYS_write, fd, Word(&hello), sizeof(hello)) != sizeof(hello)) return Meeting::kNobody;
  Reply reply;
  int descriptors[kMaxSent];
  if (!AwaitReply(fd, held)) return Meeting::kNobody;
  const long count = ReceiveReply(fd, &reply, descriptors);
  if (count == -EAGAIN) {
    Log(LogLevel::kError,
        "USERSTACK_DEV=%s: device busy: the programs that hold it do not answer (stopped?); end "
        "them or choose another device",
        config.device);
    return Meeting::kRefused;
  }
  if (count < 0) return Meeting::kNobody;  // it has just ended
  switch (reply.answer) {
    case Answer::kSoon:
      return Meeting::kNobody;
    case Answer::kWelcome:
      return TakeOver(descriptors, count, handover) ? Meeting::kJoined : Meeting::kNobody;
    case Answer::kOtherBuild:
      Log(LogLevel::kError,
          "USERSTACK_DEV=%s: device busy: process %d holds it with another build of the library; "
          "end it or choose another device",
          config.device, reply.creator);
      break;
    case Answer::kOtherConfiguration:
      reply.configuration[sizeof(reply.configuration) - 1] = '\0';
      Log(LogLevel::kError,
          "USERSTACK_DEV=%s: device busy: process %d holds it with another configuration (%s); use "
          "the same or choose another device",
          config.device, reply.creator, reply.configuration);
      break;
  }
  return Meeting::kRefused;
}

void AnswerNewcomer(int fd) {
  SetTimeout(fd, SO_RCVTIMEO, kHelloMilliseconds);
  Hello hello;
  if (!IsSameUser(fd) || Retry(SYS_read, fd, Word(&hello), sizeof(hello)) != sizeof(hello)) return;
  if (hello.magic != kHelloMagic) return;
  Reply reply;
  reply.creator = g_shared->creator;
  memcpy(reply.configuration, g_shared->configuration, sizeof(reply.configuration));
  if (memcmp(hello.build, g_shared->build, sizeof(hello.build)) != 0) {
    reply.answer = Answer::kOtherBuild;
  } else if (strncmp(hello.configuration, g_shared->configuration, sizeof(hello.configuration)) !=
             0) {
    reply.answer = Answer::kOtherConfiguration;
  }
  if (reply.answer != Answer::kWelcome && YieldToNewcomer()) reply.answer = Answer::kSoon;
  int descriptors[kMaxSent] = {g_local.arena_descriptor, g_local.listener_descriptor};
  unsigned count = 0;
  if (reply.answer == Answer::kWelcome) {
    count = 2 + static_cast<unsigned>(
                    g_local.device->Descriptors(descriptors + 2, kMaxDeviceDescriptors));
  }
  SendReply(fd, reply, descriptors, count);
}

}  // namespace

Meeting MeetHolder(const Config& config, const SignalsHeld& held, Handover* handover) {
  const long fd = RawSyscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return Meeting::kNobody;
  SetTimeout(static_cast<int>(fd), SO_SNDTIMEO, kAnswerSeconds * 1000);
  sockaddr_un address;
  const socklen_t length = MakeAddress(config, &address);
  Meeting meeting = Meeting::kNobody;
  if (Retry(SYS_connect, fd, Word(&address), length) == 0) {
    if (IsSameUser(static_cast<int>(fd))) {
      meeting = Converse(static_cast<int>(fd), config, held, handover);
    } else {
      Log(LogLevel::kError, "USERSTACK_DEV=%s: device busy: a process of another user holds it",
          config.device);
      meeting = Meeting::kRefused;
    }
  }
  RawSyscall(SYS_close, fd);
  return meeting;
}

int BindListener(const Config& config) {
  const long fd = RawSyscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return static_cast<int>(fd);
  sockaddr_un address;
  const socklen_t length = MakeAddress(config, &address);
  const long result = RawSyscall(SYS_bind, fd, Word(&address), length);
  if (result < 0) {
    RawSyscall(SYS_close, fd);
    return static_cast<int>(result);
  }
  return MoveInternal(static_cast<int>(fd));
}

void StartListening(int listener) { RawSyscall(SYS_listen, listener, 128); }

void ServeNewcomer() {
  const long fd = RawSyscall(SYS_accept4, g_local.listener_descriptor, 0, 0, SOCK_CLOEXEC);
  if (fd < 0) return;
  AnswerNewcomer(static_cast<int>(fd));
  RawSyscall(SYS_close, fd);
}

}  // namespace userstack::shim
