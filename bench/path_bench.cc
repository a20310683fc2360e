// The path of a segment through two stacks that are joined by an in-memory wire: everything but
// system calls, on one thread, in virtual time. Each figure is the cost of both ends together, the
// copies of the wire included (one at each end). With and without segmentation offload.
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend/memory.h"
#include "netstack/stack/stack.h"

namespace userstack {

[[noreturn]] void CheckFailed(const char* what, const char* file, unsigned line) {
  std::fprintf(stderr, "%s:%u: check failed: %s\n", file, line, what);
  std::abort();
}

namespace {

constexpr uint16_t kPort = 7;
constexpr size_t kArenaBytes = 256 << 20;

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};

sockaddr_in AddressOf(int end) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  address.sin_addr.s_addr = htonl(0x0a610000u + static_cast<uint32_t>(end) + 1);
  return address;
}

// One stack and its end of the wire.
class End {
 public:
  End(int index, backend::Device& device)
      : device_(device), memory_(static_cast<uint8_t*>(std::aligned_alloc(4096, kArenaBytes))) {
    std::fill_n(memory_.get(), kArenaBytes, uint8_t{0});
    StackConfig config;
    config.seed = static_cast<uint64_t>(index) + 1;
    stack_ = Stack::Create(Arena::Format(memory_.get(), kArenaBytes), config, Instant{});
    Check(stack_ != nullptr, "bench: arena too small");
    Check(stack_->ip().AddInterface(kWireInterface, "eth0", device.capabilities()).ok(), "bench");
    const Prefix address{IpAddress::V4(0x0a610000u + static_cast<uint32_t>(index) + 1), 24};
    Check(stack_->ip().AddAddress(kWireInterface, address, Instant{}).ok(), "bench");
  }

  // Takes what the wire has, does what is due, sends. False when nothing moved.
  bool Turn(Instant now) {
    Packet* packets[64];
    const size_t got = device_.Receive(stack_->core(), packets, 64, kWireInterface, now);
    if (got > 0) stack_->Input(packets, got, now);
    stack_->Advance(now);
    bool sent = false;
    while (Frame* frame = stack_->NextFrame(kWireInterface)) {
      if (device_.Transmit(stack_->core(), *frame) == backend::Device::Sent::kBusy) {
        stack_->ReturnFrame(frame);
        break;
      }
      stack_->core().frames.Release(frame);
      sent = true;
    }
    while (stack_->core().wakes.Pop() != nullptr) {
    }
    return got > 0 || sent;
  }

  Stack* operator->() { return stack_; }

 private:
  backend::Device& device_;
  std::unique_ptr<uint8_t, Free> memory_;
  Stack* stack_ = nullptr;
};

DeviceCapabilities Capabilities(int end, bool offload) {
  DeviceCapabilities capabilities;
  capabilities.mac = MacAddress{{2, 0, 0, 0, 0, static_cast<uint8_t>(end + 1)}};
  capabilities.transmit_checksum = offload;
  capabilities.tcp_segmentation_max = offload ? 65535 : 0;
  return capabilities;
}

// A connected pair.
class Pair {
 public:
  explicit Pair(bool offload)
      : wire_(Capabilities(0, offload), Capabilities(1, offload), 4096),
        ends_{End(0, wire_.end(0)), End(1, wire_.end(1))} {
    Socket* listener = Open(0);
    const sockaddr_in address = AddressOf(0);
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    Check(ends_[0]->Bind(*listener, name, sizeof address).ok(), "bench: bind");
    Check(ends_[0]->Listen(*listener, 1, now_).ok(), "bench: listen");
    sockets_[1] = Open(1);
    (void)ends_[1]->Connect(*sockets_[1], name, sizeof address, now_);
    Run();
    const Result<Socket*> accepted = ends_[0]->Accept(*listener, now_);
    Check(accepted.ok(), "bench: accept");
    sockets_[0] = *accepted;
    const int on = 1;
    for (int i = 0; i < 2; ++i) {
      Check(ends_[i]->SetOption(*sockets_[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on, now_).ok(),
            "bench: TCP_NODELAY");
    }
  }

  // Until nothing moves; a hundred microseconds of virtual time a turn.
  void Run() {
    for (bool moved = true; moved;) {
      now_ = now_ + Duration::Microseconds(100);
      moved = ends_[0].Turn(now_);
      moved = ends_[1].Turn(now_) || moved;
    }
  }
  size_t Send(int from, const std::vector<uint8_t>& bytes) {
    const iovec entry{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    const auto sent =
        ends_[from]->Send(*sockets_[from], IoVector(&entry, 1), 0, nullptr, 0, nullptr, now_);
    return sent.ok() ? *sent : 0;
  }
  size_t Receive(int at, std::vector<uint8_t>& bytes) {
    const iovec entry{bytes.data(), bytes.size()};
    ReceivedMessage message;
    const Status status = ends_[at]->Receive(*sockets_[at], IoVector(&entry, 1), 0, &message, now_);
    return status.ok() ? message.copied : 0;
  }
  void Turn(int end) {
    now_ = now_ + Duration::Microseconds(5);
    ends_[end].Turn(now_);
  }
  uint64_t segments_out(int end) {
    return ends_[end]->core().counters.Get(Counter::kDeviceOutFrames);
  }

 private:
  Socket* Open(int end) {
    const Result<Socket*> socket = ends_[end]->CreateSocket(AF_INET, SOCK_STREAM, 0);
    Check(socket.ok(), "bench: socket");
    return *socket;
  }

  Instant now_{1'000'000'000};
  backend::MemoryWire wire_;
  End ends_[2];
  Socket* sockets_[2] = {};
};

void BM_Bulk(benchmark::State& state) {
  Pair pair(state.range(0) != 0);
  const std::vector<uint8_t> out(128 << 10, 0x5a);
  std::vector<uint8_t> in(1 << 20);
  int64_t moved = 0;
  const uint64_t before = pair.segments_out(1);
  for (auto _ : state) {
    while (pair.Send(1, out) > 0) {
    }
    pair.Turn(1);
    pair.Turn(0);
    while (const size_t got = pair.Receive(0, in)) moved += static_cast<int64_t>(got);
    pair.Turn(0);
    pair.Turn(1);
  }
  if (moved == 0) state.SkipWithError("nothing moved");
  state.SetBytesProcessed(moved);
  state.counters["bytes_per_frame"] =
      static_cast<double>(moved) / static_cast<double>(pair.segments_out(1) - before + 1);
}
BENCHMARK(BM_Bulk)->ArgName("offload")->Arg(0)->Arg(1);

// One byte there and one byte back.
void BM_RoundTrip(benchmark::State& state) {
  Pair pair(true);
  const std::vector<uint8_t> out(1, 0x5a);
  std::vector<uint8_t> in(16);
  for (auto _ : state) {
    for (const int from : {1, 0}) {
      if (pair.Send(from, out) != 1) state.SkipWithError("not sent");
      pair.Turn(from);
      pair.Turn(1 - from);
      if (pair.Receive(1 - from, in) != 1) state.SkipWithError("not received");
    }
  }
}
BENCHMARK(BM_RoundTrip);

}  // namespace
}  // namespace userstack
