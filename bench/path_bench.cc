// The path of a segment through two stacks that are joined by an in-memory wire: everything but
// system calls, on one thread, in virtual time. Bulk and RoundTrip are the cost of both ends
// together, the copies of the wire included (one at each end); the others are the calls of one
// stack (manual time).
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "bench/two_stacks.h"
#include "netstack/tcp/lifecycle.h"

namespace userstack::bench {
namespace {

constexpr uint16_t kPort = 7;

// A connected pair.
class Pair {
 public:
  explicit Pair(bool offload) : stacks_({.offload = offload}) {
    pair_ = MakeStreamPair(stacks_, kPort);
  }

  size_t Send(int from, const std::vector<uint8_t>& bytes) {
    return stacks_.Send(from, *pair_.sockets[from], bytes.data(), bytes.size());
  }
  size_t Receive(int at, std::vector<uint8_t>& bytes) {
    return stacks_.Receive(at, *pair_.sockets[at], bytes.data(), bytes.size());
  }
  void Turn(int end) { stacks_.Turn(end); }
  End& end(int index) { return stacks_.end(index); }
  uint64_t segments_out(int end) {
    return stacks_.end(end)->core().counters.Get(Counter::kDeviceOutFrames);
  }

 private:
  TwoStacks stacks_;
  StreamPair pair_;
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

// What one end of a bulk transfer costs for one frame that carries data: MSS segments without
// offload, up to 64 KiB with it.
void OneEndOfBulk(benchmark::State& state, bool offload, int timed) {
  Pair pair(offload);
  const std::vector<uint8_t> out(128 << 10, 0x5a);
  std::vector<uint8_t> in(1 << 20);
  int64_t frames = 0, bytes = 0;
  pair.end(timed).set_counted(true);
  for (auto _ : state) {
    const double before = pair.end(timed).seconds();
    const uint64_t sent = pair.segments_out(1);
    while (pair.Send(1, out) > 0) {
    }
    pair.Turn(1);
    pair.Turn(0);
    while (const size_t got = pair.Receive(0, in)) bytes += static_cast<int64_t>(got);
    pair.Turn(0);
    pair.Turn(1);
    frames += static_cast<int64_t>(pair.segments_out(1) - sent);
    state.SetIterationTime(pair.end(timed).seconds() - before);
  }
  state.SetItemsProcessed(frames);
  state.SetBytesProcessed(bytes);
}
void BM_SegmentIn(benchmark::State& state) { OneEndOfBulk(state, state.range(0) != 0, 0); }
BENCHMARK(BM_SegmentIn)->ArgName("offload")->Arg(0)->Arg(1)->UseManualTime();
void BM_SegmentOut(benchmark::State& state) { OneEndOfBulk(state, state.range(0) != 0, 1); }
BENCHMARK(BM_SegmentOut)->ArgName("offload")->Arg(0)->Arg(1)->UseManualTime();

// The ACK of two segments, and nothing more to send.
void BM_AckIn(benchmark::State& state) {
  Pair pair(false);
  const std::vector<uint8_t> out(2 * 1448, 0x5a);
  std::vector<uint8_t> in(1 << 16);
  for (auto _ : state) {
    if (pair.Send(1, out) != out.size()) state.SkipWithError("not sent");
    pair.Turn(1);
    pair.Turn(0);
    if (pair.Receive(0, in) != out.size()) state.SkipWithError("not received");
    pair.Turn(0);
    const double before = pair.end(1).seconds();
    pair.end(1).set_counted(true);
    pair.Turn(1);
    pair.end(1).set_counted(false);
    state.SetIterationTime(pair.end(1).seconds() - before);
  }
}
BENCHMARK(BM_AckIn)->UseManualTime();

// From a tuple to its connection, among so many, each in turn of a random order: a cache miss or
// two when they are many.
void BM_Demultiplex(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  TwoStacks stacks({.arena_bytes = size_t{4} << 30});
  Core& core = stacks.end(0)->core();
  auto context = std::make_unique<tcp::Context>();
  context->core = &core;
  context->connections.Initialize(core.arena, 1u << 20);
  if (!context->table.Initialize(core.arena, 1u << 20)) state.SkipWithError("arena");
  std::vector<tcp::Tuple> tuples(count);
  Random random(1);
  for (tcp::Tuple& tuple : tuples) {
    tuple = {IpAddress::V4(0x0a610001), IpAddress::V4(static_cast<uint32_t>(random.Next())), 80,
             static_cast<uint16_t>(random.Next())};
    tcp::Connection* connection = tcp::NewConnection(*context, Family::kIpv4);
    if (connection == nullptr) return state.SkipWithError("arena");
    connection->tuple = tuple;
    tcp::InsertIntoTable(*context, *connection);
  }
  size_t i = 0;
  for (auto _ : state) {
    const tcp::Tuple& tuple = tuples[i];
    benchmark::DoNotOptimize(tcp::FindConnection(*context, tuple, tcp::HashOf(*context, tuple)));
    i = (i + 7919) % count;
  }
}
BENCHMARK(BM_Demultiplex)->Arg(10)->Arg(10'000)->Arg(1'000'000);

}  // namespace
}  // namespace userstack::bench
