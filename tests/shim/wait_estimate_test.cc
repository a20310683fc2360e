// When a thread polls before it sleeps: the rule, without clocks.
#include "shim/wait_estimate.h"

#include <gtest/gtest.h>

namespace userstack::shim {
namespace {

constexpr Duration kLimit = Duration::Microseconds(50);

Duration Us(int64_t n) { return Duration::Microseconds(n); }

TEST(WaitEstimate, AThreadThatNothingIsKnownOfSleeps) {
  EXPECT_FALSE(WaitEstimate().PollingPays(kLimit));
}

TEST(WaitEstimate, ShortWaitsBeginThePolling) {
  WaitEstimate estimate;
  int waits = 0;
  while (!estimate.PollingPays(kLimit) && waits < 100) {
    estimate.Note(Us(20) + WaitEstimate::kWakeUp, true, kLimit);
    ++waits;
  }
  EXPECT_GT(waits, 1);
  EXPECT_LT(waits, 10);
}

TEST(WaitEstimate, WaitsLongerThanTheLimitNeverBeginIt) {
  WaitEstimate estimate;
  for (int i = 0; i < 1000; ++i) {
    estimate.Note(Us(51) + WaitEstimate::kWakeUp, true, kLimit);
    ASSERT_FALSE(estimate.PollingPays(kLimit)) << i;
  }
}

TEST(WaitEstimate, OneLongWaitAfterShortOnesEndsThePollingSoonToBeTakenUpAgain) {
  WaitEstimate estimate;
  for (int i = 0; i < 100; ++i) estimate.Note(Us(20), false, kLimit);
  ASSERT_TRUE(estimate.PollingPays(kLimit));
  estimate.Note(Duration::Seconds(10), true, kLimit);
  EXPECT_FALSE(estimate.PollingPays(kLimit));
  estimate.Note(Us(20), false, kLimit);
  estimate.Note(Us(20), false, kLimit);
  EXPECT_TRUE(estimate.PollingPays(kLimit));
}

// What polling can cost a thread whose waits are long and short in turn.
TEST(WaitEstimate, LongWaitsBetweenShortOnesLeaveNoPolling) {
  WaitEstimate estimate;
  int polled_in_vain = 0;
  for (int i = 0; i < 1000; ++i) {
    estimate.Note(Us(10), false, kLimit);
    if (estimate.PollingPays(kLimit)) ++polled_in_vain;
    estimate.Note(Duration::Milliseconds(10), true, kLimit);
  }
  EXPECT_EQ(polled_in_vain, 0);
}

TEST(WaitEstimate, AThreadThatLostItsCoreWhilePollingSleepsForAWhile) {
  WaitEstimate estimate;
  for (int i = 0; i < 100; ++i) estimate.Note(Us(5), false, kLimit);
  estimate.NotePreempted(kLimit);
  EXPECT_FALSE(estimate.PollingPays(kLimit));
}

}  // namespace
}  // namespace userstack::shim
