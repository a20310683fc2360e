// What a rewritten system call costs: one that is answered here, and one that goes on to the
// kernel, beside the same call that nothing touched. The dispatcher behind it is a stand-in that
// does nothing, so that the entry is all that is measured.
#include <benchmark/benchmark.h>
#include <sys/syscall.h>

#include "tests/rewrite/machine.h"
#include "tests/rewrite/rewriter.h"

namespace userstack::testing {
namespace {

constexpr long kOurs = 100000;

shim::rewrite::Answer Nothing(long, const long*) { return {0, 1}; }

bool Prepare(benchmark::State& state) {
  dispatcher = {kOurs, Nothing};
  if (RewriteFunction(reinterpret_cast<void (*)()>(machine_call)) == 1) return true;
  state.SkipWithError("the site could not be rewritten");
  return false;
}

// The difference to `Direct` is the price of the entry.
void Answered(benchmark::State& state) {
  if (!Prepare(state)) return;
  for (auto _ : state) benchmark::DoNotOptimize(machine_call(kOurs, 1, 2, 3, 4, 5, 6));
}
BENCHMARK(Answered);

// As on processors without wider registers: 0 xmm, 1 ymm.
void AnsweredWithNarrowerRegisters(benchmark::State& state) {
  if (!Prepare(state)) return;
  const uint32_t real = userstack_rewrite_vectors;
  if (state.range(0) < real) userstack_rewrite_vectors = static_cast<uint32_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(machine_call(kOurs, 1, 2, 3, 4, 5, 6));
  userstack_rewrite_vectors = real;
}
BENCHMARK(AnsweredWithNarrowerRegisters)->Arg(0)->Arg(1);

[[gnu::noinline]] long NothingAtAll(long, long, long, long, long, long, long) {
  asm volatile("");
  return 0;
}

void Direct(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(NothingAtAll(kOurs, 1, 2, 3, 4, 5, 6));
}
BENCHMARK(Direct);

void PassedOn(benchmark::State& state) {
  if (!Prepare(state)) return;
  for (auto _ : state) benchmark::DoNotOptimize(machine_call(SYS_getppid, 1, 2, 3, 4, 5, 6));
}
BENCHMARK(PassedOn);

void Untouched(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(machine_call_plain(SYS_getppid, 1, 2, 3, 4, 5, 6));
}
BENCHMARK(Untouched);

}  // namespace
}  // namespace userstack::testing
