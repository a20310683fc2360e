// When what a thread sends may wait for the end of its batch of events: the rule, without clocks.
#include "shim/batch_estimate.h"

#include <gtest/gtest.h>

namespace userstack::shim {
namespace {

class Batches : public ::testing::Test {
 protected:
  void Begin(int64_t events) { estimate_.Begin(events, now_); }
  void Call(Duration after) {
    now_ = now_ + after;
    estimate_.NoteCall(now_);
  }
  void End(Duration after) {
    now_ = now_ + after;
    estimate_.End(now_);
  }
  void WorkOff(int64_t events, Duration each) {
    Begin(events);
    for (int64_t i = 0; i < events; ++i) Call(each);
    End({});
  }
  void WorkOffMany() {
    for (int i = 0; i < BatchEstimate::kEnough; ++i) WorkOff(4, Duration::Microseconds(3));
  }
  bool HoldsInTheNext() {
    Begin(4);
    const bool holds = estimate_.MayHold();
    End({});
    return holds;
  }

  BatchEstimate estimate_;
  Instant now_;
};

TEST_F(Batches, SeveralThatWereWorkedOffAtOnceMakeTheHabit) {
  for (int i = 0; i < BatchEstimate::kEnough; ++i) {
    Begin(4);
    EXPECT_FALSE(estimate_.MayHold());
    End(Duration::Microseconds(9));
  }
  Begin(4);
  EXPECT_TRUE(estimate_.MayHold());
}

TEST_F(Batches, NothingIsHeldBetweenThem) {
  WorkOffMany();
  EXPECT_FALSE(estimate_.MayHold());
}

TEST_F(Batches, OneEventIsNone) {
  WorkOffMany();
  Begin(1);
  EXPECT_FALSE(estimate_.MayHold());
  End({});
  EXPECT_TRUE(HoldsInTheNext());
}

TEST_F(Batches, APauseEndsTheHabit) {
  WorkOffMany();
  Begin(40);
  Call(BatchEstimate::kPause);
  EXPECT_TRUE(estimate_.MayHold());
  Call(BatchEstimate::kPause + Duration::Microseconds(1));
  EXPECT_FALSE(estimate_.MayHold());
  End({});
  EXPECT_FALSE(HoldsInTheNext());
}

TEST_F(Batches, APauseBeforeTheNextOneEndsIt) {
  WorkOffMany();
  Begin(40);
  End(BatchEstimate::kPause + Duration::Microseconds(1));
  EXPECT_FALSE(HoldsInTheNext());
}

TEST_F(Batches, EventsThatTakeLongEndIt) {
  WorkOffMany();
  WorkOff(4, BatchEstimate::kPerEvent);
  EXPECT_TRUE(HoldsInTheNext());
  WorkOff(4, BatchEstimate::kPerEvent + Duration::Microseconds(1));
  EXPECT_FALSE(HoldsInTheNext());
}

TEST_F(Batches, OneThatTakesLongAmongManyDoesNot) {
  for (int i = 0; i < 4; ++i) WorkOffMany();
  WorkOff(4, BatchEstimate::kPerEvent * 2);
  EXPECT_TRUE(HoldsInTheNext());
}

TEST_F(Batches, OneInThreeThatTakesLongEndsIt) {
  for (int i = 0; i < 4; ++i) WorkOffMany();
  for (int i = 0; i < 5; ++i) {
    WorkOff(4, BatchEstimate::kPerEvent * 2);
    WorkOff(4, Duration::Microseconds(3));
    WorkOff(4, Duration::Microseconds(3));
  }
  EXPECT_FALSE(HoldsInTheNext());
}

TEST_F(Batches, OneAmongManyWithAPauseEndsIt) {
  for (int i = 0; i < 4; ++i) WorkOffMany();
  Begin(4);
  End(BatchEstimate::kPause + Duration::Microseconds(1));
  EXPECT_FALSE(HoldsInTheNext());
}

TEST_F(Batches, WhatHasWaitedLongEnoughIsFollowedAtOnce) {
  WorkOffMany();
  Begin(40);
  estimate_.Spend();
  EXPECT_FALSE(estimate_.MayHold());
  End(Duration::Microseconds(10));
  EXPECT_TRUE(HoldsInTheNext());
}

}  // namespace
}  // namespace userstack::shim
