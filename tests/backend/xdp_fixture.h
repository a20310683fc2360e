// What the tests of AF_XDP share: a veth pair in a network namespace of the test's own. The device
// has "x0"; the kernel's side of the wire is "k0", watched and fed through packet sockets.
#pragma once

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "backend/device.h"
#include "backend/link_watch.h"
#include "netstack/base/byte_order.h"
#include "tests/backend/fixture.h"

namespace userstack::backend {

inline constexpr uint32_t kOurV4 = 0x0a636302;    // 10.99.99.2
inline constexpr uint32_t kOtherV4 = 0x0a636303;  // 10.99.99.3

// A packet socket on one interface.
class Tapped {
 public:
  explicit Tapped(const char* interface)
      : fd_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))) {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(if_nametoindex(interface));
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const int bytes = 64 << 20;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  }
  ~Tapped() { close(fd_); }
  Tapped(const Tapped&) = delete;
  Tapped& operator=(const Tapped&) = delete;

  bool Send(const std::vector<uint8_t>& frame) {
    return send(fd_, frame.data(), frame.size(), 0) == static_cast<ssize_t>(frame.size());
  }
  // Frames that came to the interface (not those sent there), whose first `like` bytes are those of
  // `like`, until `count` are there or nothing more comes.
  std::vector<std::vector<uint8_t>> Receive(const std::vector<uint8_t>& like, size_t count,
                                            int patience = 1000) {
    std::vector<std::vector<uint8_t>> seen;
    std::vector<uint8_t> data(70000);
    while (seen.size() < count) {
      pollfd wait{fd_, POLLIN, 0};
      if (poll(&wait, 1, patience) != 1) break;
      sockaddr_ll from{};
      socklen_t size = sizeof from;
      const ssize_t got =
          recvfrom(fd_, data.data(), data.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < static_cast<ssize_t>(like.size()) || from.sll_pkttype == PACKET_OUTGOING) continue;
      if (!std::equal(like.begin(), like.end(), data.begin())) continue;
      seen.emplace_back(data.begin(), data.begin() + got);
    }
    return seen;
  }

 private:
  int fd_;
};

// UDP from somewhere to `to`, with the length of the whole frame and a tag in its first payload
// byte. The checksum is "none".
inline std::vector<uint8_t> UdpFrame(const MacAddress& mac, uint32_t to, size_t length,
                                     uint8_t tag) {
  std::vector<uint8_t> frame(length);
  for (size_t i = 42; i < length; ++i) frame[i] = static_cast<uint8_t>(i * 7 + tag);
  std::copy(mac.bytes.begin(), mac.bytes.end(), frame.begin());
  frame[6] = 2;
  frame[11] = 9;
  Store16(&frame[12], 0x0800);
  frame[14] = 0x45;
  Store16(&frame[16], static_cast<uint16_t>(length - 14));
  frame[22] = 64;
  frame[23] = 17;
  Store32(&frame[26], 0x0a636301);
  Store32(&frame[30], to);
  Store16(&frame[34], 7);
  Store16(&frame[36], 7);
  Store16(&frame[38], static_cast<uint16_t>(length - 34));
  if (length > 42) frame[42] = tag;
  return frame;
}

// Until the kernel sends on an interface whose other end has come up: what is sent there before is
// lost without a word.
inline void AwaitCarrier(const char* interface) {
  const int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  AwaitLink(any, interface);
  close(any);
}

class XdpTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why_not = EnterNamespace();
    if (!why_not.empty() || getuid() != 0) {
      GTEST_SKIP() << "AF_XDP is NOT TESTED: needs root. " << why_not;
    }
    ASSERT_TRUE(
        RunCommand("ip link add x0 type veth peer name k0 && ip link set x0 up && "
                   "ip link set k0 up"));
  }

  static std::unique_ptr<Device> OpenXdp(const std::string& options = "") {
    OpenedDevice opened = OpenWhenFree("xdp:x0" + options);
    EXPECT_EQ(opened.error, "");
    EXPECT_EQ(opened.warning, "");
    if (opened.device == nullptr) return nullptr;
    const IpAddress ours[] = {IpAddress::V4(kOurV4)};
    EXPECT_TRUE(opened.device->SetAddresses(ours, 1));
    return std::move(opened.device);
  }

  // The kernel frees a queue a moment after the last descriptor is closed.
  static OpenedDevice OpenWhenFree(const std::string& spec) {
    for (int i = 0;; ++i) {
      OpenedDevice opened = OpenDevice(spec, {});
      if (i == 200 || opened.error.find("busy") == std::string::npos) return opened;
      usleep(10000);
    }
  }

  // The next packet, or null when none comes.
  static Packet* ReceiveOne(Device& device, Core& core, int patience = 1000) {
    for (;;) {
      Packet* packet = nullptr;
      if (device.Receive(core, &packet, 1, 2, Instant{5}) == 1) return packet;
      device.BeforeSleep();
      pollfd wait[] = {{device.wait_descriptor(), POLLIN, 0},
                       {device.side_descriptor(), POLLIN, 0}};
      if (poll(wait, 2, patience) <= 0) return nullptr;
    }
  }
  // What comes within the patience, as bytes.
  static std::vector<std::vector<uint8_t>> ReceiveAll(Device& device, Core& core,
                                                      int patience = 200) {
    std::vector<std::vector<uint8_t>> all;
    while (Packet* packet = ReceiveOne(device, core, patience)) {
      all.push_back(TestCore::BytesOf(*packet));
      core.packets.Release(packet);
    }
    return all;
  }

  static bool ProgramAttached() { return RunCommand("ip -d link show x0 | grep -q 'prog/xdp'"); }
};

}  // namespace userstack::backend
