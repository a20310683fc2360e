// Death of processes, with and without the lock: what was theirs goes, the others go on.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <vector>

#include "shim/descriptors.h"
#include "tests/shim/processes.h"

namespace userstack::shim {
namespace {

TEST(Death, KilledProcessLosesItsDescriptors) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int shared = NewSocket();
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      NewSocket();
      kill(getpid(), SIGKILL);
    }
    EXPECT_EQ(ExitCode(pid), 128 + SIGKILL);
    EXPECT_TRUE(Eventually([&] { return Destroyed() == 1 && References(shared) == 1; }));
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Death, SleeperOfAKilledProcessIsForgotten) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      Session session;
      Pin(Lookup(fd));
      ChannelWatch watch(session, 9);
      Fake().counters[0] = 1;
      watch.Await(1, Instant::Never());
      _exit(kFailed);
    }
    EXPECT_TRUE(
        Eventually([] { return __atomic_load_n(&Fake().counters[0], __ATOMIC_RELAXED) == 1; }));
    kill(pid, SIGKILL);
    EXPECT_EQ(ExitCode(pid), 128 + SIGKILL);
    EXPECT_TRUE(Eventually([&] {
      Session session;
      return Lookup(fd)->pins == 0 && Fake().channels[9].pollable.watches.empty();
    }));
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Death, OwnerOfTheLockThatDiesIsAuditedAndTheOthersGoOn) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      Session session;
      ++Lookup(fd)->references;  // it dies in the middle of something
      kill(getpid(), SIGKILL);
    }
    EXPECT_EQ(ExitCode(pid), 128 + SIGKILL);
    Session session;
    EXPECT_FALSE(session.failed());
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Death, StackThatIsTornAnswersThatItIsDown) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    const pid_t sleeper = ForkAttached();
    if (sleeper == 0) {
      Session session;
      ChannelWatch watch(session, 9);
      Fake().counters[0] = 1;
      WaitRequest request;
      request.set = &CurrentSleeper().own_set;
      Wait(session, request);
      _exit(session.failed() ? 0 : kFailed);
    }
    EXPECT_TRUE(
        Eventually([] { return __atomic_load_n(&Fake().counters[0], __ATOMIC_RELAXED) == 1; }));
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      Session session;
      Fake().torn = true;
      kill(getpid(), SIGKILL);
    }
    EXPECT_EQ(ExitCode(pid), 128 + SIGKILL);
    {
      Session session;
      EXPECT_TRUE(session.failed());
    }
    EXPECT_EQ(CurrentMode(), Mode::kBroken);
    EXPECT_FALSE(IsOurs(fd));
    EXPECT_EQ(ExitCode(sleeper), 0);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Death, AnotherProcessPumpsWhenThePumpIsKilled) {
  const std::string name = DeviceName();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  Child first([&] {
    AttachTo(name);
    EXPECT_EQ(write(ready[1], "x", 1), 1);
    poll(nullptr, 0, 60000);
    return 0;
  });
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  Child second([&] {
    AttachTo(name);
    Wire wire(name);
    first.Kill(SIGKILL);
    wire.Send(5);
    EXPECT_TRUE(Eventually(
        [] { return __atomic_load_n(&Fake().channels[5].arrived, __ATOMIC_RELAXED) == 1; }));
    return 0;
  });
  EXPECT_EQ(second.Wait(), 0);
  EXPECT_EQ(first.Wait(), 128 + SIGKILL);
}

}  // namespace
}  // namespace userstack::shim
