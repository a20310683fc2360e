// netstack_sim: runs seeded simulations. When a law is broken it prints the seed and the exchange
// and aborts; `--kind=K --seed=N` runs the same again, and `--live` prints frames as they happen.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/netstack/testing/crash_note.h"
#include "tests/sim/scenario.h"

namespace userstack::testing {
namespace {

struct Arguments {
  uint64_t first = 1, count = 100;
  uint64_t budget_seconds = 0;  // 0: none
  std::string kind;             // empty: all
  bool live = false, describe = false, twice = false;
};

bool TakeValue(const char* argument, const char* name, std::string* value) {
  const size_t n = std::strlen(name);
  if (std::strncmp(argument, name, n) != 0 || argument[n] != '=') return false;
  *value = argument + n + 1;
  return true;
}

bool Parse(int argc, char** argv, Arguments* out) {
  for (int i = 1; i < argc; ++i) {
    std::string value;
    if (TakeValue(argv[i], "--seed", &value)) {
      out->first = std::stoull(value);
      out->count = 1;
    } else if (TakeValue(argv[i], "--first", &value)) {
      out->first = std::stoull(value);
    } else if (TakeValue(argv[i], "--count", &value)) {
      out->count = std::stoull(value);
    } else if (TakeValue(argv[i], "--kind", &value)) {
      out->kind = value;
    } else if (TakeValue(argv[i], "--seconds", &value)) {
      out->budget_seconds = std::stoull(value);
    } else if (std::strcmp(argv[i], "--live") == 0) {
      out->live = true;
    } else if (std::strcmp(argv[i], "--describe") == 0) {
      out->describe = true;
    } else if (std::strcmp(argv[i], "--twice") == 0) {
      out->twice = true;
    } else {
      return false;
    }
  }
  return true;
}

struct Totals {
  uint64_t runs = 0, frames = 0, bytes = 0;
  uint64_t retransmissions = 0, timeouts = 0, no_buffer = 0, window_probes = 0;
  uint64_t refused = 0, survivors = 0, crossed = 0, half_closed = 0, path_changes = 0;
  int64_t virtual_seconds = 0;
  DriverCounts driver;
};

// False when the same seed gave two traces.
bool RunOne(Kind kind, uint64_t seed, const Arguments& arguments, Totals* totals) {
  const Scenario scenario = MakeScenario(kind, seed);
  if (arguments.describe) std::fputs(scenario.Describe().c_str(), stderr);
  const CrashNote replay([&] {
    std::fprintf(stderr, "%sreplay: netstack_sim --kind=%s --seed=%llu\n",
                 scenario.Describe().c_str(), KindName(kind),
                 static_cast<unsigned long long>(seed));
  });
  const Outcome outcome = Simulate(scenario, arguments.live);
  ++totals->runs;
  totals->frames += outcome.frames;
  totals->bytes += outcome.bytes;
  totals->retransmissions += outcome.retransmissions;
  totals->timeouts += outcome.timeouts;
  totals->no_buffer += outcome.no_buffer;
  totals->window_probes += outcome.window_probes;
  totals->refused += outcome.refused;
  totals->survivors += outcome.survivors;
  totals->crossed += outcome.crossed;
  totals->half_closed += outcome.half_closed_by_client + outcome.half_closed_by_server;
  totals->path_changes += outcome.path_changes;
  totals->driver.Add(outcome.driver);
  totals->virtual_seconds += outcome.virtual_time.seconds();
  if (!arguments.twice) return true;
  const Outcome again = Simulate(scenario, false);
  if (again.digest == outcome.digest) return true;
  std::fprintf(stderr, "the same seed gave two traces: --kind=%s --seed=%llu\n", KindName(kind),
               static_cast<unsigned long long>(seed));
  return false;
}

int Main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, &arguments)) {
    std::fprintf(stderr,
                 "usage: netstack_sim [--kind=K] [--seed=N | --first=N --count=N] [--seconds=S] "
                 "[--live] [--describe] [--twice]\n");
    return 2;
  }
  InstallCrashSignals();
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&begin] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  Totals totals;
  for (uint64_t seed = arguments.first; seed < arguments.first + arguments.count; ++seed) {
    for (const Kind kind : kAllKinds) {
      if (!arguments.kind.empty() && arguments.kind != KindName(kind)) continue;
      if (arguments.budget_seconds != 0 &&
          elapsed() > static_cast<double>(arguments.budget_seconds)) {
        seed = arguments.first + arguments.count;
        break;
      }
      if (!RunOne(kind, seed, arguments, &totals)) return 1;
    }
  }
  std::printf(
      "%llu runs, %llu frames, %llu bytes, %lld virtual seconds in %.1f s; "
      "%llu retransmissions, %llu timeouts, %llu frames without a buffer, %llu refused\n",
      static_cast<unsigned long long>(totals.runs), static_cast<unsigned long long>(totals.frames),
      static_cast<unsigned long long>(totals.bytes), static_cast<long long>(totals.virtual_seconds),
      elapsed(), static_cast<unsigned long long>(totals.retransmissions),
      static_cast<unsigned long long>(totals.timeouts),
      static_cast<unsigned long long>(totals.no_buffer),
      static_cast<unsigned long long>(totals.refused));
  std::printf(
      "seen: %llu simultaneous opens, %llu half-closed streams, %llu window probes, %llu path "
      "changes, %llu streams open while memory ran out\n",
      static_cast<unsigned long long>(totals.crossed),
      static_cast<unsigned long long>(totals.half_closed),
      static_cast<unsigned long long>(totals.window_probes),
      static_cast<unsigned long long>(totals.path_changes),
      static_cast<unsigned long long>(totals.survivors));
  const DriverCounts& driver = totals.driver;
  std::printf(
      "drivers: %llu bytes landed, %llu wrong guesses, %llu bytes by reservation, %llu replies "
      "held, "
      "%llu times beyond a turn, %llu frames by queues\n",
      static_cast<unsigned long long>(driver.landed_bytes),
      static_cast<unsigned long long>(driver.wrong_guesses),
      static_cast<unsigned long long>(driver.reserved_bytes),
      static_cast<unsigned long long>(driver.held_replies),
      static_cast<unsigned long long>(driver.kept_replies),
      static_cast<unsigned long long>(driver.queue_frames));
  return totals.runs == 0 ? 2 : 0;
}

}  // namespace
}  // namespace userstack::testing

int main(int argc, char** argv) { return userstack::testing::Main(argc, argv); }
