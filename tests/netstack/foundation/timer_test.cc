// timer: the wheel against a model that keeps a sorted list.
#include "netstack/timer/timer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "netstack/base/random.h"

namespace userstack {
namespace {

constexpr int64_t kSlot = 1 << 16;  // the lowest slot's width in ns

// What the wheel promises, after every step: nothing before its deadline, nothing later than one
// slot after it, NextDeadline neither later than that nor in the past.
class Model {
 public:
  Model(uint64_t seed, Instant start, size_t timers) : random_(seed), now_(start) {
    wheel_.Initialize(start);
    for (size_t i = 0; i < timers; ++i) {
      timers_.push_back(std::make_unique<Timer>(TimerKind::kTcpRetransmit));
    }
  }

  void Step() {
    Timer* timer = timers_[random_.Below(timers_.size())].get();
    switch (random_.Below(7)) {
      case 0:
      case 1:
      case 2:
        Arm(timer, RandomDeadline());
        break;
      case 6:
        wheel_.Mend();
        break;
      case 3:
        wheel_.Disarm(timer);
        armed_.erase(timer);
        break;
      case 4:
        AdvanceTo(now_ + RandomDuration());
        break;
      case 5:
        AdvanceTo(std::max(now_, std::min(wheel_.NextDeadline(), now_ + Duration::Seconds(9))));
        break;
    }
    Check();
  }

  void Arm(Timer* timer, Instant deadline) {
    wheel_.Arm(timer, deadline);
    if (deadline.is_never()) {
      armed_.erase(timer);
    } else {
      armed_[timer] = deadline;
    }
  }

  void AdvanceTo(Instant now) {
    now_ = now;
    while (Timer* timer = wheel_.PopExpired(now_)) {
      ASSERT_TRUE(armed_.contains(timer)) << "popped without being armed";
      ASSERT_LE(armed_[timer], now_) << "popped before its deadline";
      ASSERT_FALSE(timer->armed());
      armed_.erase(timer);
      if (random_.Below(3) == 0) Arm(timer, RandomDeadline());  // as owners do
    }
    for (const auto& [timer, deadline] : armed_) {
      ASSERT_GT(deadline.nanoseconds + kSlot, now_.nanoseconds) << "popped too late";
    }
  }

  void Check() {
    ASSERT_EQ(wheel_.armed_count(), armed_.size());
    Instant earliest = Instant::Never();
    for (const auto& [timer, deadline] : armed_) {
      ASSERT_TRUE(timer->armed());
      earliest = std::min(earliest, deadline);
    }
    const Instant next = wheel_.NextDeadline();
    ASSERT_EQ(next.is_never(), armed_.empty());
    if (armed_.empty()) return;
    ASSERT_LT(next.nanoseconds, std::max(earliest, Instant{0}).nanoseconds + kSlot);
  }

  // Waking only when NextDeadline says, everything fires, and without a storm of wake-ups.
  void DrainByNextDeadline() {
    int idle = 0;
    const Instant start = now_;
    while (!armed_.empty()) {
      const Instant next = wheel_.NextDeadline();
      ASSERT_FALSE(next.is_never());
      const size_t before = armed_.size();
      now_ = std::max(now_, next);
      while (Timer* timer = wheel_.PopExpired(now_)) {
        ASSERT_LE(armed_[timer], now_);
        ASSERT_LT(now_.nanoseconds, std::max(armed_[timer], start).nanoseconds + 2 * kSlot);
        armed_.erase(timer);
      }
      idle = armed_.size() == before ? idle + 1 : 0;
      ASSERT_LE(idle, 8) << "woken more often than the wheel has levels";
    }
    ASSERT_TRUE(wheel_.NextDeadline().is_never());
  }

 private:
  Duration RandomDuration() {
    // From nanoseconds to months, evenly over the scales.
    return {static_cast<int64_t>(random_.Next() >> (10 + random_.Below(53)))};
  }
  Instant RandomDeadline() {
    switch (random_.Below(8)) {
      case 0:
        return now_;
      case 1:
        return now_ - Duration{static_cast<int64_t>(random_.Below(1 << 20))};
      case 2:
        return Instant::Never();
    }
    return now_ + RandomDuration();
  }

  Random random_;
  Instant now_;
  TimerWheel wheel_;
  std::vector<std::unique_ptr<Timer>> timers_;
  std::map<Timer*, Instant> armed_;
};

TEST(TimerWheel, KeepsItsPromisesUnderRandomOperations) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Instant start{static_cast<int64_t>(random.Next() >> (2 + random.Below(60)))};
    Model model(seed, seed % 3 == 0 ? Instant{0} : start, 1 + seed % 40);
    for (int step = 0; step < 3000; ++step) {
      model.Step();
      if (::testing::Test::HasFatalFailure()) FAIL() << "step " << step;
    }
    model.DrainByNextDeadline();
  }
}

TEST(TimerWheel, FiresFarAndNearDeadlinesInTime) {
  for (int shift = 0; shift < 62; ++shift) {
    TimerWheel wheel;
    const Instant start{12345};
    wheel.Initialize(start);
    Timer timer(TimerKind::kTcpKeepAlive);
    const Instant deadline = start + Duration{int64_t{1} << shift};
    wheel.Arm(&timer, deadline);
    EXPECT_EQ(wheel.PopExpired({deadline.nanoseconds - 1}), nullptr) << shift;
    EXPECT_EQ(wheel.PopExpired(deadline + Duration{kSlot}), &timer) << shift;
  }
}

TEST(TimerWheel, ATimerArmedForThePastIsDueAtOnce) {
  TimerWheel wheel;
  wheel.Initialize({int64_t{1} << 40});
  Timer timer(TimerKind::kTcpPacing);
  wheel.Arm(&timer, {5});
  EXPECT_LE(wheel.NextDeadline(), (Instant{int64_t{1} << 40}));
  EXPECT_EQ(wheel.PopExpired({int64_t{1} << 40}), &timer);
  EXPECT_EQ(wheel.PopExpired({int64_t{1} << 40}), nullptr);
}

TEST(TimerWheel, DisarmAndNeverTakeATimerOut) {
  TimerWheel wheel;
  wheel.Initialize({0});
  Timer timer(TimerKind::kTcpPacing);
  wheel.Arm(&timer, {1 << 20});
  wheel.Arm(&timer, Instant::Never());
  EXPECT_FALSE(timer.armed());
  wheel.Arm(&timer, {1 << 20});
  wheel.Disarm(&timer);
  wheel.Disarm(&timer);
  EXPECT_EQ(wheel.armed_count(), 0u);
  EXPECT_TRUE(wheel.NextDeadline().is_never());
  EXPECT_EQ(wheel.PopExpired({int64_t{1} << 50}), nullptr);
}

TEST(TimerWheel, DoesNotGoBackWhenTheClockDoes) {
  TimerWheel wheel;
  wheel.Initialize({0});
  Timer timer(TimerKind::kTcpPacing);
  EXPECT_EQ(wheel.PopExpired({int64_t{1} << 30}), nullptr);
  wheel.Arm(&timer, {(int64_t{1} << 30) + kSlot * 100});
  EXPECT_EQ(wheel.PopExpired({5}), nullptr);
  EXPECT_EQ(wheel.PopExpired({(int64_t{1} << 30) + kSlot * 101}), &timer);
}

}  // namespace
}  // namespace userstack
