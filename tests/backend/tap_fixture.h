// What the tests of TapDevice share: a TAP in a namespace of the test's own, the kernel's side of
// it (a packet socket with virtio headers: what the kernel sees is observed there, and what it
// sends is injected), and frames.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "backend/pcap.h"
#include "backend/tap.h"
#include "backend/virtio.h"
#include "netstack/base/byte_order.h"
#include "netstack/base/checksum.h"
#include "tests/backend/fixture.h"

namespace userstack::backend {

inline constexpr uint16_t kTestEtherType = 0x88b5;  // IEEE 802 local experimental

class TapTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why_not = EnterNamespace();
    if (!why_not.empty()) GTEST_SKIP() << why_not;
  }

  std::unique_ptr<Device> OpenTap(const DeviceOptions& options = {}) {
    OpenedDevice opened = OpenDevice("tap:t0", options);
    EXPECT_EQ(opened.error, "");
    EXPECT_EQ(opened.warning, "");
    return std::move(opened.device);
  }
};

// The kernel's side: everything that crosses the interface, with its virtio header.
class KernelSide {
 public:
  KernelSide() : fd_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))) {
    const int on = 1;
    EXPECT_EQ(setsockopt(fd_, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on), 0);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(if_nametoindex("t0"));
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~KernelSide() { close(fd_); }

  struct Seen {
    Offload offload;
    std::vector<uint8_t> bytes;
  };
  // The next frame whose EtherType and payload start as ours; router solicitations and the like
  // pass by.
  bool Receive(const std::vector<uint8_t>& like, Seen* seen) {
    for (int i = 0; i < 100; ++i) {
      pollfd wait{fd_, POLLIN, 0};
      if (poll(&wait, 1, 2000) != 1) return false;
      std::vector<uint8_t> data(70000);
      const ssize_t got = recv(fd_, data.data(), data.size(), 0);
      if (got < 10) return false;
      VirtioHeader header{};
      std::copy_n(data.begin(), 10, header.begin());  // packet sockets have the short form
      seen->bytes.assign(data.begin() + 10, data.begin() + got);
      if (seen->bytes.size() < 14 ||
          !std::equal(like.begin(), like.begin() + 14, seen->bytes.begin())) {
        continue;
      }
      const auto offload =
          DecodeVirtioHeader(header, seen->bytes.data(), seen->bytes.size(), seen->bytes.size());
      EXPECT_TRUE(offload);
      if (offload) seen->offload = *offload;
      return true;
    }
    return false;
  }
  ssize_t Send(const std::vector<uint8_t>& frame, const Offload& offload = {}) {
    const VirtioHeader header = EncodeVirtioHeader(offload);
    std::vector<uint8_t> data(header.begin(), header.begin() + 10);
    data.insert(data.end(), frame.begin(), frame.end());
    return send(fd_, data.data(), data.size(), 0);
  }

 private:
  int fd_;
};

inline std::vector<uint8_t> PlainFrame(size_t length, uint8_t tag) {
  std::vector<uint8_t> frame(length);
  for (size_t i = 0; i < length; ++i) frame[i] = static_cast<uint8_t>(i * 7 + tag);
  std::fill_n(frame.begin(), 6, uint8_t{0xff});
  frame[6] = 2;
  Store16(&frame[12], kTestEtherType);
  return frame;
}

// Takes frames from the device until one is like `like`.
inline Packet* ReceiveLike(Device& device, Core& core, const std::vector<uint8_t>& like) {
  for (int i = 0; i < 100; ++i) {
    Packet* packet = nullptr;
    if (device.Receive(core, &packet, 1, 2, Instant{5}) == 1) {
      if (packet->contiguous() >= 14 &&
          std::equal(like.begin(), like.begin() + 14, packet->data())) {
        return packet;
      }
      core.packets.Release(packet);
      continue;
    }
    pollfd wait{device.wait_descriptor(), POLLIN, 0};
    if (poll(&wait, 1, 2000) != 1) return nullptr;
  }
  return nullptr;
}

// The next frame, whatever it is.
inline Packet* ReceiveAny(Device& device, Core& core) {
  Packet* packet = nullptr;
  pollfd wait{device.wait_descriptor(), POLLIN, 0};
  if (poll(&wait, 1, 2000) != 1) return nullptr;
  return device.Receive(core, &packet, 1, 2, Instant{5}) == 1 ? packet : nullptr;
}

// A TCP segment of IPv4 or IPv6 with `payload` bytes, the checksum field holding the
// pseudo-header's sum, as a frame that asks for TSO has it.
inline std::vector<uint8_t> TcpFrame(Family family, size_t payload) {
  const size_t network = family == Family::kIpv4 ? 20 : 40;
  std::vector<uint8_t> frame = PlainFrame(14 + network + 20 + payload, 3);
  uint8_t* ip = &frame[14];
  uint8_t* tcp = ip + network;
  std::fill(ip, tcp + 20, uint8_t{0});
  IpAddress from, to;
  if (family == Family::kIpv4) {
    Store16(&frame[12], 0x0800);
    from = IpAddress::V4(0x0a636302);
    to = IpAddress::V4(0x0a636301);
    ip[0] = 0x45;
    Store16(ip + 2, static_cast<uint16_t>(40 + payload));
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = 6;
    std::copy_n(from.v4_bytes(), 4, ip + 12);
    std::copy_n(to.v4_bytes(), 4, ip + 16);
    ChecksumAccumulator sum;
    sum.Add(ip, 20);
    Store16(ip + 10, sum.Checksum());
  } else {
    Store16(&frame[12], 0x86dd);
    uint8_t address[16] = {0xfd, 0, 9, 9};
    address[15] = 2;
    from = IpAddress::V6FromBytes(address);
    address[15] = 1;
    to = IpAddress::V6FromBytes(address);
    ip[0] = 0x60;
    Store16(ip + 4, static_cast<uint16_t>(20 + payload));
    ip[6] = 6;
    ip[7] = 64;
    std::copy_n(from.v6_bytes(), 16, ip + 8);
    std::copy_n(to.v6_bytes(), 16, ip + 24);
  }
  Store16(tcp, 1000);
  Store16(tcp + 2, 2000);
  tcp[12] = 5 << 4;
  tcp[13] = 0x10;
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(from, to, 6, static_cast<uint32_t>(20 + payload));
  Store16(tcp + 16, pseudo.Sum());
  return frame;
}

inline Offload TcpOffload(Family family, uint16_t segment) {
  Offload offload;
  offload.checksum_needed = true;
  offload.checksum_start = family == Family::kIpv4 ? 34 : 54;
  offload.checksum_offset = 16;
  offload.segmentation =
      family == Family::kIpv4 ? SegmentationType::kTcpV4 : SegmentationType::kTcpV6;
  offload.segment_size = segment;
  offload.header_length = static_cast<uint16_t>(offload.checksum_start + 20);
  return offload;
}

}  // namespace userstack::backend
