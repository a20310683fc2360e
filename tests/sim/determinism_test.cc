// The same seed gives the same bytes at the same times; another seed does not.
#include <gtest/gtest.h>

#include "tests/sim/scenario.h"

namespace userstack::testing {
namespace {

TEST(Determinism, TheSameSeedGivesAByteIdenticalTrace) {
  for (const Kind kind : kAllKinds) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      const Scenario scenario = MakeScenario(kind, seed);
      const Outcome first = Simulate(scenario);
      const Outcome second = Simulate(scenario);
      EXPECT_EQ(first.digest, second.digest) << KindName(kind) << " " << seed;
      EXPECT_EQ(first.frames, second.frames) << KindName(kind) << " " << seed;
    }
  }
}

TEST(Determinism, HeaderPredictionLeavesNoTrace) {
  uint64_t predicted = 0;
  for (const Kind kind : kAllKinds) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      Scenario scenario = MakeScenario(kind, seed);
      const Outcome with = Simulate(scenario);
      for (auto& host : scenario.hosts) host.options.stack.header_prediction = false;
      const Outcome without = Simulate(scenario);
      EXPECT_EQ(with.digest, without.digest) << KindName(kind) << " " << seed;
      EXPECT_EQ(with.frames, without.frames) << KindName(kind) << " " << seed;
      EXPECT_EQ(without.predicted, 0u);
      predicted += with.predicted;
    }
  }
  EXPECT_GT(predicted, 10'000u) << "there must be something to predict";
}

TEST(Determinism, AnotherSeedGivesAnotherTrace) {
  EXPECT_NE(Simulate(MakeScenario(Kind::kMixed, 1)).digest,
            Simulate(MakeScenario(Kind::kMixed, 2)).digest);
}

}  // namespace
}  // namespace userstack::testing
