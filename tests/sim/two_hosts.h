// TwoHosts: the fixture of scripted conversations. A and B on one wire, addresses settled, and
// sockets that the test drives by hand (between its calls the network runs in virtual time).
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/netstack/testing/network.h"
#include "tests/netstack/testing/stream.h"

namespace userstack::testing {

// Leaves its sockets to the test.
class Manual : public Application {
 public:
  void OnEvents(SimSocket& socket, EventMask events) override {
    (void)socket;
    seen |= events;
  }
  bool finished() const override { return true; }
  EventMask seen = 0;
};

struct TwoHostsOptions {
  uint64_t seed = 1;
  Impairment up_a, up_b, down_a, down_b;
  DeviceCapabilities device_a, device_b;
  StackConfig stack;
  size_t arena_bytes = size_t{64} << 20;
  bool pass_large = false;
  uint64_t check_every = 1;
  size_t trace_frames = 4000;
  bool verify_frames = true;
  Duration coalesce;
};

// One TCP header as it went by.
struct SeenSegment {
  Instant at;
  uint8_t flags = 0;
  uint32_t sequence = 0, acknowledgment = 0, payload = 0;
  uint16_t source_port = 0, destination_port = 0, window = 0;
};
// False when the frame holds no TCP segment.
bool ReadSegment(const WireFrame& frame, SeenSegment* out);

class TwoHosts : public ::testing::Test {
 protected:
  void Build(const TwoHostsOptions& options = {});
  void TearDown() override;

  Network& net() { return *net_; }
  Host& a() { return net_->host(0); }
  Host& b() { return net_->host(1); }

  SimSocket* Open(Host& host, Family family, int type = SOCK_STREAM);
  SimSocket* Listen(Host& host, Family family, uint16_t port, int backlog = 16);
  // nullptr when none is waiting.
  SimSocket* TryAccept(SimSocket* listener);
  struct Connected {
    SimSocket* client = nullptr;
    SimSocket* server = nullptr;
    SimSocket* listener = nullptr;
  };
  // A connects to B; both ends are returned once the handshake is over.
  Connected Connect(Family family, uint16_t port = 80);

  // Host calls, in a turn of their own. Counts or -errno.
  long Send(SimSocket* socket, const std::string& text, int flags = 0);
  long SendContent(SimSocket* socket, uint64_t stream, uint64_t offset, size_t length);
  long Receive(SimSocket* socket, std::string* out, size_t limit = 65536, int flags = 0);
  // Reads what is there and compares with content; the number of bytes, or -errno (-EAGAIN: none).
  long ReceiveContent(SimSocket* socket, uint64_t stream, uint64_t offset, size_t limit = 1 << 20);
  int Shutdown(SimSocket* socket, int how);
  void Close(SimSocket* socket);
  int SoError(SimSocket* socket);
  uint64_t Count(Host& host, Counter counter) { return host.core().counters.Get(counter); }

  // Records the TCP segments that `host` puts on its link, and drops those that `drop` says.
  using DropRule = std::function<bool(const SeenSegment&)>;
  void Observe(size_t host, DropRule drop = nullptr);
  std::vector<SeenSegment>& seen(size_t host) { return seen_[host]; }

  // Both stacks are empty again after every socket was closed.
  void ExpectClean(Duration aftermath = Duration::Seconds(200));

  std::unique_ptr<Network> net_;
  Manual manual_;
  std::vector<SeenSegment> seen_[2];
  std::vector<Usage> before_;
};

}  // namespace userstack::testing
