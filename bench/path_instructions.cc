// Fixed pieces of work on the packet path, for bench/instructions to count: what one stack (its
// calls, not the wire) executes.
//
//   path_instructions --list       the names
//   path_instructions NAME         prints how many operations were counted
//
// Everything is in virtual time and seeded, so that two runs execute the same instructions. Each
// scenario begins with a warm-up, in which pools take their memory and windows open.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string_view>
#include <vector>

#include "bench/population.h"
#include "bench/two_stacks.h"
#include "netstack/base/check.h"

namespace userstack::bench {
namespace {

constexpr size_t kOperations = 1000;
constexpr size_t kWarmUp = 10;  // times as many, until a stream's windows grow no more
constexpr uint16_t kPort = 7;
constexpr int kBoth = -1;

// A bulk transfer from end 1 to end 0 without offloads: the operations are segments of one MSS.
// With offloads: 64 KiB of payload.
uint64_t Bulk(bool offload, int counted) {
  TwoStacks stacks({.offload = offload});
  const StreamPair pair = MakeStreamPair(stacks, kPort);
  const std::vector<uint8_t> out(256 << 10, 0x5a);
  std::vector<uint8_t> in(1 << 20);
  uint64_t moved = 0;
  const auto move = [&](uint64_t bytes) {
    for (const uint64_t end = moved + bytes; moved < end;) {
      while (stacks.Send(1, *pair.sockets[1], out.data(), out.size()) > 0) {
      }
      stacks.Turn(1);
      stacks.Turn(0);
      while (const size_t got = stacks.Receive(0, *pair.sockets[0], in.data(), in.size())) {
        moved += got;
      }
      stacks.Turn(0);
      stacks.Turn(1);
    }
  };
  constexpr uint64_t kSegment = 1448;
  constexpr uint64_t kLarge = 65536;
  const uint64_t unit = offload ? kLarge : kSegment;
  move(kWarmUp * kOperations * unit);
  StartCounting();
  stacks.end(counted).set_counted(true);
  const uint64_t before = moved;
  move(kOperations * unit);
  stacks.end(counted).set_counted(false);
  return (moved - before) / unit;
}

// 100 bytes there and 100 back on connections drawn from a thousand of those that there are (so
// that delayed acknowledgments are due alike, however many there are), found by epoll. `counted` is
// an end, or kBoth.
uint64_t Exchanges(size_t among, int counted) {
  TwoStacks stacks;
  Population population(stacks, among);
  population.GrowTo(among);
  Random random(2);
  const size_t used = std::min(among, kOperations);
  const auto some = [&] { return random.Below(used) * (among / used); };
  for (size_t i = 0; i < kOperations; ++i) population.Exchange(some());
  StartCounting();
  for (int i = 0; i < 2; ++i) stacks.end(i).set_counted(counted == kBoth || counted == i);
  for (size_t i = 0; i < kOperations; ++i) population.Exchange(some());
  for (int i = 0; i < 2; ++i) stacks.end(i).set_counted(false);
  return kOperations;
}

// Connect, accept and close at both ends, while `among` others are open.
uint64_t Connections(size_t among, int counted) {
  TwoStacks stacks;
  Population population(stacks, among);
  population.GrowTo(among);
  for (size_t i = 0; i < kOperations; ++i) population.Replace(population.RandomIndex());
  StartCounting();
  stacks.end(counted).set_counted(true);
  for (size_t i = 0; i < kOperations; ++i) population.Replace(population.RandomIndex());
  stacks.end(counted).set_counted(false);
  return kOperations;
}

// 64 bytes from end 1 to end 0, one at a time.
uint64_t Datagrams(int counted) {
  TwoStacks stacks;
  Socket* server = stacks.Bind(0, SOCK_DGRAM, kPort);
  Socket* client = stacks.Connect(1, kPort, SOCK_DGRAM);
  uint8_t bytes[64] = {};
  const auto move = [&](size_t count) {
    for (size_t i = 0; i < count; ++i) {
      Check(stacks.Send(1, *client, bytes, sizeof bytes) == sizeof bytes, "bench: sendto");
      stacks.Turn(1);
      stacks.Turn(0);
      Check(stacks.Receive(0, *server, bytes, sizeof bytes) == sizeof bytes, "bench: recvfrom");
    }
  };
  Check(stacks.Send(1, *client, bytes, sizeof bytes) == sizeof bytes, "bench: sendto");
  stacks.Run();  // the neighbour is resolved
  Check(stacks.Receive(0, *server, bytes, sizeof bytes) == sizeof bytes, "bench: recvfrom");
  move(kOperations);
  StartCounting();
  stacks.end(counted).set_counted(true);
  move(kOperations);
  stacks.end(counted).set_counted(false);
  return kOperations;
}

class Wheel {
 public:
  explicit Wheel(size_t count) {
    wheel_.Initialize(Instant{});
    for (size_t i = 0; i < count; ++i) {
      timers_.push_back(std::make_unique<Timer>(TimerKind::kTcpRetransmit));
      wheel_.Arm(timers_.back().get(), SomeDeadline());
    }
  }
  ~Wheel() {
    for (auto& timer : timers_) wheel_.Disarm(timer.get());
  }
  // What an acknowledgment does, and a delayed one that was not needed.
  uint64_t Rearm() {
    std::vector<Instant> deadlines;
    for (size_t i = 0; i < kOperations; ++i) deadlines.push_back(SomeDeadline());
    StartCounting();
    Counted counted;
    for (size_t i = 0; i < kOperations; ++i) {
      wheel_.Arm(timers_[i].get(), deadlines[i]);
      wheel_.Disarm(timers_[i].get());
      wheel_.Arm(timers_[i].get(), deadlines[i]);
    }
    return kOperations;
  }
  uint64_t Expire() {
    size_t expired = 0;
    StartCounting();
    for (Instant now{}; expired < kOperations; now = now + Duration::Milliseconds(1)) {
      Counted counted;
      while (wheel_.PopExpired(now) != nullptr) ++expired;
    }
    return expired;
  }

 private:
  Instant SomeDeadline() { return {static_cast<int64_t>(random_.Below(2'000'000'000))}; }
  TimerWheel wheel_;
  Random random_{1};
  std::vector<std::unique_ptr<Timer>> timers_;
};

constexpr size_t kMany = 30'000;
constexpr size_t kManyTimers = 100'000;

struct Scenario {
  std::string_view name;
  uint64_t (*run)();
};
constexpr Scenario kScenarios[] = {
    {"tcp_segment_in", [] { return Bulk(false, 0); }},
    {"tcp_segment_out", [] { return Bulk(false, 1); }},
    {"tcp_64k_in", [] { return Bulk(true, 0); }},
    {"tcp_64k_out", [] { return Bulk(true, 1); }},
    {"request_response_server", [] { return Exchanges(1, 0); }},
    {"request_response_client", [] { return Exchanges(1, 1); }},
    {"request_response_both_among_1000", [] { return Exchanges(kOperations, kBoth); }},
    {"request_response_both_among_30000", [] { return Exchanges(kMany, kBoth); }},
    {"connect_close_server", [] { return Connections(1, 0); }},
    {"connect_close_client", [] { return Connections(1, 1); }},
    {"connect_close_client_among_30000", [] { return Connections(kMany, 1); }},
    {"udp_in", [] { return Datagrams(0); }},
    {"udp_out", [] { return Datagrams(1); }},
    {"timer_rearm_cancel_arm_among_1000", [] { return Wheel(kOperations).Rearm(); }},
    {"timer_rearm_cancel_arm_among_100000", [] { return Wheel(kManyTimers).Rearm(); }},
    {"timer_expire_among_100000", [] { return Wheel(kManyTimers).Expire(); }},
};

}  // namespace
}  // namespace userstack::bench

int main(int argc, char** argv) {
  const std::string_view wanted = argc == 2 ? argv[1] : "";
  for (const auto& scenario : userstack::bench::kScenarios) {
    if (wanted == "--list") {
      std::printf("%s\n", scenario.name.data());
    } else if (wanted == scenario.name) {
      std::printf("%llu\n", static_cast<unsigned long long>(scenario.run()));
      return 0;
    }
  }
  if (wanted == "--list") return 0;
  std::fprintf(stderr, "usage: path_instructions --list | NAME\n");
  return 2;
}
