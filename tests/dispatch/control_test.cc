// Control data: what programs put into msg_control and what they find there, against the layouts of
// Linux.
#include "shim/dispatch/control.h"

#include <gtest/gtest.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include <cstring>
#include <vector>

namespace userstack::shim {
namespace {

constexpr int kUdpSegment = 103;

class Control {
 public:
  template <typename T>
  Control& Add(int level, int type, const T& value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + CMSG_SPACE(sizeof value));
    cmsghdr header{};
    header.cmsg_level = level;
    header.cmsg_type = type;
    header.cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(&bytes_[at], &header, sizeof header);
    std::memcpy(&bytes_[at + CMSG_LEN(0)], &value, sizeof value);
    return *this;
  }
  long Decode(SocketKind kind, Family domain, Ancillary* out) {
    msghdr message{};
    message.msg_control = bytes_.data();
    message.msg_controllen = bytes_.size();
    return DecodeControl(message, kind, domain, out);
  }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

TEST(DecodeControl, TakesSourceAddressTtlAndTos) {
  in_pktinfo info{};
  info.ipi_ifindex = 2;
  info.ipi_spec_dst.s_addr = htonl(0x0a000002);
  Ancillary out;
  ASSERT_EQ(Control()
                .Add(SOL_IP, IP_PKTINFO, info)
                .Add(SOL_IP, IP_TTL, 7)
                .Add(SOL_IP, IP_TOS, uint8_t{0x28})
                .Decode(SocketKind::kUdp, Family::kIpv4, &out),
            0);
  EXPECT_EQ(out.present,
            uint32_t{Ancillary::kPacketInfo} | Ancillary::kTtl | Ancillary::kTrafficClass);
  EXPECT_EQ(out.packet_interface, 2);
  EXPECT_EQ(out.packet_destination, IpAddress::V4(0x0a000002));
  EXPECT_EQ(out.ttl, 7);
  EXPECT_EQ(out.traffic_class, 0x28);
}

TEST(DecodeControl, TakesIpv6SourceHopLimitAndSegmentSize) {
  in6_pktinfo info{};
  info.ipi6_addr.s6_addr[0] = 0xfd;
  info.ipi6_addr.s6_addr[15] = 2;
  Ancillary out;
  ASSERT_EQ(Control()
                .Add(SOL_IPV6, IPV6_PKTINFO, info)
                .Add(SOL_IPV6, IPV6_HOPLIMIT, 9)
                .Add(SOL_IPV6, IPV6_TCLASS, -1)
                .Add(SOL_UDP, kUdpSegment, uint16_t{1200})
                .Decode(SocketKind::kUdp, Family::kIpv6, &out),
            0);
  EXPECT_EQ(out.present,
            uint32_t{Ancillary::kPacketInfo} | Ancillary::kTtl | Ancillary::kGroSegment);
  EXPECT_EQ(out.packet_destination, IpAddress::V6FromBytes(info.ipi6_addr.s6_addr));
  EXPECT_EQ(out.ttl, 9);
  EXPECT_EQ(out.segment_size, 1200);
}

TEST(DecodeControl, RefusesWhatLinuxRefuses) {
  struct Case {
    const char* name;
    int level;
    int type;
    int value;
    Family domain;
    long expected;
  };
  const Case cases[] = {
      {"TTL 0", SOL_IP, IP_TTL, 0, Family::kIpv4, -EINVAL},
      {"TTL 256", SOL_IP, IP_TTL, 256, Family::kIpv4, -EINVAL},
      {"TOS 256", SOL_IP, IP_TOS, 256, Family::kIpv4, -EINVAL},
      {"PKTINFO too short", SOL_IP, IP_PKTINFO, 0, Family::kIpv4, -EINVAL},
      {"unknown IP type", SOL_IP, 99, 0, Family::kIpv4, -EINVAL},
      {"hop limit 256", SOL_IPV6, IPV6_HOPLIMIT, 256, Family::kIpv6, -EINVAL},
      {"unknown socket type", SOL_SOCKET, 99, 0, Family::kIpv4, -EINVAL},
      {"rights are passed over", SOL_SOCKET, SCM_RIGHTS, 1, Family::kIpv4, 0},
      {"another level is passed over", SOL_IPV6, IPV6_HOPLIMIT, 256, Family::kIpv4, 0},
      {"segment size as an int", SOL_UDP, kUdpSegment, 1200, Family::kIpv4, -EINVAL},
  };
  for (const Case& c : cases) {
    Ancillary out;
    EXPECT_EQ(Control().Add(c.level, c.type, c.value).Decode(SocketKind::kUdp, c.domain, &out),
              c.expected)
        << c.name;
  }
}

TEST(DecodeControl, AStreamLooksAtTheSocketLevelOnly) {
  Ancillary out;
  EXPECT_EQ(Control().Add(SOL_IP, 99, 0).Decode(SocketKind::kTcp, Family::kIpv4, &out), 0);
  EXPECT_EQ(Control().Add(SOL_SOCKET, 99, 0).Decode(SocketKind::kTcp, Family::kIpv4, &out),
            -EINVAL);
}

TEST(DecodeControl, RefusesLengthsThatDoNotFit) {
  for (const size_t length : {size_t{0}, sizeof(cmsghdr) - 1, CMSG_LEN(sizeof(int)) + 64}) {
    Control control;
    control.Add(SOL_IP, IP_TTL, 7);
    std::memcpy(control.bytes().data(), &length, sizeof length);
    Ancillary out;
    EXPECT_EQ(control.Decode(SocketKind::kUdp, Family::kIpv4, &out), -EINVAL) << length;
  }
}

TEST(DecodeControl, IgnoresATailShorterThanAHeader) {
  Control control;
  control.Add(SOL_IP, IP_TTL, 7);
  control.bytes().resize(control.bytes().size() + sizeof(cmsghdr) - 1, 0xee);
  Ancillary out;
  EXPECT_EQ(control.Decode(SocketKind::kUdp, Family::kIpv4, &out), 0);
  EXPECT_EQ(out.ttl, 7);
}

struct Encoded {
  std::vector<uint8_t> bytes;
  int flags = 0;

  template <typename T>
  bool Find(int level, int type, T* out) const {
    msghdr message{};
    message.msg_control = const_cast<uint8_t*>(bytes.data());
    message.msg_controllen = bytes.size();
    for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
         item = CMSG_NXTHDR(&message, item)) {
      if (item->cmsg_level != level || item->cmsg_type != type) continue;
      if (item->cmsg_len != CMSG_LEN(sizeof(T))) return false;
      std::memcpy(out, CMSG_DATA(item), sizeof(T));
      return true;
    }
    return false;
  }
};

Encoded Encode(const Ancillary& ancillary, const ControlStyle& style, size_t room = 512) {
  Encoded encoded;
  encoded.bytes.resize(room);
  msghdr message{};
  message.msg_control = room == 0 ? nullptr : encoded.bytes.data();
  message.msg_controllen = room;
  encoded.flags = EncodeControl(ancillary, style, &message);
  encoded.bytes.resize(message.msg_controllen);
  return encoded;
}

TEST(EncodeControl, WritesAllOfIpv4) {
  Ancillary ancillary;
  ancillary.present = Ancillary::kPacketInfo | Ancillary::kTtl | Ancillary::kTrafficClass |
                      Ancillary::kTimestamp | Ancillary::kOriginalDestination;
  ancillary.packet_destination = IpAddress::V4(0x0a000002);
  ancillary.packet_interface = 2;
  ancillary.ttl = 64;
  ancillary.traffic_class = 0xb8;
  ancillary.timestamp = Instant{1'500'000'123};
  ancillary.destination_port = 53;
  ControlStyle style;
  style.realtime_offset = Duration::Seconds(1000);
  const Encoded encoded = Encode(ancillary, style);
  EXPECT_EQ(encoded.flags, 0);

  in_pktinfo info{};
  ASSERT_TRUE(encoded.Find(SOL_IP, IP_PKTINFO, &info));
  EXPECT_EQ(info.ipi_ifindex, 2);
  EXPECT_EQ(ntohl(info.ipi_addr.s_addr), 0x0a000002u);
  EXPECT_EQ(ntohl(info.ipi_spec_dst.s_addr), 0x0a000002u);
  int ttl = 0;
  ASSERT_TRUE(encoded.Find(SOL_IP, IP_TTL, &ttl));
  EXPECT_EQ(ttl, 64);
  uint8_t tos = 0;
  ASSERT_TRUE(encoded.Find(SOL_IP, IP_TOS, &tos));
  EXPECT_EQ(tos, 0xb8);
  timeval time{};
  ASSERT_TRUE(encoded.Find(SOL_SOCKET, SO_TIMESTAMP, &time));
  EXPECT_EQ(time.tv_sec, 1001);
  EXPECT_EQ(time.tv_usec, 500000);
  sockaddr_in destination{};
  ASSERT_TRUE(encoded.Find(SOL_IP, IP_ORIGDSTADDR, &destination));
  EXPECT_EQ(ntohs(destination.sin_port), 53);
}

TEST(EncodeControl, WritesIpv6AndNanoseconds) {
  Ancillary ancillary;
  ancillary.present = Ancillary::kPacketInfo | Ancillary::kTtl | Ancillary::kTrafficClass |
                      Ancillary::kTimestamp | Ancillary::kGroSegment;
  const uint8_t address[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  ancillary.packet_destination = IpAddress::V6FromBytes(address);
  ancillary.ttl = 64;
  ancillary.traffic_class = 0xb8;
  ancillary.segment_size = 1448;
  ancillary.timestamp = Instant{123};
  ControlStyle style;
  style.domain = Family::kIpv6;
  style.v4_packet = false;
  style.timestamp_ns = true;
  const Encoded encoded = Encode(ancillary, style);

  in6_pktinfo info{};
  ASSERT_TRUE(encoded.Find(SOL_IPV6, IPV6_PKTINFO, &info));
  EXPECT_EQ(info.ipi6_addr.s6_addr[15], 2);
  int value = 0;
  ASSERT_TRUE(encoded.Find(SOL_IPV6, IPV6_HOPLIMIT, &value));
  EXPECT_EQ(value, 64);
  ASSERT_TRUE(encoded.Find(SOL_IPV6, IPV6_TCLASS, &value));
  EXPECT_EQ(value, 0xb8);
  ASSERT_TRUE(encoded.Find(SOL_UDP, 104, &value));
  EXPECT_EQ(value, 1448);
  timespec time{};
  ASSERT_TRUE(encoded.Find(SOL_SOCKET, SO_TIMESTAMPNS, &time));
  EXPECT_EQ(time.tv_nsec, 123);
}

TEST(EncodeControl, WritesTheErrorQueueAsLinuxDoes) {
  Ancillary ancillary;
  ancillary.present = Ancillary::kError;
  ancillary.error = ECONNREFUSED;
  ancillary.error_origin = SO_EE_ORIGIN_ICMP;
  ancillary.error_type = 3;
  ancillary.error_code = 3;
  ancillary.error_offender.address = IpAddress::V4(0x0a000001);
  const Encoded encoded = Encode(ancillary, ControlStyle{});
  struct {
    sock_extended_err error;
    sockaddr_in offender;
  } report{};
  ASSERT_TRUE(encoded.Find(SOL_IP, IP_RECVERR, &report));
  EXPECT_EQ(report.error.ee_errno, unsigned{ECONNREFUSED});
  EXPECT_EQ(report.error.ee_type, 3);
  EXPECT_EQ(report.offender.sin_family, AF_INET);
  EXPECT_EQ(ntohl(report.offender.sin_addr.s_addr), 0x0a000001u);
}

TEST(EncodeControl, SaysWhenThereIsNoRoom) {
  Ancillary ancillary;
  ancillary.present = Ancillary::kTtl | Ancillary::kTrafficClass;
  EXPECT_EQ(Encode(ancillary, ControlStyle{}, 0).flags, MSG_CTRUNC);
  EXPECT_EQ(Encode(ancillary, ControlStyle{}, CMSG_SPACE(sizeof(int))).flags, MSG_CTRUNC);
  // A header and part of the data: the message is cut, as put_cmsg does.
  const Encoded cut = Encode(ancillary, ControlStyle{}, sizeof(cmsghdr) + 2);
  EXPECT_EQ(cut.flags, MSG_CTRUNC);
  EXPECT_EQ(cut.bytes.size(), sizeof(cmsghdr) + 2);
  EXPECT_EQ(Encode(Ancillary{}, ControlStyle{}, 0).flags, 0);
}

}  // namespace
}  // namespace userstack::shim
