// FuzzHost: a stack with sockets of every kind open, driven by hand. Time moves only as the input
// says.
#pragma once

#include <functional>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "tests/netstack/testing/host.h"

namespace userstack::testing {

inline constexpr uint32_t kHostV4 = 0x0a000001, kPeerV4 = 0x0a000002;
inline constexpr uint16_t kHostPort = 80, kUdpPort = 7;
inline constexpr uint8_t kHostMac[6] = {2, 0, 0, 0, 0, 1}, kPeerMac[6] = {2, 0, 0, 0, 0, 2};
IpAddress HostV6();
IpAddress PeerV6();
inline void CopyAddress(const IpAddress& address, uint8_t* to) {
  std::memcpy(to, address.v6_bytes(), 16);
}

class FuzzHost : public Application {
 public:
  explicit FuzzHost(const DeviceCapabilities* device = nullptr);
  ~FuzzHost() override;

  Host& host() { return *host_; }
  Instant now() const { return now_; }
  // Listeners (TCP), bound endpoints (UDP) and raw sockets of both families; groups joined.
  void OpenEverything();
  // One frame in, and all that comes of it. What goes out is kept in `sent`.
  void Input(Bytes frame, const Offload& offload = {});
  void Pass(Duration duration);
  void Turn();
  std::vector<WireFrame>& sent() { return sent_; }
  // Sees every datagram that a UDP socket receives.
  std::function<void(const uint8_t* data, size_t size)> on_datagram;

  void OnEvents(SimSocket& socket, EventMask events) override;
  bool finished() const override { return true; }

 private:
  std::unique_ptr<Host> host_;
  Instant now_;
  std::vector<WireFrame> sent_;
  std::vector<SimSocket*> accepted_;
  Bytes buffer_;
};

// Headers for seeds and targets; lengths and checksums are right.
Bytes EthernetFrame(const uint8_t* to, const uint8_t* from, uint16_t type, const Bytes& body);
Bytes Ipv4Packet(uint32_t from, uint32_t to, uint8_t protocol, const Bytes& body,
                 uint16_t fragment = 0x4000, uint16_t id = 1);
Bytes Ipv6Packet(const IpAddress& from, const IpAddress& to, uint8_t next, const Bytes& body,
                 uint8_t hop_limit = 64);
Bytes TcpSegment(uint16_t from, uint16_t to, uint32_t sequence, uint32_t acknowledgment,
                 uint8_t flags, uint16_t window, const Bytes& options, const Bytes& payload,
                 uint16_t urgent = 0);
Bytes UdpDatagram(uint16_t from, uint16_t to, const Bytes& payload);
// From the peer to the host, checksums fixed.
Bytes ToHostV4(uint8_t protocol, const Bytes& body);
Bytes ToHostV6(uint8_t next, const Bytes& body, uint8_t hop_limit = 64);
Bytes ArpFrame(uint16_t operation, uint32_t sender, uint32_t target);
Bytes Concat(std::initializer_list<Bytes> parts);

}  // namespace userstack::testing
