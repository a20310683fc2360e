// From a number to what it stands for: `IsOurs` is what every call on a descriptor of the kernel
// pays, Lookup what one on the stack's pays once more under the lock.
#include <benchmark/benchmark.h>

#include <memory>

#include "shim/descriptors.h"

namespace userstack::shim {
namespace {

// A process's table of `count` numbers, a power of two; every other one is the stack's.
class Numbers {
 public:
  explicit Numbers(int64_t count) : slots_(new Slot[kMaxDescriptors]()), count_(count) {
    for (int64_t i = 0; i < count; i += 2) slots_[i].description.store(&description_);
    g_slots = slots_.get();
  }
  ~Numbers() { g_slots = nullptr; }
  int Next() {
    number_ = (number_ + 7919) & (count_ - 1);
    return static_cast<int>(number_);
  }

 private:
  std::unique_ptr<Slot[]> slots_;
  Description description_;
  int64_t count_;
  int64_t number_ = 0;
};

void BM_IsOursWithoutStack(benchmark::State& state) {
  int fd = 0;
  for (auto _ : state) benchmark::DoNotOptimize(IsOurs(fd++ & 1023));
}
BENCHMARK(BM_IsOursWithoutStack);

void BM_IsOurs(benchmark::State& state) {
  Numbers numbers(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(IsOurs(numbers.Next()));
}
BENCHMARK(BM_IsOurs)->Arg(16)->Arg(1024)->Arg(65536);

void BM_Lookup(benchmark::State& state) {
  Numbers numbers(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(Lookup(numbers.Next()));
}
BENCHMARK(BM_Lookup)->Arg(16)->Arg(1024)->Arg(65536);

}  // namespace
}  // namespace userstack::shim
