// ready: levels, edges, one-shots, exclusive watches, sleepers, sets within sets.
#include "netstack/ready/ready.h"

#include <gtest/gtest.h>

namespace userstack {
namespace {

class ReadyTest : public ::testing::Test {
 protected:
  void Add(Watch* watch, WatchSet* set, Pollable* target, EventMask interest, uint8_t flags = 0) {
    watch->set = set;
    watch->target = target;
    watch->interest = interest;
    watch->flags = flags;
    Attach(*watch, wakes_);
  }
  void Happen(Pollable* target, EventMask level, EventMask edges = 0) {
    Publish(*target, level, edges, wakes_);
  }
  // What one harvest of one event gives; 0 for none.
  EventMask Take(WatchSet* set) {
    EventMask events = 0;
    return Harvest(*set, &events, wakes_) == nullptr ? 0 : events;
  }
  void Sleep(Waiter* waiter, WatchSet* set) {
    waiter->set = set;
    set->waiters.PushBack(waiter);
  }
  bool Woken(Waiter* waiter) {
    for (Waiter* w = wakes_.Pop(); w != nullptr; w = wakes_.Pop()) {
      if (w == waiter) return true;
      others_++;
    }
    return false;
  }

  WakeList wakes_;
  WatchSet set_;
  Pollable target_;
  Watch watch_;
  int others_ = 0;
};

TEST_F(ReadyTest, LevelTriggeredReportsAsLongAsItIsTrue) {
  Add(&watch_, &set_, &target_, kEventIn);
  EXPECT_EQ(Take(&set_), 0u);
  Happen(&target_, kEventIn | kEventOut);
  EXPECT_EQ(Take(&set_), kEventIn);
  EXPECT_EQ(Take(&set_), kEventIn);
  Happen(&target_, kEventOut);
  EXPECT_EQ(Take(&set_), 0u);
}

TEST_F(ReadyTest, EdgeTriggeredReportsOncePerHappening) {
  Add(&watch_, &set_, &target_, kEventIn, kWatchEdge);
  Happen(&target_, kEventIn);
  EXPECT_EQ(Take(&set_), kEventIn);
  EXPECT_EQ(Take(&set_), 0u);
  Happen(&target_, kEventIn);
  EXPECT_EQ(Take(&set_), 0u) << "nothing new happened";
  Happen(&target_, kEventIn, kEventIn);
  EXPECT_EQ(Take(&set_), kEventIn) << "more data is an edge";
}

TEST_F(ReadyTest, OneShotIsSilentUntilRearmed) {
  Add(&watch_, &set_, &target_, kEventIn, kWatchOneShot);
  Happen(&target_, kEventIn);
  EXPECT_EQ(Take(&set_), kEventIn);
  Happen(&target_, kEventIn | kEventHangUp, kEventIn);
  EXPECT_EQ(Take(&set_), 0u);
  watch_.interest = kEventIn;
  Rearm(watch_, wakes_);
  EXPECT_EQ(Take(&set_), kEventIn | kEventHangUp);
}

TEST_F(ReadyTest, ErrorsAndHangUpsAreReportedWhateverTheInterest) {
  Add(&watch_, &set_, &target_, kEventsAlways);
  Happen(&target_, kEventIn);
  EXPECT_EQ(Take(&set_), 0u);
  Happen(&target_, kEventIn | kEventError);
  EXPECT_EQ(Take(&set_), kEventError);
}

TEST_F(ReadyTest, AddingWhatIsReadyReportsAndWakes) {
  Waiter sleeper;
  Sleep(&sleeper, &set_);
  Happen(&target_, kEventOut);
  Add(&watch_, &set_, &target_, kEventOut, kWatchEdge);
  EXPECT_TRUE(Woken(&sleeper));
  EXPECT_EQ(Take(&set_), kEventOut);
}

TEST_F(ReadyTest, OneEventWakesOneSleeperOfASet) {
  Waiter a, b;
  Sleep(&a, &set_);
  Sleep(&b, &set_);
  Add(&watch_, &set_, &target_, kEventIn);
  Happen(&target_, kEventIn);
  EXPECT_TRUE(Woken(&a));
  EXPECT_TRUE(wakes_.empty());
  Happen(&target_, kEventIn, kEventIn);
  EXPECT_TRUE(Woken(&b));
}

TEST_F(ReadyTest, ExclusiveWatchesWakeOneSetThatSleeps) {
  WatchSet second, third;
  Watch in_second, in_third;
  Waiter b, c;
  Add(&watch_, &set_, &target_, kEventIn, kWatchExclusive);
  Add(&in_second, &second, &target_, kEventIn, kWatchExclusive);
  Add(&in_third, &third, &target_, kEventIn, kWatchExclusive);
  Sleep(&b, &second);
  Sleep(&c, &third);
  Happen(&target_, kEventIn);
  EXPECT_TRUE(Woken(&b)) << "the first set has no sleeper, so the next one is tried";
  EXPECT_TRUE(wakes_.empty());
  EXPECT_EQ(Take(&set_), kEventIn) << "it keeps the event for its next look";
  EXPECT_EQ(Take(&third), 0u);
}

TEST_F(ReadyTest, AnExclusiveCallThatEndsWithoutItsEventPassesThatOn) {
  WatchSet second, third;
  Watch in_second, in_third;
  Waiter a, b, c;
  Add(&watch_, &set_, &target_, kEventIn, kWatchExclusive | kWatchEdge);
  Add(&in_second, &second, &target_, kEventIn, kWatchExclusive | kWatchEdge);
  Add(&in_third, &third, &target_, kEventIn, kWatchExclusive | kWatchEdge);
  Sleep(&a, &set_);
  Sleep(&b, &second);
  Sleep(&c, &third);
  Happen(&target_, kEventIn);
  EXPECT_TRUE(Woken(&a));
  EXPECT_TRUE(wakes_.empty());
  Detach(watch_, wakes_);  // its process was killed, say
  EXPECT_TRUE(Woken(&b));
  EXPECT_TRUE(wakes_.empty());
  in_second.ready_node.Unlink();  // this one took it
  Detach(in_second, wakes_);
  EXPECT_TRUE(wakes_.empty());
}

TEST_F(ReadyTest, DetachForgetsTheEvent) {
  Add(&watch_, &set_, &target_, kEventIn);
  Happen(&target_, kEventIn);
  Detach(watch_, wakes_);
  EXPECT_EQ(Take(&set_), 0u);
  EXPECT_EQ(set_.count, 0u);
  Happen(&target_, kEventIn, kEventIn);
  EXPECT_FALSE(HasReady(set_, wakes_));
  Detach(watch_, wakes_);
}

TEST_F(ReadyTest, ASetWithinASetIsReadyWhileTheInnerOneIs) {
  WatchSet outer;
  Watch nested;
  Waiter sleeper;
  Add(&watch_, &set_, &target_, kEventIn);
  Add(&nested, &outer, &set_.pollable, kEventIn);
  Sleep(&sleeper, &outer);
  Happen(&target_, kEventIn);
  EXPECT_TRUE(Woken(&sleeper));
  EXPECT_EQ(Take(&outer), kEventIn);
  EXPECT_TRUE(HasReady(outer, wakes_));
  Happen(&target_, 0);
  EXPECT_FALSE(HasReady(outer, wakes_)) << "the inner entry went stale";
  EXPECT_EQ(Take(&outer), 0u);
  Happen(&target_, kEventIn);
  EXPECT_EQ(Take(&outer), kEventIn);
}

TEST_F(ReadyTest, HarvestGoesRoundSoThatNobodyStarves) {
  Pollable other;
  Watch second;
  Add(&watch_, &set_, &target_, kEventIn);
  Add(&second, &set_, &other, kEventIn);
  Happen(&target_, kEventIn);
  Happen(&other, kEventIn);
  EventMask events = 0;
  EXPECT_EQ(Harvest(set_, &events, wakes_), &watch_);
  EXPECT_EQ(Harvest(set_, &events, wakes_), &second);
  EXPECT_EQ(Harvest(set_, &events, wakes_), &watch_);
}

}  // namespace
}  // namespace userstack
