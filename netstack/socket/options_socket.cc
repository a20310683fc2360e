// SOL_SOCKET, as sk_setsockopt and sk_getsockopt of Linux have it. SO_RCVTIMEO and SO_SNDTIMEO (old
// and new layouts) belong to the embedder, which blocks; here they are ENOPROTOOPT.
#include <net/if.h>
#include <netinet/in.h>

#include "netstack/socket/option_value.h"
#include "netstack/socket/sockets.h"

namespace userstack {
namespace {

// Linux: net.core.rmem_max and wmem_max, SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF.
constexpr uint32_t kMaxBuffer = 212992;
constexpr uint32_t kMinReceiveBuffer = 2304;
constexpr uint32_t kMinSendBuffer = 4608;
// Linux: net.ipv4.tcp_wmem[1] and tcp_rmem[1].
constexpr uint32_t kTcpSendBuffer = 16384;
constexpr uint32_t kTcpReceiveBuffer = 131072;

// Not in every libc's headers.
enum LateOption : int {
  kTimestampNew = 63,
  kTimestampNsNew = 64,
  kDetachReuseportBpf = 68,
  kPreferBusyPoll = 69,
  kBusyPollBudget = 70,
  kNetnsCookie = 71,
  kBufferLock = 72,
  kReserveMemory = 73,
  kTransmitRehash = 74,
};

constexpr FlagOption kFlags[] = {
    {SO_REUSEADDR, &SocketOptions::reuse_address},
    {SO_REUSEPORT, &SocketOptions::reuse_port},
    {SO_DONTROUTE, &SocketOptions::dont_route},
    {SO_BROADCAST, &SocketOptions::broadcast},
    {SO_KEEPALIVE, &SocketOptions::keep_alive},
    {SO_OOBINLINE, &SocketOptions::out_of_band_inline},
    {SO_NO_CHECK, &SocketOptions::no_checksum},
    {SO_RXQ_OVFL, &SocketOptions::receive_drop_count},
    {SO_SELECT_ERR_QUEUE, &SocketOptions::select_error_queue},
    {SO_DEBUG, &SocketOptions::debug},
    {SO_PASSCRED, &SocketOptions::pass_credentials},
    {SO_PASSSEC, &SocketOptions::pass_security},
    {kPreferBusyPoll, &SocketOptions::prefer_busy_poll},
};

// Linux doubles what is asked for, to allow for its own overhead.
uint32_t Doubled(int value, uint32_t most, uint32_t least) {
  const uint64_t asked = std::min<uint64_t>(static_cast<uint32_t>(value), most);
  return static_cast<uint32_t>(std::clamp<uint64_t>(asked * 2, least, INT32_MAX));
}

void SetTimestamps(SocketOptions* o, bool on, bool nanoseconds) {
  o->timestamp = on && !nanoseconds;
  o->timestamp_ns = on && nanoseconds;
}

Status SetLinger(SocketOptions* o, const void* value, socklen_t length) {
  linger v;
  if (!ReadValue(value, length, &v)) return Status(EINVAL);
  o->linger = v.l_onoff != 0;
  if (o->linger) o->linger_seconds = static_cast<uint32_t>(v.l_linger);
  return Status::Ok();
}

Status SetPacingRate(SocketOptions* o, const void* value, socklen_t length) {
  uint64_t rate = 0;
  if (ReadValue(value, length, &rate)) {
    o->max_pacing_rate = rate;
    return Status::Ok();
  }
  uint32_t narrow = 0;
  if (!ReadValue(value, length, &narrow)) return Status(EINVAL);
  o->max_pacing_rate = narrow == ~uint32_t{0} ? ~uint64_t{0} : narrow;
  return Status::Ok();
}

// What only shapes memory or scheduling, and what is refused. `*known` is false for the rest.
Status SetMinor(SocketOptions* o, int name, int v, bool* known) {
  switch (name) {
    case SO_PRIORITY:
      o->priority = static_cast<uint32_t>(v);
      return Status::Ok();
    case SO_MARK:
      o->mark = static_cast<uint32_t>(v);
      return Status::Ok();
    case SO_INCOMING_CPU:
      o->incoming_cpu = v;
      return Status::Ok();
    case SO_BUSY_POLL:
    case kBusyPollBudget:
      if (v < 0 || (name == kBusyPollBudget && v > 0xffff)) return Status(EINVAL);
      (name == SO_BUSY_POLL ? o->busy_poll : o->busy_poll_budget) = static_cast<uint32_t>(v);
      return Status::Ok();
    case kBufferLock:
      if ((v & ~3) != 0) return Status(EINVAL);
      o->send_buffer_locked = (v & 1) != 0;
      o->receive_buffer_locked = (v & 2) != 0;
      return Status::Ok();
    case kTransmitRehash:
      return v < -1 || v > 1 ? Status(EINVAL) : Status::Ok();
    case SO_BSDCOMPAT:
      return Status::Ok();
    case SO_CNX_ADVICE:
      return Status::Ok();
    case SO_DETACH_FILTER:  // also SO_DETACH_BPF
    case kDetachReuseportBpf:
      return Status(ENOENT);  // nothing can be attached
    // Nobody would run the filter, complete the zero-copy send or stamp the packet: saying yes
    // would be a lie that hangs programs.
    case SO_ATTACH_FILTER:
    case SO_ATTACH_BPF:
    case SO_ATTACH_REUSEPORT_CBPF:
    case SO_ATTACH_REUSEPORT_EBPF:
    case SO_LOCK_FILTER:
    case SO_ZEROCOPY:
    case SO_TXTIME:
    case SO_TIMESTAMPING:
    case SO_PEEK_OFF:
    case SO_NOFCS:
    case SO_WIFI_STATUS:
    case kReserveMemory:
      return Status(EOPNOTSUPP);
  }
  *known = false;
  return Status(ENOPROTOOPT);
}

// Integers that are given back as they were set.
bool GetKept(const SocketOptions& o, int name, int64_t* out) {
  int64_t& v = *out;
  switch (name) {
    case SO_PRIORITY:
      v = o.priority;
      break;
    case SO_MARK:
      v = o.mark;
      break;
    case SO_TIMESTAMP:
    case kTimestampNew:
      v = o.timestamp;
      break;
    case SO_TIMESTAMPNS:
    case kTimestampNsNew:
      v = o.timestamp_ns;
      break;
    case SO_INCOMING_CPU:
      v = o.incoming_cpu;
      break;
    case SO_BUSY_POLL:
      v = o.busy_poll;
      break;
    case kBusyPollBudget:
      v = o.busy_poll_budget;
      break;
    case SO_BINDTOIFINDEX:
      v = o.bound_interface;
      break;
    case kBufferLock:
      v = (o.send_buffer_locked ? 1 : 0) | (o.receive_buffer_locked ? 2 : 0);
      break;
    case kTransmitRehash:
      v = 1;
      break;
    default:
      return false;
  }
  return true;
}

}  // namespace

Status Sockets::BindToDevice(Socket& socket, const void* value, socklen_t length) {
  char name[IFNAMSIZ] = {};
  std::memcpy(name, value, std::min<size_t>(length, IFNAMSIZ - 1));
  uint16_t index = 0;
  if (name[0] != 0) {
    index = ip_->InterfaceByName(name);
    if (index == 0) return Status(ENODEV);
  }
  Options(socket).bound_interface = index;
  return Status::Ok();
}

Status Sockets::SetBuffer(Socket& socket, int name, int v) {
  SocketOptions& o = Options(socket);
  switch (name) {
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
      o.send_buffer_locked = true;
      o.send_buffer = name == SO_SNDBUF ? Doubled(v, kMaxBuffer, kMinSendBuffer)
                                        : Doubled(std::max(v, 0), INT32_MAX / 2, kMinSendBuffer);
      return Status::Ok();
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
      o.receive_buffer_locked = true;
      o.receive_buffer = name == SO_RCVBUF
                             ? Doubled(v, kMaxBuffer, kMinReceiveBuffer)
                             : Doubled(std::max(v, 0), INT32_MAX / 2, kMinReceiveBuffer);
      return Status::Ok();
    case SO_RCVLOWAT:
      if (v < 0) v = INT32_MAX;
      o.receive_low_water = v == 0 ? 1 : static_cast<uint32_t>(v);
      return Status::Ok();
  }
  return Status(ENOPROTOOPT);
}

Status Sockets::SetSocketOption(Socket& socket, int name, const void* value, socklen_t length) {
  SocketOptions& o = Options(socket);
  if (name == SO_BINDTODEVICE) return BindToDevice(socket, value, length);
  int v = 0;
  if (!ReadValue(value, length, &v)) return Status(EINVAL);
  if (const FlagOption* flag = FindFlag(kFlags, name)) {
    o.*flag->member = v != 0;
    return Status::Ok();
  }
  switch (name) {
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
    case SO_RCVLOWAT:
      return SetBuffer(socket, name, v);
    case SO_LINGER:
      return SetLinger(&o, value, length);
    case SO_TIMESTAMP:
    case kTimestampNew:
      SetTimestamps(&o, v != 0, false);
      return Status::Ok();
    case SO_TIMESTAMPNS:
    case kTimestampNsNew:
      SetTimestamps(&o, v != 0, true);
      return Status::Ok();
    case SO_MAX_PACING_RATE:
      return SetPacingRate(&o, value, length);
    case SO_BINDTOIFINDEX:
      if (v < 0 || (v > 0 && ip_->interface(static_cast<uint16_t>(v)) == nullptr)) {
        return Status(v < 0 ? EINVAL : ENODEV);
      }
      o.bound_interface = static_cast<uint16_t>(v);
      return Status::Ok();
  }
  bool known = true;
  return SetMinor(&o, name, v, &known);
}

// Linux: sk_get_meminfo, in the order of SK_MEMINFO_*.
Status Sockets::GetMemoryInfo(const Socket& socket, void* value, socklen_t* length) const {
  uint32_t info[9] = {};
  const SocketOptions& o = Options(socket);
  if (const DatagramSocket* d = Datagram(socket)) {
    info[0] = static_cast<uint32_t>(d->receive_charge);
    info[1] = d->receive_limit();
    info[2] = static_cast<uint32_t>(d->bytes);
    info[3] = d->send_limit();
    info[8] = d->drops;
  } else {
    info[0] = tcp_->BytesReadable(*socket.tcp);
    info[1] = o.receive_buffer != 0 ? o.receive_buffer : kTcpReceiveBuffer;
    info[3] = o.send_buffer != 0 ? o.send_buffer : kTcpSendBuffer;
    info[5] = tcp_->BytesInSendQueue(*socket.tcp);
  }
  return WriteValue(info, value, length);
}

// Values that are not plain integers. `*known` is false for the rest.
Status Sockets::GetWide(const Socket& socket, int name, void* value, socklen_t* length,
                        bool* known) const {
  const SocketOptions& o = Options(socket);
  switch (name) {
    case SO_LINGER: {
      const linger v{o.linger ? 1 : 0, static_cast<int>(o.linger_seconds)};
      return WriteValue(v, value, length);
    }
    case SO_BINDTODEVICE: {
      const Interface* interface = ip_->interface(o.bound_interface);
      if (o.bound_interface == 0 || interface == nullptr) {
        *length = 0;
        return Status::Ok();
      }
      if (*length < IFNAMSIZ) return Status(EINVAL);
      *length = static_cast<socklen_t>(strnlen(interface->name, IFNAMSIZ - 1) + 1);
      std::memcpy(value, interface->name, *length);
      return Status::Ok();
    }
    case SO_MAX_PACING_RATE:
      if (*length >= sizeof o.max_pacing_rate) return WriteValue(o.max_pacing_rate, value, length);
      return WriteValue(static_cast<uint32_t>(std::min<uint64_t>(o.max_pacing_rate, ~uint32_t{0})),
                        value, length);
    case SO_COOKIE:
    case kNetnsCookie:
      if (*length < sizeof socket.id) return Status(EINVAL);
      return WriteValue(name == SO_COOKIE ? socket.id : uint64_t{1}, value, length);
    case SO_MEMINFO:
      return GetMemoryInfo(socket, value, length);
    case SO_PEERCRED: {
      struct {
        int pid, uid, gid;
      } const nobody{0, -1, -1};
      return WriteValue(nobody, value, length);
    }
    case SO_PEERNAME: {
      sockaddr_storage storage;
      socklen_t full = sizeof storage;
      const Status s = PeerName(socket, reinterpret_cast<sockaddr*>(&storage), &full);
      if (!s.ok()) return s;
      if (full < *length) return Status(EINVAL);
      std::memcpy(value, &storage, *length);
      return Status::Ok();
    }
    case SO_GET_FILTER:
      *length = 0;
      return Status::Ok();
  }
  *known = false;
  return Status(ENOPROTOOPT);
}

Status Sockets::GetSocketOption(Socket& socket, int name, void* value, socklen_t* length) {
  const SocketOptions& o = Options(socket);
  bool known = true;
  if (const Status s = GetWide(socket, name, value, length, &known); known) return s;
  if (const FlagOption* flag = FindFlag(kFlags, name)) {
    return WriteValue(o.*flag->member ? 1 : 0, value, length);
  }
  const bool tcp = socket.kind == SocketKind::kTcp;
  int64_t v = 0;
  switch (name) {
    case SO_SNDBUF:
      v = o.send_buffer != 0 ? o.send_buffer : tcp ? kTcpSendBuffer : kDefaultDatagramBuffer;
      break;
    case SO_RCVBUF:
      v = o.receive_buffer != 0 ? o.receive_buffer
                                : (tcp ? kTcpReceiveBuffer : kDefaultDatagramBuffer);
      break;
    case SO_TYPE:
      v = tcp ? SOCK_STREAM : socket.kind == SocketKind::kRaw ? SOCK_RAW : SOCK_DGRAM;
      break;
    case SO_PROTOCOL:
      v = socket.protocol;
      break;
    case SO_DOMAIN:
      v = socket.family == Family::kIpv4 ? AF_INET : AF_INET6;
      break;
    case SO_ERROR:
      v = TakeError(socket);
      break;
    case SO_ACCEPTCONN:
      v = tcp && tcp_->IsListening(*socket.tcp) ? 1 : 0;
      break;
    case SO_RCVLOWAT:
      v = o.receive_low_water;
      break;
    case SO_SNDLOWAT:
      v = 1;
      break;
    case SO_BSDCOMPAT:
    case SO_TIMESTAMPING:
    case SO_LOCK_FILTER:
    case SO_ZEROCOPY:
    case SO_NOFCS:
    case SO_WIFI_STATUS:
    case SO_INCOMING_NAPI_ID:
      break;
    case SO_PEEK_OFF:
      return Status(EOPNOTSUPP);
    default:
      if (!GetKept(o, name, &v)) return Status(ENOPROTOOPT);
  }
  return WriteValue(static_cast<int>(v), value, length);
}

}  // namespace userstack
