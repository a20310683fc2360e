// Message: sendmsg, recvmsg and their many-message forms.
#include <algorithm>

#include "shim/dispatch/control.h"
#include "shim/dispatch/data.h"
#include "shim/dispatch/kernel_route.h"
#include "shim/dispatch/rights.h"

namespace userstack::shim {
namespace {

constexpr unsigned kMaxMessages = 1024;  // UIO_MAXIOV
constexpr unsigned kHeldMessages = 64;   // of one call that go to the device together

long CheckHeader(const msghdr* message) {
  if (IsBadAddress(message)) return -EFAULT;
  if (message->msg_iovlen > kMaxMessages) return -EMSGSIZE;
  if (static_cast<int>(message->msg_namelen) < 0) return -EINVAL;
  return CheckVector(message->msg_iov, static_cast<long>(message->msg_iovlen));
}

Duration RealtimeOffset() {
  timespec real;
  timespec monotonic;
  RawSyscall(SYS_clock_gettime, CLOCK_REALTIME, Word(&real));
  RawSyscall(SYS_clock_gettime, CLOCK_MONOTONIC, Word(&monotonic));
  return Duration::Seconds(real.tv_sec - monotonic.tv_sec) +
         Duration::Nanoseconds(real.tv_nsec - monotonic.tv_nsec);
}

// Our address on the interface that a packet to many came in by.
IpAddress LocalFor(Ip& ip, const Ancillary& ancillary) {
  const IpAddress& destination = ancillary.packet_destination;
  if (!destination.is_multicast() && !ip.IsBroadcast(destination)) return IpAddress();
  for (unsigned slot = 0; slot < kMaxAddresses; ++slot) {
    const Address* address = ip.AddressAt(slot);
    if (address == nullptr || address->interface != ancillary.packet_interface) continue;
    if (address->prefix.address.is_v4()) return address->prefix.address;
  }
  return IpAddress::V4(0);
}

ControlStyle StyleFor(SocketCall& call, const ReceivedMessage& received) {
  ControlStyle style;
  style.domain = call.socket().family;
  style.v4_packet = style.domain == Family::kIpv4 || received.source.address.is_v4();
  if ((received.ancillary.present & Ancillary::kPacketInfo) != 0 && style.v4_packet) {
    style.local = LocalFor(call.stack().ip(), received.ancillary);
  }
  if ((received.ancillary.present & Ancillary::kTimestamp) == 0) return style;
  style.realtime_offset = RealtimeOffset();
  int value = 0;
  socklen_t length = sizeof value;
  const Status status = call.stack().GetOption(call.socket(), SOL_SOCKET, SO_TIMESTAMPNS, &value,
                                               &length, call.now());
  style.timestamp_ns = status.ok() && value != 0;
  return style;
}

long ReceiveMessage(int fd, msghdr* message, int flags) {
  const long bad = CheckHeader(message);
  if (bad != 0) return bad;
  SocketCall call(fd, Session::Look::kLater);
  if (call.status() != 0) return call.status();
  ReceivedMessage received;
  const long result =
      ReceiveData(call, IoVector(message->msg_iov, message->msg_iovlen), flags, &received);
  if (result < 0) return result;
  if (message->msg_name != nullptr) {
    socklen_t length = message->msg_namelen;
    // Linux: a stream leaves the name empty.
    if (call.socket().kind == SocketKind::kTcp) {
      length = 0;
    } else {
      StoreEndpoint(received.source, call.socket().family,
                    static_cast<sockaddr*>(message->msg_name), &length);
    }
    message->msg_namelen = length;
  }
  const int truncated = EncodeControl(received.ancillary, StyleFor(call, received), message);
  message->msg_flags = received.flags | truncated | (flags & MSG_CMSG_CLOEXEC);
  return result;
}

// `more`: the same call has another message behind this one.
long SendMessage(int fd, const msghdr* message, int flags, bool more = false) {
  const long bad = CheckHeader(message);
  if (bad != 0) return bad;
  Destination destination;
  if (message->msg_name != nullptr && message->msg_namelen != 0) {
    destination.address = static_cast<const sockaddr*>(message->msg_name);
    destination.length = std::min<socklen_t>(message->msg_namelen, sizeof(sockaddr_storage));
    const long moved = RouteSend(fd, destination.address, destination.length);
    if (moved != 0) return moved < 0 ? moved : kNotOurs;
  }
  long result = 0;
  bool broken_pipe = false;
  {
    SocketCall call(fd);
    if (call.status() != 0) return call.status();
    Ancillary ancillary;
    const long decoded =
        DecodeControl(*message, call.socket().kind, call.socket().family, &ancillary);
    if (decoded != 0) return decoded;
    result = SendData(call, IoVector(message->msg_iov, message->msg_iovlen), flags, destination,
                      ancillary.present != 0 ? &ancillary : nullptr);
    broken_pipe = WantsBrokenPipe(call, result, flags);
    if (more && result >= 0) call.session().HoldOutput(true);
  }
  if (broken_pipe) RaiseBrokenPipe();
  return result;
}

// What earlier messages of the call left for a later one, which failed.
void SendHeld() { const Session session; }

}  // namespace

long sys_recvmsg(int fd, msghdr* message, int flags) {
  if (IsOurs(fd)) {
    const long result = ReceiveMessage(fd, message, flags);
    if (result != kNotOurs) return result;
  }
  const long result = RawSyscall(SYS_recvmsg, fd, Word(message), flags);
  if (result >= 0) AdoptReceivedRights(message, flags);
  return result;
}

long sys_sendmsg(int fd, const msghdr* message, int flags) {
  if (IsOurs(fd)) {
    const long result = SendMessage(fd, message, flags);
    if (result != kNotOurs) return result;
  }
  const bool carries = CarriesOurs(message);
  if (carries) BeforeSendRights(message);
  const long result = RawSyscall(SYS_sendmsg, fd, Word(message), flags);
  if (carries) AfterSendRights(message, result);
  return result;
}

long sys_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!IsOurs(fd)) {
    return RawSyscall(SYS_recvmmsg, fd, Word(messages), count, flags, Word(timeout));
  }
  if (timeout != nullptr && (IsBadAddress(timeout) || timeout->tv_sec < 0 || timeout->tv_nsec < 0 ||
                             timeout->tv_nsec >= 1'000'000'000)) {
    return IsBadAddress(timeout) ? -EFAULT : -EINVAL;
  }
  if (count != 0 && IsBadAddress(messages)) return -EFAULT;
  const Instant deadline = timeout == nullptr
                               ? Instant::Never()
                               : MonotonicNow() + Duration::Seconds(timeout->tv_sec) +
                                     Duration::Nanoseconds(timeout->tv_nsec);
  unsigned received = 0;
  for (; received < count && received < kMaxMessages; ++received) {
    const long result = sys_recvmsg(fd, &messages[received].msg_hdr, flags & ~MSG_WAITFORONE);
    // Linux: an error after the first message is kept for the next call; ours is asked again then.
    if (result < 0) return received != 0 ? static_cast<long>(received) : result;
    messages[received].msg_len = static_cast<unsigned>(result);
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    if (timeout == nullptr) continue;
    // Linux: the timeout is looked at after each message only (recvmmsg(2), BUGS).
    const Duration left = deadline - MonotonicNow();
    *timeout =
        left > Duration{} ? timespec{left.seconds(), left.nanoseconds % 1'000'000'000} : timespec{};
    if (left <= Duration{}) return received + 1;
  }
  return received;
}

long sys_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (!IsOurs(fd)) return RawSyscall(SYS_sendmmsg, fd, Word(messages), count, flags);
  if (count != 0 && IsBadAddress(messages)) return -EFAULT;
  unsigned sent = 0;
  const unsigned most = std::min(count, kMaxMessages);
  for (; sent < most; ++sent) {
    const bool more = sent + 1 < most && (sent + 1) % kHeldMessages != 0;
    long result = IsOurs(fd) ? SendMessage(fd, &messages[sent].msg_hdr, flags, more) : kNotOurs;
    if (result == kNotOurs) result = sys_sendmsg(fd, &messages[sent].msg_hdr, flags);
    if (result < 0) {
      if (sent == 0) return result;
      SendHeld();
      break;
    }
    messages[sent].msg_len = static_cast<unsigned>(result);
  }
  return sent;
}

}  // namespace userstack::shim
