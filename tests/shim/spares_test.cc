// Spares: placeholders of connections that ended, for those to come; and who must not get them.
#include "shim/spares.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "shim/descriptors.h"
#include "tests/shim/processes.h"

namespace userstack::shim {
namespace {

uint64_t InodeOf(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

// As accept() makes a connection: of a spare, or -1.
int FromSpare(int flags = 0) {
  Session session;
  const SparePlacement placement = TakeSpare(flags);
  if (placement.number < 0) return -1;
  Socket* made = *session.stack().CreateSocket(AF_INET, SOCK_STREAM, 0);
  Description* description = NewDescription(made, 0);
  description->nonblocking = (flags & SOCK_NONBLOCK) != 0;
  Use(placement.spare, *description, session.now());
  const int fd = static_cast<int>(placement.number);
  Install(CurrentProcess(), fd, description);
  return fd;
}

// As close() ends one, `later` after the last.
void Close(int fd, Duration later = Duration::Milliseconds(2)) {
  static Duration offset;
  offset = offset + later;
  {
    Session session;
    KeepPlaceholder(fd, *Lookup(fd), session.now() + offset);
    Remove(CurrentProcess(), fd, session.now());
  }
  close(fd);
}

// Runs `body` with a stack, in a process of its own.
void WithStack(const std::function<void()>& body) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    body();
    return testing::Test::HasFailure() ? kFailed : 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Spares, ConnectionGetsThePlaceholderOfOneThatEnded) {
  WithStack([] {
    const int first = NewSocket();
    const uint64_t inode = InodeOf(first);
    EXPECT_EQ(FromSpare(), -1);
    Close(first);
    EXPECT_EQ(InodeOf(first), 0u);  // the number is free
    const int second = FromSpare();
    EXPECT_EQ(second, first);
    EXPECT_EQ(InodeOf(second), inode);
    EXPECT_EQ(FromSpare(), -1);  // one user at a time
    Close(second);
    EXPECT_EQ(FromSpare(), first);
  });
}

TEST(Spares, FlagsAreThoseThatAreAskedFor) {
  WithStack([] {
    Close(NewSocket());
    for (const int flags :
         std::vector<int>{0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC, 0}) {
      const int fd = FromSpare(flags);
      EXPECT_EQ((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, (flags & SOCK_NONBLOCK) != 0);
      EXPECT_EQ(fcntl(fd, F_GETFD), (flags & SOCK_CLOEXEC) != 0 ? FD_CLOEXEC : 0);
      Close(fd);
    }
  });
}

TEST(Spares, WhatAChildMayHoldIsNotUsedAgain) {
  WithStack([] {
    const int plain = NewSocket();
    Close(NewSocket());
    const int of_spare = FromSpare();
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      EXPECT_EQ(FromSpare(), -1);
      Leave(testing::Test::HasFailure() ? kFailed : 0);
    }
    EXPECT_EQ(ExitCode(pid), 0);
    Close(plain);
    Close(of_spare);
    EXPECT_EQ(FromSpare(), -1);
  });
}

TEST(Spares, FreeOnesAreTheParentsAlone) {
  WithStack([] {
    const int fd = NewSocket();
    const uint64_t inode = InodeOf(fd);
    Close(fd);
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      EXPECT_EQ(FromSpare(), -1);
      for (int number = 0; number < 10000; ++number) EXPECT_NE(InodeOf(number), inode);
      Leave(testing::Test::HasFailure() ? kFailed : 0);
    }
    EXPECT_EQ(ExitCode(pid), 0);
    EXPECT_EQ(InodeOf(FromSpare()), inode);
  });
}

TEST(Spares, WhatIsInAMessageIsNotUsedAgain) {
  WithStack([] {
    const int fd = NewSocket();
    {
      Session session;
      AddReference(Lookup(fd));
      DropReference(Lookup(fd), session.now());
    }
    Close(fd);
    EXPECT_EQ(FromSpare(), -1);
  });
}

// The parent has put another connection behind the same number and inode since.
TEST(Spares, ChildThatNoHookSawTakesNoConnectionForAnother) {
  WithStack([] {
    int go[2];
    EXPECT_EQ(pipe(go), 0);
    Close(NewSocket());
    const int stays = FromSpare();
    const int ends = NewSocket();
    const uint64_t inode = InodeOf(ends);
    const pid_t pid = fork();  // as inside libc
    if (pid == 0) {
      char byte;
      EXPECT_EQ(read(go[0], &byte, 1), 1);
      EXPECT_EQ(InodeOf(ends), inode);
      { Session session; }
      EXPECT_TRUE(IsOurs(stays));
      EXPECT_FALSE(IsOurs(ends));
      Leave(testing::Test::HasFailure() ? kFailed : 0);
    }
    Close(ends);
    const int other = FromSpare();
    EXPECT_EQ(other, ends);
    EXPECT_EQ(InodeOf(other), inode);
    EXPECT_EQ(write(go[1], "x", 1), 1);
    EXPECT_EQ(ExitCode(pid), 0);
  });
}

TEST(Spares, NumbersThatTheProgramMayHaveAreLeftToIt) {
  const std::string name = DeviceName();
  Child child([&] {
    const rlimit limit{256, 256};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    AttachTo(name);
    Close(NewSocket());
    EXPECT_EQ(FromSpare(), -1);
    return testing::Test::HasFailure() ? kFailed : 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Spares, LimitThatIsLoweredForAWhileMakesNoGap) {
  const std::string name = DeviceName();
  Child child([&] {
    rlimit limit{};
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 1024;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    std::vector<int> numbers(40);
    for (int& number : numbers) number = dup(0);  // whoever ran this may have left some open
    for (const int number : numbers) close(number);
    AttachTo(name);
    const int fd = NewSocket();
    limit.rlim_cur = static_cast<rlim_t>(fd) + 20;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    Close(fd);
    limit.rlim_cur = 1024;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT_EQ(FromSpare(), fd);
    for (size_t i = 1; i < numbers.size(); ++i) EXPECT_EQ(dup(0), numbers[i]);
    return testing::Test::HasFailure() ? kFailed : 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// Those that stay connected must not keep the spares from those that come and go.
TEST(Spares, LastingConnectionsGiveTheirsUp) {
  WithStack([] {
    std::vector<int> lasting;
    for (int i = 0; i < 32; ++i) {
      Close(NewSocket());
      lasting.push_back(FromSpare());
      EXPECT_GE(lasting.back(), 0);
    }
    const int fd = NewSocket();
    Close(fd, Duration::Seconds(1));
    EXPECT_EQ(FromSpare(), fd);
    for (const int other : lasting) EXPECT_TRUE(IsOurs(other));
  });
}

TEST(Spares, OneThatWasClosedBehindOurBackIsNoLoss) {
  WithStack([] {
    Close(NewSocket());
    const int fd = FromSpare();
    const uint64_t inode = InodeOf(fd);
    Close(fd);
    for (int number = fd; number < 10000; ++number) {
      if (InodeOf(number) == inode) close(number);
    }
    EXPECT_EQ(FromSpare(), -1);
    Close(NewSocket());
    EXPECT_EQ(FromSpare(), fd);
  });
}

}  // namespace
}  // namespace userstack::shim
