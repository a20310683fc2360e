// TcpHost: Core, Ip and Tcp in an arena of their own, driven in virtual time. TcpPair joins two by
// a wire with delay and a hook that may drop. TcpScript is one host and a peer made by hand: every
// segment in and out is written down by the test.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "netstack/tcp/info.h"
#include "netstack/tcp/tcp.h"
#include "netstack/wire/tcp.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack::testing {

using LinuxInfo = tcp::LinuxTcpInfo;
inline constexpr Instant kStart{1'000'000'000'000};

DeviceCapabilities PlainDevice();    // cuts nothing, sums nothing
DeviceCapabilities OffloadDevice();  // takes 64 KiB segments and open checksums

class TcpHost {
 public:
  TcpHost(const char* address, const DeviceCapabilities& device, uint64_t seed,
          size_t arena_bytes = size_t{96} << 20);
  ~TcpHost();
  TcpHost(const TcpHost&) = delete;
  TcpHost& operator=(const TcpHost&) = delete;

  Core& core() { return *core_; }
  Ip& ip() { return *ip_; }
  tcp::Tcp& tcp() { return *tcp_; }
  const IpAddress& address() const { return address_; }
  uint64_t Count(Counter c) const { return core_->counters.Get(c); }

  void Input(const WireFrame& frame, Instant now);
  // Timers that are due, looped packets, held-back output.
  void Advance(Instant now);
  std::vector<WireFrame> Output();
  Instant NextDeadline() const;

  // --- sockets ---
  struct Socket {
    tcp::Connection* connection = nullptr;
    Pollable pollable;
  };
  Socket* Open(Family family = Family::kIpv4);
  Socket* Listen(uint16_t port, int backlog, Instant now);
  Socket* Accept(Socket* listener, Instant now);  // nullptr when none waits
  // -errno, or the count.
  int64_t Send(Socket* s, std::string_view data, Instant now, int flags = 0);
  int64_t Receive(Socket* s, std::string* data, size_t most, Instant now, int flags = 0);
  void Close(Socket* s, Instant now);
  LinuxInfo Info(Socket* s, Instant now);
  EventMask Level(const Socket* s) const { return s->pollable.level; }

 private:
  void Dispatch(Packet* packet, Instant now);

  IpAddress address_;
  size_t size_;
  void* memory_;
  Core* core_;
  Ip* ip_;
  tcp::Tcp* tcp_;
  std::vector<std::unique_ptr<Socket>> sockets_;
};

class TcpPair {
 public:
  explicit TcpPair(const DeviceCapabilities& device = OffloadDevice(), uint64_t seed = 1,
                   const char* a = "10.0.0.1", const char* b = "10.0.0.2");

  TcpHost& a() { return *hosts_[0]; }
  TcpHost& b() { return *hosts_[1]; }
  Instant now() const { return now_; }
  void set_delay(Duration d) { delay_ = d; }
  // Called for every frame with the sender's index; true drops it.
  std::function<bool(int from, const WireFrame&)> drop;
  // Frames with segmentation are cut before they travel (and before `drop` sees them).
  bool cut = true;

  // Puts out what the hosts have to send now (after calls made by the test).
  void Flush();
  // Runs until nothing happens before now + d, and moves the time there.
  void RunFor(Duration d);
  bool RunUntil(const std::function<bool()>& done, Duration limit);

  // Connects a to b's port 80: both ends.
  struct Ends {
    TcpHost::Socket* client = nullptr;
    TcpHost::Socket* server = nullptr;
    TcpHost::Socket* listener = nullptr;
  };
  Ends Connect();
  // Sends `total` bytes of a pattern from one socket to the other and checks them; false when
  // `limit` passes first.
  bool Transfer(TcpHost& from, TcpHost::Socket* sender, TcpHost& to, TcpHost::Socket* receiver,
                size_t total, Duration limit);
  std::vector<std::string> trace;  // one line per TCP frame, tcpdump's way

 private:
  struct Flight {
    Instant at;
    uint64_t order;
    int to;
    WireFrame frame;
  };
  bool Step(Instant until);

  std::unique_ptr<TcpHost> hosts_[2];
  Instant now_ = kStart;
  Duration delay_ = Duration::Microseconds(50);
  std::deque<Flight> flights_;
  uint64_t order_ = 0;
};

// A TCP segment as a test writes and reads it. Sequence numbers as on the wire.
struct Seg {
  uint32_t sequence = 0;
  uint32_t acknowledgment = 0;
  uint8_t flags = 0;
  uint16_t window = 65535;
  uint16_t urgent = 0;
  wire::TcpOptions options;
  std::string payload;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint16_t segment_size = 0;  // of one that the device shall cut

  bool Has(uint8_t flag) const { return (flags & flag) == flag; }
};
std::ostream& operator<<(std::ostream& out, const Seg& s);

// The stack is 10.0.0.2, the peer 10.0.0.1 port 5000. The peer's ISS is 1000, so that its first
// byte is 1001; the stack's is learned from its SYN or SYN-ACK.
class TcpScript : public ::testing::Test {
 protected:
  static constexpr uint32_t kPeerInitial = 1000;
  static constexpr uint16_t kPeerPort = 5000;

  TcpScript();
  ~TcpScript() override;
  void UseDevice(const DeviceCapabilities& device);

  TcpHost& host() { return *host_; }
  tcp::Tcp& tcp() { return host_->tcp(); }
  Instant now() const { return now_; }

  // A segment from the peer, at the present time.
  void In(const Seg& segment);
  // The next segment that the stack sent; a test failure when there is none.
  Seg Out();
  bool HasOut();
  // Drops what was sent.
  void SkipOut();
  // Lets time pass, running timers at their deadlines.
  void Advance(Duration d);

  // Our port 80 listens and a peer's handshake completes; returns the accepted socket.
  TcpHost::Socket* AcceptOne(const wire::TcpOptions& options = PeerOptions(),
                             uint16_t window = 65535);
  // We connect to the peer, which answers.
  TcpHost::Socket* ConnectOne(const wire::TcpOptions& options = PeerOptions(),
                              uint16_t window = 65535);
  static wire::TcpOptions PeerOptions();  // MSS 1460, SACK, timestamps, scale 7
  static wire::TcpOptions MssOnly(uint16_t mss = 1460);
  // A segment from the peer within the connection, timestamps filled in when they are on.
  Seg Peer(uint8_t flags, std::string payload = "");
  void PeerSends(std::string payload);  // and advances peer_next_
  int64_t Write(TcpHost::Socket* s, std::string_view data, int flags = 0);
  std::string Read(TcpHost::Socket* s, size_t most = 1 << 20, int flags = 0);
  int64_t ReadResult(TcpHost::Socket* s, int flags = 0);
  void SetOption(TcpHost::Socket* s, int name, int value);

  std::unique_ptr<TcpHost> host_;
  Instant now_ = kStart;
  uint16_t our_port_ = 80;
  uint32_t our_initial_ = 0;           // ISS of the stack
  uint32_t peer_next_ = kPeerInitial;  // the next sequence number of the peer
  uint32_t peer_ack_ = 0;              // what the peer acknowledges
  uint16_t peer_window_ = 65535;
  bool timestamps_ = false;
  uint32_t peer_timestamp_ = 77000;
  uint32_t last_timestamp_ = 0;  // the stack's last TSval
  std::deque<Seg> sent_;
  TcpHost::Socket* listener_ = nullptr;
  bool corrupt_next_ = false;  // the next segment In arrives with a bit flipped

 private:
  void Collect();
};

// The `n` th byte of the pattern that transfers send.
uint8_t PatternByte(size_t n);
IpAddress Address(const char* text);
MacAddress MacOf(const IpAddress& address);  // of the fixture's stations
// The TCP segment in an IPv4 or IPv6 frame; false for everything else.
bool ParseSeg(const WireFrame& frame, Seg* seg);

}  // namespace userstack::testing
