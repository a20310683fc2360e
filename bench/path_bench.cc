// The path of a segment through two stacks that are joined by an in-memory wire: everything but
// system calls, on one thread, in virtual time. Each figure is the cost of both ends together, the
// copies of the wire included (one at each end). With and without segmentation offload.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/two_stacks.h"

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

}  // namespace
}  // namespace userstack::bench
