// The pieces of the core that every packet or call passes: checksum, hashes, pools, timers,
// readiness.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "netstack/arena/hash_table.h"
#include "netstack/base/check.h"
#include "netstack/base/checksum.h"
#include "netstack/base/random.h"
#include "netstack/packet/core.h"

namespace userstack {

[[noreturn]] void CheckFailed(const char* what, const char* file, unsigned line) {
  std::fprintf(stderr, "%s:%u: check failed: %s\n", file, line, what);
  std::abort();
}

namespace {

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};

// A core in ordinary memory.
class BenchCore {
 public:
  BenchCore() : memory_(static_cast<uint8_t*>(std::aligned_alloc(4096, kBytes))) {
    std::fill_n(memory_.get(), kBytes, uint8_t{0});
    core_.arena = Arena::Format(memory_.get(), kBytes);
    core_.buffers.Initialize(core_.arena, 16 << 20, 16 << 20);
    core_.packets.Initialize(core_.arena, &core_.buffers, 4096);
    core_.frames.Initialize(core_.arena, &core_.buffers, 4096);
    core_.timers.Initialize(Instant{});
  }
  Core* operator->() { return &core_; }

 private:
  static constexpr size_t kBytes = 64 << 20;
  std::unique_ptr<uint8_t, Free> memory_;
  Core core_;
};

void BM_Checksum(benchmark::State& state) {
  const std::vector<uint8_t> bytes(static_cast<size_t>(state.range(0)), 0x5a);
  for (auto _ : state) {
    ChecksumAccumulator sum;
    sum.Add(bytes.data(), bytes.size());
    benchmark::DoNotOptimize(sum.Sum());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Checksum)->Arg(20)->Arg(64)->Arg(256)->Arg(1460)->Arg(9000)->Arg(65536);

void BM_SipHashOfTuple(benchmark::State& state) {
  const SipKey key{1, 2};
  uint8_t tuple[36] = {1};
  for (auto _ : state) benchmark::DoNotOptimize(SipHash(key, tuple, sizeof tuple));
}
BENCHMARK(BM_SipHashOfTuple);

struct Entry {
  HashNode<Entry> node;
  uint64_t key = 0;
};

void BM_TableFind(benchmark::State& state) {
  BenchCore core;
  HashTable<Entry, &Entry::node> table;
  const auto count = static_cast<size_t>(state.range(0));
  if (!table.Initialize(core->arena, 16384)) std::abort();
  std::vector<Entry> entries(count);
  Random random(1);
  for (Entry& entry : entries) {
    entry.key = random.Next();
    table.Insert(&entry, entry.key);
  }
  size_t i = 0;
  for (auto _ : state) {
    const uint64_t key = entries[i].key;
    benchmark::DoNotOptimize(table.Find(key, [&](const Entry& e) { return e.key == key; }));
    i = (i + 7919) % count;
  }
}
BENCHMARK(BM_TableFind)->Arg(1)->Arg(10000);

void BM_PacketOfOneBuffer(benchmark::State& state) {
  BenchCore core;
  for (auto _ : state) {
    Packet* packet = core->packets.Allocate();
    packet->slices[packet->slice_count++] = {core->buffers.Allocate(BufferClass::kSmall), 0, 1500};
    core->packets.Release(packet);
  }
}
BENCHMARK(BM_PacketOfOneBuffer);

void BM_FrameOfOneSlice(benchmark::State& state) {
  BenchCore core;
  Buffer* buffer = core->buffers.Allocate(BufferClass::kLarge);
  for (auto _ : state) {
    Frame* frame = core->frames.Allocate();
    frame->Append(32);
    frame->Prepend(20);
    frame->Prepend(14);
    if (!frame->AddSlice(buffer, 0, 1448)) std::abort();
    core->frames.Release(frame);
  }
}
BENCHMARK(BM_FrameOfOneSlice);

// Timers of connections, with deadlines within two seconds.
class BenchTimers {
 public:
  explicit BenchTimers(int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      timers_.push_back(std::make_unique<Timer>(TimerKind::kTcpRetransmit));
      core_->timers.Arm(timers_.back().get(), Later());
    }
  }
  ~BenchTimers() {
    for (auto& timer : timers_) wheel().Disarm(timer.get());
  }
  TimerWheel& wheel() { return core_->timers; }
  Timer* Next() { return timers_[next_++ % timers_.size()].get(); }
  Instant Later() {
    return now_ + Duration::Nanoseconds(static_cast<int64_t>(random_.Below(2'000'000'000)));
  }
  Instant Pass(Duration time) { return now_ = now_ + time; }

 private:
  BenchCore core_;
  Instant now_;
  Random random_{1};
  size_t next_ = 0;
  std::vector<std::unique_ptr<Timer>> timers_;
};

// What an ACK does to the retransmission timer, among `range` others.
void BM_TimerRearm(benchmark::State& state) {
  BenchTimers timers(state.range(0));
  for (auto _ : state) {
    const Instant now = timers.Pass(Duration::Nanoseconds(100));
    timers.wheel().Arm(timers.Next(), now + Duration::Milliseconds(200));
  }
}
BENCHMARK(BM_TimerRearm)->Arg(1)->Arg(10'000)->Arg(100'000);

void BM_TimerCancelAndArm(benchmark::State& state) {
  BenchTimers timers(state.range(0));
  for (auto _ : state) {
    Timer* timer = timers.Next();
    timers.wheel().Disarm(timer);
    timers.wheel().Arm(timer, timers.Later());
  }
}
BENCHMARK(BM_TimerCancelAndArm)->Arg(1)->Arg(10'000)->Arg(100'000);

// Time goes on by 100 us a step; what expires is armed anew. An item is a timer that expired.
void BM_TimerAdvance(benchmark::State& state) {
  BenchTimers timers(state.range(0));
  int64_t expired = 0;
  for (auto _ : state) {
    const Instant now = timers.Pass(Duration::Microseconds(100));
    while (Timer* timer = timers.wheel().PopExpired(now)) {
      timers.wheel().Arm(timer, timers.Later());
      ++expired;
    }
  }
  state.SetItemsProcessed(expired);
}
BENCHMARK(BM_TimerAdvance)->Arg(1)->Arg(10'000)->Arg(100'000);

void BM_TimerNextDeadline(benchmark::State& state) {
  BenchTimers timers(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(timers.wheel().NextDeadline());
}
BENCHMARK(BM_TimerNextDeadline)->Arg(1)->Arg(10'000)->Arg(100'000);

// One of `range` watches is ready: found, and back on the list (level-triggered).
void BM_HarvestOneOf(benchmark::State& state) {
  WatchSet set;
  WakeList wakes;
  std::vector<std::unique_ptr<Pollable>> pollables;
  std::vector<std::unique_ptr<Watch>> watches;
  for (int64_t i = 0; i < state.range(0); ++i) {
    pollables.push_back(std::make_unique<Pollable>());
    watches.push_back(std::make_unique<Watch>());
    watches.back()->target = pollables.back().get();
    watches.back()->set = &set;
    watches.back()->interest = kEventIn;
    Attach(*watches.back(), wakes);
  }
  Publish(*pollables.front(), kEventIn, kEventIn, wakes);
  EventMask events = 0;
  for (auto _ : state) {
    BeginHarvest(set);
    while (Harvest(set, &events, wakes) != nullptr) {
    }
  }
  for (auto& watch : watches) Detach(*watch, wakes);
}
BENCHMARK(BM_HarvestOneOf)->Arg(1)->Arg(100)->Arg(10'000);

void BM_PublishToOneWatch(benchmark::State& state) {
  Pollable pollable;
  WatchSet set;
  WakeList wakes;
  Watch watch;
  watch.target = &pollable;
  watch.set = &set;
  watch.interest = kEventIn;
  Attach(watch, wakes);
  EventMask events = 0;
  for (auto _ : state) {
    Publish(pollable, kEventIn, kEventIn, wakes);
    benchmark::DoNotOptimize(Harvest(set, &events, wakes));
    Publish(pollable, 0, 0, wakes);
  }
  Detach(watch, wakes);
}
BENCHMARK(BM_PublishToOneWatch);

}  // namespace
}  // namespace userstack
