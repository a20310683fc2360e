// The outbox: what leaves after the lock is let go, in which order, and when there is none.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "shim/internal.h"
#include "tests/shim/processes.h"

namespace userstack::shim {
namespace {

constexpr int kWireMilliseconds = 5000;

std::string Numbered(int i, size_t size) {
  std::string bytes(size, 'x');
  bytes[0] = static_cast<char>('a' + i);
  return bytes;
}

TEST(Outbox, NobodyWaitsForTheLockSoFramesLeaveUnderIt) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    {
      Session session;
      CurrentShared().contended_at = 0;  // the pump's first turns may have met ours
      QueueFrame(Numbered(0, 60));
    }
    EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(0, 60));
    EXPECT_EQ(Fake().sent_without_lock, 0u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Outbox, FramesOfAContendedStackLeaveInOrderAndWithoutTheLock) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    constexpr int kFrames = 3;  // of kMost
    {
      Session session;
      CurrentShared().contended_at = MonotonicNow().nanoseconds;
      for (int i = 0; i < kFrames; ++i) QueueFrame(Numbered(i, 60));
    }
    EXPECT_EQ(Fake().sent_without_lock, static_cast<uint64_t>(kFrames));
    for (int i = 0; i < kFrames; ++i) {
      EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(i, 60));
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Outbox, MoreThanItHoldsLeavesInOrderToo) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    constexpr int kFrames = 9;
    {
      Session session;
      CurrentShared().contended_at = MonotonicNow().nanoseconds;
      for (int i = 0; i < kFrames; ++i) QueueFrame(Numbered(i, 60));
    }
    for (int i = 0; i < kFrames; ++i) {
      EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(i, 60));
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// Fills the outbox while the device takes nothing; all of it arrives later, in order.
void ExpectNothingIsLost(int frames) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    {
      Session session;
      CurrentShared().contended_at = MonotonicNow().nanoseconds;
      Fake().device_full = true;
      for (int i = 0; i < frames; ++i) QueueFrame(Numbered(i, i % 2 == 0 ? 60 : 200));
    }
    EXPECT_TRUE(CurrentShared().device_busy);
    EXPECT_EQ(wire.Receive(0), "");
    {
      Session session;
      EXPECT_EQ(CurrentShared().stack->core().frames.live(), static_cast<uint32_t>(frames));
      Fake().device_full = false;
    }
    for (int i = 0; i < frames; ++i) {
      EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(i, i % 2 == 0 ? 60 : 200));
    }
    Session session;
    EXPECT_FALSE(CurrentShared().device_busy);
    EXPECT_EQ(CurrentShared().stack->core().frames.live(), 0u);
    EXPECT_EQ(CurrentShared().stack->core().counters.Get(Counter::kDeviceOutRefused), 0u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Outbox, WhatAFullDeviceDoesNotTakeWaitsInTheStack) { ExpectNothingIsLost(3); }

TEST(Outbox, WhatAFullDeviceDoesNotTakeWaitsInTheStackWhenThereIsMore) { ExpectNothingIsLost(9); }

bool SleepsOnFutex(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/syscall");
  long number = -1;
  return file >> number && number == SYS_futex;
}

TEST(Outbox, WhoSleptForTheLockSaysSo) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    int begin[2];
    EXPECT_EQ(pipe(begin), 0);
    const pid_t other = ForkAttached();
    if (other == 0) {
      char byte;
      if (read(begin[0], &byte, 1) != 1) Leave(kFailed);
      Session session;
      Leave(session.failed() ? kFailed : 0);
    }
    EXPECT_TRUE(LockShared());
    CurrentShared().contended_at = 0;  // the pump's first turns may have met ours
    EXPECT_EQ(write(begin[1], "x", 1), 1);
    for (int i = 0; i < 10000 && !SleepsOnFutex(other); ++i) poll(nullptr, 0, 1);
    UnlockShared();
    EXPECT_EQ(ExitCode(other), 0);
    const Session session;
    EXPECT_NE(CurrentShared().contended_at, 0);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace userstack::shim
