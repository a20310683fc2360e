// Sleeping and waking over threads and processes: no wake-up is lost, whoever sends it and however
// the sleeper sleeps.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include "shim/batch_estimate.h"
#include "tests/shim/processes.h"

namespace userstack::shim {
namespace {

TEST(Waiting, PacketFromTheWireWakesTheThreadThatAwaitsIt) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    wire.Send(7);
    Session session;
    ChannelWatch watch(session, 7);
    EXPECT_EQ(watch.Await(1, In(kPatience)), WaitResult::kStackReady);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, EndsAtTheDeadline) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Session session;
    ChannelWatch watch(session, 7);
    const Instant deadline = In(Duration::Milliseconds(20));
    EXPECT_EQ(watch.Await(1, deadline), WaitResult::kTimedOut);
    EXPECT_GE(MonotonicNow(), deadline);
    EXPECT_LT(MonotonicNow(), deadline + Duration::Seconds(5));
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, TimerOfTheStackRunsWhileItsOnlyThreadSleeps) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Session session;
    Fake().timer = In(Duration::Milliseconds(5));
    ChannelWatch watch(session, 0);
    EXPECT_EQ(watch.Await(1, In(kPatience)), WaitResult::kStackReady);
    EXPECT_EQ(Fake().timer_fired, 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, WhatIsKeptForMoreToFollowGoesOutThoughNothingFollows) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    const Instant patience = In(kPatience);
    for (int held = 0; held < 20 && MonotonicNow() < patience;) {
      {
        Session session;
        Fake().hold_until = session.now() + Duration::Microseconds(50);
        QueueFrame("datagram");
        session.HoldOutput();
      }
      held += __atomic_load_n(&CurrentShared().output_held, __ATOMIC_RELAXED)
                  ? 1
                  : 0;  // not until the pump ticks fast
      EXPECT_EQ(wire.Receive(10000), "datagram") << "and no call was made";
    }
    EXPECT_LT(MonotonicNow(), patience) << "nothing was ever kept";
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, WhatIsKeptWithinOneCallGoesOutWithItsEnd) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachWithoutPump(name);
    Wire wire(name);
    {
      Session session;
      QueueFrame("first");
      session.HoldOutput(true);
    }
    EXPECT_EQ(wire.Receive(0), "");
    {
      Session session;
      QueueFrame("second");
    }
    EXPECT_EQ(wire.Receive(0), "first");
    EXPECT_EQ(wire.Receive(0), "second");
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// As an event loop does that works off its batches at once; the next has begun.
void WorkOffBatches() {
  for (int i = 0; i <= BatchEstimate::kEnough; ++i) {
    Session session;
    session.EndBatch();
    session.BeginBatch(4);
  }
}

bool Holds() { return __atomic_load_n(&CurrentShared().output_held, __ATOMIC_RELAXED); }

TEST(Waiting, WhatABatchSendsGoesOutAtItsEnd) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    const Instant patience = In(kPatience);
    for (int held = 0; held < 20 && MonotonicNow() < patience;) {
      WorkOffBatches();
      {
        Session session;
        QueueFrame("first");
      }
      const bool first_waits = Holds();  // not while the pump does not tick, or after a pause
      {
        Session session;
        QueueFrame("second");
      }
      held += first_waits && Holds() ? 1 : 0;
      {
        Session session;
        session.EndBatch();
      }
      EXPECT_EQ(wire.Receive(0), "first");
      EXPECT_EQ(wire.Receive(0), "second");
      if (testing::Test::HasFailure()) break;
    }
    EXPECT_LT(MonotonicNow(), patience) << "nothing was ever kept";
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, WhatABatchSendsGoesOutThoughTheProgramStops) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    const Instant patience = In(kPatience);
    for (int held = 0; held < 20 && MonotonicNow() < patience;) {
      WorkOffBatches();
      {
        Session session;
        QueueFrame("reply");
      }
      held += Holds() ? 1 : 0;
      EXPECT_EQ(wire.Receive(10000), "reply") << "and no call was made";
      if (testing::Test::HasFailure()) break;
    }
    EXPECT_LT(MonotonicNow(), patience) << "nothing was ever kept";
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, KernelDescriptorsAndTheStackWakeTheSameThread) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    Wire wire(name);
    for (int round = 0; round < 200; ++round) {
      const bool from_kernel = round % 2 == 0;
      if (from_kernel) {
        EXPECT_EQ(write(ends[1], "x", 1), 1);
      } else {
        wire.Send(3);
      }
      Session session;
      ChannelWatch watch(session, 3);
      if (Fake().channels[3].arrived < static_cast<uint64_t>(round / 2 + (from_kernel ? 0 : 1)) ||
          from_kernel) {
        pollfd entry{ends[0], POLLIN, 0};
        WaitRequest request;
        request.set = &CurrentSleeper().own_set;
        request.kernel = &entry;
        request.kernel_count = 1;
        request.deadline = In(kPatience);
        const WaitResult result = Wait(session, request);
        if (result == WaitResult::kKernelReady) {
          EXPECT_EQ(entry.revents, POLLIN);
        }
        EXPECT_NE(result, WaitResult::kTimedOut);
        EXPECT_NE(result, WaitResult::kInterrupted);
      }
      char byte;
      if (from_kernel) {
        EXPECT_EQ(read(ends[0], &byte, 1), 1);
      }
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, KernelOnlyWaitsSeeTheirDescriptor) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    std::thread writer([&] { EXPECT_EQ(write(ends[1], "x", 1), 1); });
    Session session;
    pollfd entry{ends[0], POLLIN, 0};
    WaitRequest request;
    request.kernel = &entry;
    request.kernel_count = 1;
    EXPECT_EQ(Wait(session, request), WaitResult::kKernelReady);
    EXPECT_EQ(entry.revents, POLLIN);
    writer.join();
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// Two parties wake each other in turn; each also sleeps on the stack only.
void PingPong(unsigned receive, unsigned send, uint64_t rounds, bool first, bool kernel_too) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  for (uint64_t round = 1; round <= rounds; ++round) {
    Session session;
    if (first) Signal(send);
    ChannelWatch watch(session, receive);
    if (kernel_too) {
      // The futex is not enough for this one: it needs its doorbell.
      while (Fake().channels[receive].arrived < round) {
        watch.Forget();
        pollfd entry{ends[0], POLLIN, 0};
        WaitRequest request;
        request.set = &CurrentSleeper().own_set;
        request.kernel = &entry;
        request.kernel_count = 1;
        request.deadline = In(kPatience);
        if (Wait(session, request) == WaitResult::kTimedOut) break;
      }
      EXPECT_GE(Fake().channels[receive].arrived, round);
    } else {
      EXPECT_EQ(watch.Await(round, In(kPatience)), WaitResult::kStackReady) << "round " << round;
    }
    if (testing::Test::HasFailure()) return;
    if (!first) Signal(send);
  }
}

TEST(Waiting, NoWakeUpIsLostBetweenProcesses) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    std::vector<pid_t> children;
    for (unsigned pair = 0; pair < 3; ++pair) {
      const unsigned a = 10 + 2 * pair;
      for (const bool first : {true, false}) {
        const pid_t pid = ForkAttached();
        if (pid == 0) {
          PingPong(first ? a : a + 1, first ? a + 1 : a, 3000, first, pair == 1);
          Leave(testing::Test::HasFailure() ? kFailed : 0);
        }
        children.push_back(pid);
      }
    }
    for (const pid_t pid : children) EXPECT_EQ(ExitCode(pid), 0);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, NoWakeUpIsLostBetweenThreads) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    std::vector<std::thread> threads;
    for (unsigned pair = 0; pair < 3; ++pair) {
      const unsigned a = 10 + 2 * pair;
      threads.emplace_back([=] { PingPong(a, a + 1, 3000, true, pair == 1); });
      threads.emplace_back([=] { PingPong(a + 1, a, 3000, false, pair == 1); });
    }
    for (std::thread& thread : threads) thread.join();
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// The wire feeds several processes; whichever attends the device has to wake the right ones.
TEST(Waiting, PacketsForOtherProcessesReachThem) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    constexpr unsigned kReaders = 4;
    constexpr uint64_t kPackets = 500;
    std::vector<pid_t> children;
    for (unsigned reader = 0; reader < kReaders; ++reader) {
      const pid_t pid = ForkAttached();
      if (pid == 0) {
        for (uint64_t count = 1; count <= kPackets; ++count) {
          Session session;
          ChannelWatch watch(session, 20 + reader);
          EXPECT_EQ(watch.Await(count, In(kPatience)), WaitResult::kStackReady);
          QueueFrame("done");
        }
        Leave(testing::Test::HasFailure() ? kFailed : 0);
      }
      children.push_back(pid);
    }
    Wire wire(name);
    for (uint64_t i = 0; i < kPackets; ++i) {
      for (unsigned reader = 0; reader < kReaders; ++reader) wire.Send(20 + reader);
      for (unsigned reader = 0; reader < kReaders; ++reader) {
        EXPECT_EQ(wire.Receive(20000), "done") << i;
      }
      if (testing::Test::HasFailure()) break;
    }
    for (const pid_t pid : children) EXPECT_EQ(ExitCode(pid), 0);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// How often a thread of this process has gone to sleep.
uint64_t SleepsOf(pid_t tid) {
  std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/status");
  std::string word;
  uint64_t count = 0;
  while (file >> word) {
    if (word == "voluntary_ctxt_switches:" && file >> count) break;
  }
  return count;
}

// As a successor that was killed after a newcomer joined: it has no record, so nobody hears of its
// end.
TEST(Waiting, ADeadAttendantIsReplaced) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const pid_t dead = fork();
    if (dead == 0) _exit(0);
    for (const bool reaped : {false, true}) {
      siginfo_t info;
      EXPECT_EQ(waitid(P_PID, static_cast<id_t>(dead), &info, WEXITED | (reaped ? 0 : WNOWAIT)), 0);
      Session session;
      Shared& shared = CurrentShared();
      Sleeper* ghost = shared.sleepers.New();
      ghost->pid = ghost->tid = dead;
      shared.all_sleepers.PushBack(ghost);
      __atomic_store_n(&shared.attendant, ghost, __ATOMIC_RELEASE);
      ChannelWatch watch(session, 32);
      Wire(name).Send(32);
      EXPECT_EQ(watch.Await(reaped ? 2 : 1, In(kPatience)), WaitResult::kStackReady);
      EXPECT_NE(shared.attendant, ghost);
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// A thread that waits for something rare attends the device first; what comes is for another. It
// must not be woken for each packet.
TEST(Waiting, AThreadThatIsWokenForOthersLeavesTheDeviceToThem) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    constexpr uint64_t kPackets = 500;
    std::atomic<pid_t> bystander{0};
    std::thread rare([&] {
      Session session;
      ChannelWatch watch(session, 30);
      bystander = static_cast<pid_t>(syscall(SYS_gettid));
      EXPECT_EQ(watch.Await(1, In(kPatience)), WaitResult::kStackReady);
    });
    EXPECT_TRUE(Eventually([] {
      Session session;
      const Shared& shared = CurrentShared();
      return shared.attendant != nullptr && shared.attendant != shared.pump;
    }));
    Wire wire(name);
    std::thread busy([&] {
      for (uint64_t count = 1; count <= kPackets; ++count) {
        Session session;
        ChannelWatch watch(session, 31);
        EXPECT_EQ(watch.Await(count, In(kPatience)), WaitResult::kStackReady);
        QueueFrame("done");
      }
    });
    const uint64_t before = SleepsOf(bystander);
    for (uint64_t i = 0; i < kPackets; ++i) {
      wire.Send(31);
      EXPECT_EQ(wire.Receive(20000), "done") << i;
    }
    busy.join();
    EXPECT_LT(SleepsOf(bystander) - before, kPackets / 5);
    wire.Send(30);
    rare.join();
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// Short waits make a thread poll; when they end it sleeps, and nothing wakes it.
TEST(Waiting, AThreadThatPolledSleepsWhenNothingComes) {
  const std::string name = DeviceName();
  Child child([&] {
    setenv("USERSTACK_SPIN_US", "1000", 1);
    AttachTo(name);
    std::atomic<pid_t> waiter{0};
    std::thread thread([&] {
      waiter = static_cast<pid_t>(syscall(SYS_gettid));
      for (uint64_t count = 1; count <= 101; ++count) {
        Session session;
        ChannelWatch watch(session, 31);
        EXPECT_EQ(watch.Await(count, In(kPatience)), WaitResult::kStackReady);
        QueueFrame("done");
      }
    });
    Wire wire(name);
    for (int i = 0; i < 100; ++i) {
      wire.Send(31);
      EXPECT_EQ(wire.Receive(20000), "done") << i;
    }
    const auto cpu = [] {
      timespec used;
      clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
      return Duration::Seconds(used.tv_sec) + Duration::Nanoseconds(used.tv_nsec);
    };
    poll(nullptr, 0, 50);
    const uint64_t sleeps = SleepsOf(waiter);
    const Duration before = cpu();
    poll(nullptr, 0, 1000);
    EXPECT_LE(SleepsOf(waiter) - sleeps, 2u);
    EXPECT_LT(cpu() - before, Duration::Milliseconds(100));
    wire.Send(31);
    EXPECT_EQ(wire.Receive(20000), "done");
    thread.join();
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Pump, TakesInputWhileTheProgramDoesSomethingElse) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    for (uint64_t count = 1; count <= 20; ++count) {
      wire.Send(5);
      const Instant end = In(kPatience);
      // Without a call of ours.
      while (__atomic_load_n(&Fake().channels[5].arrived, __ATOMIC_RELAXED) < count) {
        EXPECT_LT(MonotonicNow(), end);
        if (testing::Test::HasFailure()) return 1;
        std::this_thread::yield();
      }
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Pump, SendsWhatATimerMadeWhileTheProgramDoesSomethingElse) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    {
      Session session;
      Fake().timer = In(Duration::Milliseconds(30));
    }
    const Instant end = In(kPatience);
    while (__atomic_load_n(&Fake().timer_fired, __ATOMIC_RELAXED) == 0) {
      EXPECT_LT(MonotonicNow(), end);
      if (testing::Test::HasFailure()) return 1;
      std::this_thread::yield();
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Waiting, FramesOfABusyDeviceKeepTheirOrder) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Wire wire(name);
    constexpr int kFrames = 200;  // more than a datagram socket queues
    {
      Session session;
      for (int i = 0; i < kFrames; ++i) QueueFrame(std::to_string(i));
    }
    for (int i = 0; i < kFrames; ++i) EXPECT_EQ(wire.Receive(20000), std::to_string(i));
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace userstack::shim
