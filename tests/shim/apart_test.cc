// Apart: large frames are written without the lock, a flow's in order, whoever finds them, and are
// given back by whoever is killed meanwhile.
#include <csignal>
#include <string>
#include <thread>

#include "shim/internal.h"
#include "tests/shim/processes.h"

namespace userstack::shim {
namespace {

constexpr int kWireMilliseconds = 5000;
constexpr size_t kLarge = 20000;

const char kFlow = 0, kOther = 0;

std::string Numbered(int i, size_t size) {
  std::string bytes(size, 'x');
  bytes[0] = static_cast<char>('a' + i);
  return bytes;
}

void SendContended(const std::string& bytes, const void* flow) {
  Session session;
  CurrentShared().contended_at = MonotonicNow().nanoseconds;
  QueueFrame(bytes, flow);
}

void LetWritersWait(bool wait) { __atomic_store_n(&Fake().apart_waits, wait, __ATOMIC_RELAXED); }

bool HasBegun(uint64_t frames) {
  return Eventually(
      [=] { return __atomic_load_n(&Fake().apart_begun, __ATOMIC_RELAXED) == frames; });
}

uint32_t Frames() {
  Session session;
  return CurrentShared().stack->core().frames.live();
}

TEST(Apart, NobodyWaitsForTheLockSoLargeFramesLeaveUnderIt) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachWithoutPump(name);
    Wire wire(name);
    {
      Session session;
      QueueFrame(Numbered(0, kLarge), &kFlow);
    }
    EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(0, kLarge));
    EXPECT_EQ(Fake().apart_begun, 0u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Apart, LargeFramesOfAContendedStackLeaveInOrderAndWithoutTheLock) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachWithoutPump(name);
    Wire wire(name);
    constexpr int kFrames = 9;  // more than are written at once; the small ones follow their flow
    {
      Session session;
      CurrentShared().contended_at = MonotonicNow().nanoseconds;
      for (int i = 0; i < kFrames; ++i) QueueFrame(Numbered(i, i % 3 == 0 ? kLarge : 60), &kFlow);
    }
    EXPECT_EQ(Fake().apart_begun, static_cast<uint64_t>(kFrames));
    EXPECT_EQ(Fake().sent_without_lock, static_cast<uint64_t>(kFrames));
    for (int i = 0; i < kFrames; ++i) {
      EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(i, i % 3 == 0 ? kLarge : 60));
    }
    EXPECT_EQ(Frames(), 0u);
    EXPECT_EQ(CurrentShared().carried_flows, 0u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Apart, WhatOthersSendOnAFlowThatIsBeingWrittenFollowsIt) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachWithoutPump(name);
    Wire wire(name);
    {
      Session session;
      LetWritersWait(true);
    }
    std::thread writer([] { SendContended(Numbered(0, kLarge), &kFlow); });
    EXPECT_TRUE(HasBegun(1));
    SendContended(Numbered(1, 60), &kFlow);
    SendContended(Numbered(2, 60), &kOther);
    EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(2, 60)) << "another flow need not wait";
    EXPECT_EQ(wire.Receive(0), "");
    LetWritersWait(false);
    writer.join();
    EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(0, kLarge));
    EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(1, 60));
    EXPECT_EQ(Frames(), 0u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Apart, FramesOfAProcessThatIsKilledWhileItWritesAreGivenBack) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    {
      Session session;
      LetWritersWait(true);
    }
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      SendContended(Numbered(0, kLarge), &kFlow);
      Leave(kFailed);
    }
    EXPECT_TRUE(HasBegun(1));
    SendContended(Numbered(1, kLarge), &kFlow);
    EXPECT_EQ(Frames(), 2u);
    kill(pid, SIGKILL);
    EXPECT_EQ(ExitCode(pid), 128 + SIGKILL);
    EXPECT_TRUE(Eventually([] { return Frames() == 0; }));
    EXPECT_EQ(wire.Receive(0), "") << "they are lost, as on a wire";
    LetWritersWait(false);
    SendContended(Numbered(2, kLarge), &kFlow);
    EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(2, kLarge));
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Apart, WhatAFullDeviceDoesNotTakeWaitsInTheStackInOrder) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    constexpr int kFrames = 11;
    {
      Session session;
      CurrentShared().contended_at = MonotonicNow().nanoseconds;
      Fake().device_full = true;
      for (int i = 0; i < kFrames; ++i) QueueFrame(Numbered(i, kLarge), &kFlow);
    }
    {
      Session session;
      EXPECT_TRUE(CurrentShared().device_busy);
      EXPECT_EQ(CurrentShared().stack->core().frames.live(), static_cast<uint32_t>(kFrames));
      EXPECT_EQ(CurrentShared().carried_flows, 0u);
      Fake().device_full = false;
    }
    for (int i = 0; i < kFrames; ++i) {
      EXPECT_EQ(wire.Receive(kWireMilliseconds), Numbered(i, kLarge));
    }
    EXPECT_EQ(Frames(), 0u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace userstack::shim
