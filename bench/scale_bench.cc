// How many connections: what an idle established one costs in memory at each end, and whether what
// one does costs the same among ten thousand and among a million. Two stacks over the in-memory
// wire, in virtual time; each connection has its description, slot and watch beside it.
//
//   scale_bench [--connections=10000,100000,1000000] [--limit=BYTES]
//
// With --limit the exit status is 1 when a connection takes more than so many bytes of the arena at
// either end, tables and pools included.
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/population.h"

namespace userstack::bench {
namespace {

constexpr size_t kMeasured = 20'000;
constexpr size_t kReplaced = 2'000;

class Stopwatch {
 public:
  double NanosecondsPer(size_t count) const {
    const auto spent = std::chrono::steady_clock::now() - began_;
    return std::chrono::duration<double, std::nano>(spent).count() / static_cast<double>(count);
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

// What a connection consists of, as far as it has a size of its own.
void PrintParts() {
  const size_t table =
      sizeof(void*) * 3 / 2;  // connections; handshakes and TIME-WAIT, a quarter each
  std::printf(
      "one connection: TCB %zu (its timers, table and list nodes included), socket %zu, "
      "description %zu, slot %zu, watch %zu, table slots %zu bytes\n",
      sizeof(tcp::Connection), sizeof(Socket), sizeof(shim::Description), sizeof(shim::Slot),
      sizeof(Watch), table);
}

struct Figures {
  size_t connections = 0;
  double bytes[2] = {};   // of the arena, per connection
  double growth[2] = {};  // of the arena, per connection added since the size before
  double connect = 0;     // ns, both ends
  double exchange = 0;
  double replace = 0;
  double arm = 0;
  double fire = 0;
};

// SO_KEEPALIVE on every connection of the client, a deadline every 10 us; then two hours pass, and
// each probes and is answered.
void MeasureTimers(TwoStacks& stacks, Population& population, Figures* figures) {
  const size_t count = population.size();
  const Duration apart = Duration::Microseconds(10);
  const Instant began = stacks.now();
  const Stopwatch arming;
  for (size_t i = 0; i < count; ++i) {
    stacks.SetOption(1, population.socket(1, i), SOL_SOCKET, SO_KEEPALIVE, 1);
    stacks.Pass(apart);
  }
  figures->arm = arming.NanosecondsPer(count);
  const Counters& counters = stacks.end(0)->core().counters;
  const uint64_t before = counters.Get(Counter::kDeviceInFrames);
  stacks.Pass(Duration::Seconds(7190) - (stacks.now() - began));
  stacks.Run();
  const Stopwatch firing;
  const Instant until = began + Duration::Seconds(7201) + apart * static_cast<int64_t>(count);
  while (stacks.now() < until) {
    stacks.Pass(Duration::Milliseconds(1));
    stacks.Run();
  }
  figures->fire = firing.NanosecondsPer(count);
  Check(counters.Get(Counter::kDeviceInFrames) - before >= count, "bench: probes are missing");
  for (size_t i = 0; i < count; ++i) {
    stacks.SetOption(1, population.socket(1, i), SOL_SOCKET, SO_KEEPALIVE, 0);
  }
}

Figures Measure(TwoStacks& stacks, Population& population, size_t count) {
  Figures figures;
  figures.connections = count;
  const size_t added = count - population.size();
  size_t before[2];
  for (int i = 0; i < 2; ++i) before[i] = stacks.end(i).arena().used();
  {
    const Stopwatch watch;
    population.ConnectSome(added);
    figures.connect = watch.NanosecondsPer(added);
  }
  for (size_t i = count - added; i < count; ++i) population.Exchange(i);
  population.Settle();
  for (int i = 0; i < 2; ++i) {
    const size_t used = stacks.end(i).arena().used();
    figures.growth[i] = static_cast<double>(used - before[i]) / static_cast<double>(added);
    figures.bytes[i] = static_cast<double>(used) / static_cast<double>(count);
  }
  {
    const Stopwatch watch;
    for (size_t i = 0; i < kMeasured; ++i) population.Exchange(population.RandomIndex());
    figures.exchange = watch.NanosecondsPer(kMeasured);
  }
  {
    const Stopwatch watch;
    for (size_t i = 0; i < kReplaced; ++i) population.Replace(population.RandomIndex());
    figures.replace = watch.NanosecondsPer(kReplaced);
  }
  MeasureTimers(stacks, population, &figures);
  return figures;
}

int Run(const std::vector<size_t>& sizes, double limit) {
  TwoStacksOptions options;
  // Reserved, not used. Limits and tables follow from it: a connection for every 4 KiB, rounded
  // down to a power of two, and as many slots of the table.
  options.arena_bytes = std::max(std::bit_ceil(sizes.back() + 64) * 4096, size_t{256} << 20);
  TwoStacks stacks(options);
  Population population(stacks, sizes.back());
  PrintParts();
  std::printf("arena of %zu MiB; before the first connection %zu KiB are taken\n",
              options.arena_bytes >> 20, stacks.end(0).arena().used() >> 10);
  std::printf("%11s %23s %23s %9s %9s %9s %9s %9s\n", "connections", "bytes each (srv, cli)",
              "growth each (srv, cli)", "connect", "exchange", "replace", "arm", "fire");
  bool fits = true;
  for (const size_t count : sizes) {
    const Figures f = Measure(stacks, population, count);
    std::printf("%11zu %11.0f %11.0f %11.0f %11.0f %6.0f ns %6.0f ns %6.0f ns %6.0f ns %6.0f ns\n",
                f.connections, f.bytes[0], f.bytes[1], f.growth[0], f.growth[1], f.connect,
                f.exchange, f.replace, f.arm, f.fire);
    std::fflush(stdout);
    if (limit > 0 && (f.bytes[0] > limit || f.bytes[1] > limit)) fits = false;
  }
  if (!fits) std::printf("more than %.0f bytes for a connection\n", limit);
  return fits ? 0 : 1;
}

}  // namespace
}  // namespace userstack::bench

int main(int argc, char** argv) {
  std::vector<size_t> sizes{10'000, 100'000, 1'000'000};
  double limit = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--connections=", 14) == 0) {
      sizes.clear();
      for (char* at = argv[i] + 13; *at != '\0';) sizes.push_back(std::strtoull(at + 1, &at, 10));
    } else if (std::strncmp(argv[i], "--limit=", 8) == 0) {
      limit = std::strtod(argv[i] + 8, nullptr);
    } else {
      std::fprintf(stderr, "usage: scale_bench [--connections=N,N,...] [--limit=BYTES]\n");
      return 2;
    }
  }
  return userstack::bench::Run(sizes, limit);
}
