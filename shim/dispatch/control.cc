// Control data: see control.h.
#include "shim/dispatch/control.h"

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace userstack::shim {
namespace {

constexpr int kUdpSegment = 103;  // UDP_SEGMENT, UDP_GRO: linux/udp.h clashes with netinet/udp.h
constexpr int kUdpGro = 104;

// One control message of the caller, its length already checked.
struct Item {
  int level;
  int type;
  const uint8_t* data;
  size_t size;

  template <typename T>
  bool Get(T* out) const {
    if (size != sizeof(T)) return false;
    std::memcpy(out, data, sizeof(T));
    return true;
  }
};

long DecodeSocketLevel(const Item& item) {
  switch (item.type) {
    case SCM_RIGHTS:
    case SCM_CREDENTIALS:
      return 0;
    case SO_MARK:
    case SO_TIMESTAMPING:
      // Valid and without effect here: the stack has no packet marks per message, and transmit
      // timestamps are not reported.
      return item.size == sizeof(uint32_t) ? 0 : -EINVAL;
  }
  return -EINVAL;
}

long DecodeV4(const Item& item, Ancillary* out) {
  switch (item.type) {
    case IP_PKTINFO: {
      in_pktinfo info;
      if (!item.Get(&info)) return -EINVAL;
      out->present |= Ancillary::kPacketInfo;
      out->packet_interface = static_cast<uint16_t>(info.ipi_ifindex);
      out->packet_destination =
          IpAddress::V4FromBytes(reinterpret_cast<const uint8_t*>(&info.ipi_spec_dst));
      return 0;
    }
    case IP_TTL: {
      int value = 0;
      if (!item.Get(&value) || value < 1 || value > 255) return -EINVAL;
      out->present |= Ancillary::kTtl;
      out->ttl = static_cast<uint8_t>(value);
      return 0;
    }
    case IP_TOS: {
      int value = 0;
      uint8_t byte = 0;
      if (item.Get(&byte)) {
        value = byte;
      } else if (!item.Get(&value)) {
        return -EINVAL;
      }
      if (value < 0 || value > 255) return -EINVAL;
      out->present |= Ancillary::kTrafficClass;
      out->traffic_class = static_cast<uint8_t>(value);
      return 0;
    }
  }
  return -EINVAL;
}

long DecodeV6(const Item& item, Ancillary* out) {
  switch (item.type) {
    case IPV6_2292PKTINFO:
    case IPV6_PKTINFO: {
      in6_pktinfo info;
      if (item.size < sizeof info) return -EINVAL;
      std::memcpy(&info, item.data, sizeof info);
      out->present |= Ancillary::kPacketInfo;
      out->packet_interface = static_cast<uint16_t>(info.ipi6_ifindex);
      out->packet_destination = IpAddress::V6FromBytes(info.ipi6_addr.s6_addr);
      return 0;
    }
    case IPV6_2292HOPLIMIT:
    case IPV6_HOPLIMIT: {
      int value = 0;
      if (!item.Get(&value) || value < -1 || value > 255) return -EINVAL;
      if (value < 0) return 0;
      out->present |= Ancillary::kTtl;
      out->ttl = static_cast<uint8_t>(value);
      return 0;
    }
    case IPV6_TCLASS: {
      int value = 0;
      if (!item.Get(&value) || value < -1 || value > 255) return -EINVAL;
      if (value < 0) return 0;
      out->present |= Ancillary::kTrafficClass;
      out->traffic_class = static_cast<uint8_t>(value);
      return 0;
    }
  }
  return -EINVAL;
}

long DecodeUdp(const Item& item, Ancillary* out) {
  if (item.type != kUdpSegment) return -EINVAL;
  if (!item.Get(&out->segment_size)) return -EINVAL;
  out->present |= Ancillary::kGroSegment;
  return 0;
}

long DecodeItem(const Item& item, SocketKind kind, Family domain, Ancillary* out) {
  if (item.level == SOL_SOCKET) return DecodeSocketLevel(item);
  // Linux: a stream looks at SOL_SOCKET only; other levels than its own are passed over.
  if (kind == SocketKind::kTcp) return 0;
  if (item.level == SOL_UDP && kind == SocketKind::kUdp) return DecodeUdp(item, out);
  if (item.level == SOL_IP && domain == Family::kIpv4) return DecodeV4(item, out);
  if (item.level == SOL_IPV6 && domain == Family::kIpv6) return DecodeV6(item, out);
  return 0;
}

// put_cmsg.
class Writer {
 public:
  explicit Writer(msghdr* message)
      : at_(static_cast<uint8_t*>(message->msg_control)),
        left_(message->msg_control == nullptr ? 0 : message->msg_controllen) {}

  void Put(int level, int type, const void* data, size_t size) {
    if (left_ < sizeof(cmsghdr)) {
      truncated_ = true;
      return;
    }
    cmsghdr header{};
    header.cmsg_level = level;
    header.cmsg_type = type;
    header.cmsg_len = CMSG_LEN(size);
    if (left_ < header.cmsg_len) {
      truncated_ = true;
      header.cmsg_len = left_;
    }
    std::memcpy(at_, &header, sizeof header);
    std::memcpy(at_ + sizeof header, data, header.cmsg_len - sizeof header);
    const size_t space = std::min(CMSG_SPACE(size), left_);
    at_ += space;
    left_ -= space;
    written_ += space;
  }
  template <typename T>
  void Put(int level, int type, const T& value) {
    Put(level, type, &value, sizeof value);
  }
  bool truncated() const { return truncated_; }
  size_t written() const { return written_; }

 private:
  uint8_t* at_;
  size_t left_;
  size_t written_ = 0;
  bool truncated_ = false;
};

sockaddr_in6 SocketAddressV6(const Endpoint& endpoint) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(endpoint.port);
  address.sin6_scope_id = endpoint.interface;
  std::memcpy(&address.sin6_addr, endpoint.address.v6_bytes(), 16);
  return address;
}

sockaddr_in SocketAddressV4(const Endpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(endpoint.port);
  std::memcpy(&address.sin_addr, endpoint.address.v4_bytes(), 4);
  return address;
}

void PutTimestamp(const Ancillary& ancillary, const ControlStyle& style, Writer& writer) {
  const Instant when = ancillary.timestamp + style.realtime_offset;
  const int64_t seconds = when.nanoseconds / 1'000'000'000;
  const int64_t nanoseconds = when.nanoseconds % 1'000'000'000;
  if (style.timestamp_ns) {
    writer.Put(SOL_SOCKET, SO_TIMESTAMPNS, timespec{seconds, nanoseconds});
  } else {
    writer.Put(SOL_SOCKET, SO_TIMESTAMP, timeval{seconds, nanoseconds / 1000});
  }
}

void PutPacketInfo(const Ancillary& ancillary, const ControlStyle& style, Writer& writer) {
  const IpAddress& destination = ancillary.packet_destination;
  if (style.domain == Family::kIpv6) {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, destination.v6_bytes(), 16);
    info.ipi6_ifindex = ancillary.packet_interface;
    writer.Put(SOL_IPV6, IPV6_PKTINFO, info);
    return;
  }
  in_pktinfo info{};
  info.ipi_ifindex = ancillary.packet_interface;
  std::memcpy(&info.ipi_addr, destination.v4_bytes(), 4);
  const IpAddress& local = style.local.is_unspecified() ? destination : style.local;
  std::memcpy(&info.ipi_spec_dst, local.v4_bytes(), 4);
  writer.Put(SOL_IP, IP_PKTINFO, info);
}

void PutHeaderFields(const Ancillary& ancillary, const ControlStyle& style, Writer& writer) {
  if ((ancillary.present & Ancillary::kTtl) != 0) {
    const int ttl = ancillary.ttl;
    style.v4_packet ? writer.Put(SOL_IP, IP_TTL, ttl) : writer.Put(SOL_IPV6, IPV6_HOPLIMIT, ttl);
  }
  if ((ancillary.present & Ancillary::kTrafficClass) != 0) {
    const int traffic_class = ancillary.traffic_class;
    // Linux: IP_TOS is one byte on receive, IPV6_TCLASS an int.
    style.v4_packet ? writer.Put(SOL_IP, IP_TOS, ancillary.traffic_class)
                    : writer.Put(SOL_IPV6, IPV6_TCLASS, traffic_class);
  }
}

void PutOriginalDestination(const Ancillary& ancillary, const ControlStyle& style, Writer& writer) {
  const Endpoint endpoint{ancillary.packet_destination, ancillary.destination_port, 0};
  if (style.domain == Family::kIpv4) {
    writer.Put(SOL_IP, IP_ORIGDSTADDR, SocketAddressV4(endpoint));
  } else {
    writer.Put(SOL_IPV6, IPV6_ORIGDSTADDR, SocketAddressV6(endpoint));
  }
}

void PutError(const Ancillary& ancillary, const ControlStyle& style, Writer& writer) {
  sock_extended_err error{};
  error.ee_errno = static_cast<uint32_t>(ancillary.error);
  error.ee_origin = ancillary.error_origin;
  error.ee_type = ancillary.error_type;
  error.ee_code = ancillary.error_code;
  error.ee_info = ancillary.error_info;
  const bool from_icmp =
      ancillary.error_origin == SO_EE_ORIGIN_ICMP || ancillary.error_origin == SO_EE_ORIGIN_ICMP6;
  if (style.domain == Family::kIpv4) {
    struct {
      sock_extended_err error;
      sockaddr_in offender;
    } report{error, {}};
    if (from_icmp) report.offender = SocketAddressV4({ancillary.error_offender.address, 0, 0});
    writer.Put(SOL_IP, IP_RECVERR, report);
  } else {
    struct {
      sock_extended_err error;
      sockaddr_in6 offender;
    } report{error, {}};
    if (from_icmp) report.offender = SocketAddressV6({ancillary.error_offender.address, 0, 0});
    writer.Put(SOL_IPV6, IPV6_RECVERR, report);
  }
}

}  // namespace

long DecodeControl(const msghdr& message, SocketKind kind, Family domain, Ancillary* out) {
  const auto* control = static_cast<const uint8_t*>(message.msg_control);
  if (control == nullptr) return 0;
  size_t offset = 0;
  while (message.msg_controllen - offset >= sizeof(cmsghdr)) {
    cmsghdr header;
    std::memcpy(&header, control + offset, sizeof header);
    const size_t left = message.msg_controllen - offset;
    if (header.cmsg_len < sizeof header || header.cmsg_len > left) return -EINVAL;
    const Item item{header.cmsg_level, header.cmsg_type, control + offset + sizeof header,
                    header.cmsg_len - sizeof header};
    const long bad = DecodeItem(item, kind, domain, out);
    if (bad != 0) return bad;
    const size_t step = CMSG_ALIGN(header.cmsg_len);
    if (step >= left) break;
    offset += step;
  }
  return 0;
}

int EncodeControl(const Ancillary& ancillary, const ControlStyle& style, msghdr* message) {
  Writer writer(message);
  const auto has = [&](Ancillary::Present what) { return (ancillary.present & what) != 0; };
  if (has(Ancillary::kTimestamp)) PutTimestamp(ancillary, style, writer);
  if (has(Ancillary::kGroSegment)) {
    writer.Put(SOL_UDP, kUdpGro, static_cast<int>(ancillary.segment_size));
  }
  if (has(Ancillary::kPacketInfo)) PutPacketInfo(ancillary, style, writer);
  PutHeaderFields(ancillary, style, writer);
  if (has(Ancillary::kOriginalDestination)) PutOriginalDestination(ancillary, style, writer);
  if (has(Ancillary::kError)) PutError(ancillary, style, writer);
  message->msg_controllen = writer.written();
  return writer.truncated() ? MSG_CTRUNC : 0;
}

}  // namespace userstack::shim
