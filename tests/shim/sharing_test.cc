// One stack, many processes: fork, exec, exit, joining, and what is left at the end.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "shim/descriptors.h"
#include "tests/shim/processes.h"

namespace userstack::shim {
namespace {

TEST(Fork, ChildSharesTheDescriptorsOfItsParent) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      EXPECT_TRUE(IsOurs(fd));
      EXPECT_EQ(References(fd), 2u);
      CloseSocket(fd);
      EXPECT_FALSE(IsOurs(fd));
      Leave(testing::Test::HasFailure() ? kFailed : 0);
    }
    EXPECT_EQ(ExitCode(pid), 0);
    EXPECT_EQ(References(fd), 1u);
    EXPECT_EQ(Destroyed(), 0u);
    CloseSocket(fd);
    EXPECT_EQ(Destroyed(), 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Fork, FailedForkLeavesNoReference) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    PrepareFork();
    ForkInParent(-1);
    EXPECT_EQ(References(fd), 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Fork, ChildThatNoHookSawAdoptsWhatItHas) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int kept = NewSocket();
    const int closed = NewSocket();
    const pid_t pid = fork();  // as inside libc
    if (pid == 0) {
      close(closed);
      { Session session; }
      EXPECT_TRUE(IsOurs(kept));
      EXPECT_FALSE(IsOurs(closed));
      EXPECT_EQ(References(kept), 2u);
      Leave(testing::Test::HasFailure() ? kFailed : 0);
    }
    EXPECT_EQ(ExitCode(pid), 0);
    EXPECT_EQ(References(kept), 1u);
    EXPECT_EQ(References(closed), 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Fork, ClosedDescriptorThatReappearsIsForgotten) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    close(fd);  // as fclose does
    const int again = NewSocket();
    EXPECT_EQ(fd, again);
    EXPECT_EQ(Destroyed(), 1u);
    EXPECT_EQ(References(again), 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Exit, LastReferenceGoesWithTheProcess) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      NewSocket();
      Leave(testing::Test::HasFailure() ? kFailed : 0);
    }
    EXPECT_EQ(ExitCode(pid), 0);
    EXPECT_EQ(Destroyed(), 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Join, ProgramsOfOneDeviceShareItsStack) {
  const std::string name = DeviceName();
  int to_second[2];
  int to_first[2];
  ASSERT_EQ(pipe(to_second), 0);
  ASSERT_EQ(pipe(to_first), 0);
  Child first([&] {
    AttachTo(name, "10.0.0.2/24");
    {
      Session session;
      Fake().counters[1] = 42;
    }
    EXPECT_EQ(write(to_second[1], "x", 1), 1);
    char byte;
    EXPECT_EQ(read(to_first[0], &byte, 1), 1);
    Session session;
    EXPECT_EQ(Fake().counters[1], 43u);
    return 0;
  });
  Child second([&] {
    char byte;
    EXPECT_EQ(read(to_second[0], &byte, 1), 1);
    AttachTo(name, "10.0.0.2/24");
    {
      Session session;
      EXPECT_EQ(Fake().counters[1], 42u);
      ++Fake().counters[1];
    }
    EXPECT_EQ(write(to_first[1], "x", 1), 1);
    return 0;
  });
  EXPECT_EQ(second.Wait(), 0);
  EXPECT_EQ(first.Wait(), 0);
}

TEST(Join, ManyThatStartAtOnceMakeOneStack) {
  const std::string name = DeviceName();
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < 8; ++i) {
    children.push_back(std::make_unique<Child>([&] {
      AttachTo(name);
      {
        Session session;
        ++Fake().counters[2];
      }
      // Nobody leaves before all have come.
      EXPECT_TRUE(
          Eventually([] { return __atomic_load_n(&Fake().counters[2], __ATOMIC_RELAXED) == 8; }));
      return 0;
    }));
  }
  for (auto& child : children) EXPECT_EQ(child->Wait(), 0);
}

TEST(Join, AnotherConfigurationIsRefusedInOneLine) {
  const std::string name = DeviceName();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  Child first([&] {
    AttachTo(name, "10.0.0.2/24");
    EXPECT_EQ(write(ready[1], "x", 1), 1);
    poll(nullptr, 0, 60000);
    return 0;
  });
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  int log[2];
  ASSERT_EQ(pipe(log), 0);
  Child second([&] {
    dup2(log[1], 2);
    setenv("USERSTACK_DEV", ("tap:" + name).c_str(), 1);
    setenv("USERSTACK_ADDR", "10.0.0.3/24", 1);
    EXPECT_EQ(shim::Attach(), -ENETDOWN);
    EXPECT_EQ(CurrentMode(), Mode::kBroken);
    EXPECT_EQ(shim::Attach(), -ENETDOWN);
    return 0;
  });
  close(log[1]);
  EXPECT_EQ(second.Wait(), 0);
  char text[2048] = {};
  EXPECT_GT(read(log[0], text, sizeof(text) - 1), 0);
  const std::string line(text);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
  EXPECT_NE(line.find("USERSTACK_DEV=tap:" + name + ": device busy"), std::string::npos) << line;
  EXPECT_NE(line.find("USERSTACK_ADDR=10.0.0.2/24"), std::string::npos) << line;
}

// How many of this process's descriptors name the character device `path`.
int CountDescriptorsOf(const char* path) {
  struct stat wanted;
  EXPECT_EQ(stat(path, &wanted), 0);
  int count = 0;
  for (int fd = 0; fd < 4096; ++fd) {
    struct stat status;
    if (fstat(fd, &status) == 0 && status.st_rdev == wanted.st_rdev && S_ISCHR(status.st_mode)) {
      ++count;
    }
  }
  return count;
}

// Answers one newcomer on the device's rendezvous address with `size` bytes of nothing and three
// descriptors of /dev/zero. The connection, which the newcomer reads from as long as it is open.
int AnswerWithNothing(int listener, size_t size) {
  const int fd = accept(listener, nullptr, nullptr);
  const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  const int descriptors[3] = {zero, zero, zero};
  std::vector<char> bytes(size);
  iovec part{bytes.data(), size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(descriptors))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(descriptors));
  memcpy(CMSG_DATA(header), descriptors, sizeof(descriptors));
  EXPECT_EQ(sendmsg(fd, &message, 0), static_cast<ssize_t>(size));
  close(zero);
  return fd;
}

TEST(Join, AnswerThatMeansNothingLeavesNoDescriptors) {
  const std::string name = DeviceName();
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "userstack/%u/tap:%s",
                         geteuid(), name.c_str());
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n)),
            0);
  ASSERT_EQ(listen(listener, 1), 0);
  Child newcomer([&] {
    close(listener);
    AttachTo(name);  // in the end it makes the stack by itself
    EXPECT_EQ(CountDescriptorsOf("/dev/zero"), 0);
    return 0;
  });
  const int answered[] = {AnswerWithNothing(listener, 1), AnswerWithNothing(listener, 2048)};
  close(listener);
  EXPECT_EQ(newcomer.Wait(), 0);
  for (const int fd : answered) close(fd);
}

// What is mapped as a stack could be cut off under us, or be anything.
TEST(Attach, InheritedFileThatIsNoArenaIsLeftAlone) {
  const std::string name = DeviceName();
  Child child([&] {
    setenv("USERSTACK_DEV", ("tap:" + name).c_str(), 1);
    const int fd = memfd_create("small", 0);
    EXPECT_EQ(write(fd, "x", 1), 1);
    const std::string number = std::to_string(fd);
    setenv("USERSTACK_ATTACH", (number + ":" + number + ":" + number).c_str(), 1);
    AttachInherited();
    EXPECT_FALSE(IsAttached());
    EXPECT_EQ(getenv("USERSTACK_ATTACH"), nullptr);
    EXPECT_EQ(fcntl(fd, F_GETFD), 0);  // the program's still
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Attach, MissingDeviceIsOneLineAndNetworkDown) {
  int log[2];
  ASSERT_EQ(pipe(log), 0);
  Child child([&] {
    dup2(log[1], 2);
    setenv("USERSTACK_DEV", "tap:missing", 1);
    EXPECT_EQ(shim::Attach(), -ENETDOWN);
    EXPECT_EQ(shim::Attach(), -ENETDOWN);
    return 0;
  });
  close(log[1]);
  EXPECT_EQ(child.Wait(), 0);
  char text[2048] = {};
  EXPECT_GT(read(log[0], text, sizeof(text) - 1), 0);
  EXPECT_STREQ(text, "userstack: USERSTACK_DEV=tap:missing: no such device\n");
}

TEST(Attach, TakenArenaAddressIsOneLineAndNetworkDown) {
  const std::string name = DeviceName();
  int log[2];
  ASSERT_EQ(pipe(log), 0);
  Child child([&] {
    dup2(log[1], 2);
    setenv("USERSTACK_DEV", ("tap:" + name).c_str(), 1);
    EXPECT_NE(mmap(reinterpret_cast<void*>(kArenaAddress + (1 << 20)), 4096, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
              MAP_FAILED);
    EXPECT_EQ(shim::Attach(), -ENETDOWN);
    return 0;
  });
  close(log[1]);
  EXPECT_EQ(child.Wait(), 0);
  char text[2048] = {};
  EXPECT_GT(read(log[0], text, sizeof(text) - 1), 0);
  EXPECT_NE(strstr(text, "is taken in this program"), nullptr) << text;
  EXPECT_EQ(strchr(text, '\n'), text + strlen(text) - 1) << text;
}

// The pump works in another thread; what it opens must not take a number of the program's for a
// moment, nor keep a descriptor of the program's open.
TEST(Attach, PumpSharesNoDescriptorsWithTheProgram) {
  const std::string name = DeviceName();
  Child child([&] {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const int free = dup(0);
    close(free);
    AttachTo(name);
    for (int i = 0; i < 2000; ++i) {
      const int fd = dup(0);
      EXPECT_EQ(fd, free);
      close(fd);
      if (i % 100 == 0) {  // something for the pump to open: a process to watch
        const pid_t pid = ForkAttached();
        if (pid == 0) Leave(0);
        EXPECT_EQ(ExitCode(pid), 0);
      }
      if (testing::Test::HasFailure()) return 1;
    }
    close(ends[1]);
    pollfd entry{ends[0], POLLIN, 0};
    EXPECT_EQ(poll(&entry, 1, 10000), 1);
    EXPECT_EQ(entry.revents, POLLHUP);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Attach, OwnDescriptorsAreOutOfTheProgramsWay) {
  const std::string name = DeviceName();
  Child child([&] {
    const int before = dup(0);
    close(before);
    AttachTo(name);
    const int after = dup(0);
    EXPECT_EQ(before, after);
    EXPECT_FALSE(IsInternalDescriptor(after));
    int count = 0;
    for (int fd = NextInternalDescriptor(0); fd >= 0; fd = NextInternalDescriptor(fd + 1)) {
      ++count;
      EXPECT_GT(fd, 100);
      EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
      EXPECT_TRUE(IsInternalDescriptor(fd));
    }
    EXPECT_GE(count, 4);  // arena, device, rendezvous, ringer
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// --- exec: this executable again, as another program ---

TEST(Exec, NewProgramFindsItsDescriptors) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int kept = NewSocket();
    const int closed = NewSocket();
    fcntl(closed, F_SETFD, FD_CLOEXEC);
    {
      Session session;
      Fake().counters[3] = Lookup(kept)->socket->id = 77;
    }
    const char* variable = PrepareExec();
    EXPECT_NE(variable, nullptr);
    std::string assignment(variable);
    putenv(assignment.data());
    const std::string a = std::to_string(kept);
    const std::string b = std::to_string(closed);
    execl("/proc/self/exe", "runtime_test", "--program=adopt", a.c_str(), b.c_str(), nullptr);
    return 1;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Exec, FailedExecKeepsOurDescriptorsToOurselves) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    PrepareExec();
    execl("/nonexistent", "nonexistent", nullptr);
    ExecFailed();
    for (int fd = NextInternalDescriptor(0); fd >= 0; fd = NextInternalDescriptor(fd + 1)) {
      EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Exec, SpawnedProgramHoldsReferencesBeforeItRuns) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    PrepareFork();
    const std::string assignment = PrepareExec();
    const pid_t pid = vfork();
    if (pid == 0) {
      char* environment[] = {const_cast<char*>(assignment.c_str()),
                             const_cast<char*>(getenv("USERSTACK_DEV") - strlen("USERSTACK_DEV=")),
                             const_cast<char*>("USERSTACK_MEMORY=1G"), nullptr};
      execle("/proc/self/exe", "runtime_test", "--program=adopt", std::to_string(fd).c_str(), "-1",
             nullptr, environment);
      _exit(127);
    }
    ExecFailed();
    ForkInParent(pid);
    CloseSocket(fd);
    EXPECT_EQ(ExitCode(pid), 0);
    EXPECT_EQ(Destroyed(), 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

// --- the successor ---

// The successor of device `name`, found by its command line (a copy of ours) and its name.
bool SuccessorHolds(const std::string& name) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "userstack/%d/tap:%s",
                         geteuid(), name.c_str());
  const int result = connect(fd, reinterpret_cast<sockaddr*>(&address),
                             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n));
  close(fd);
  return result == 0;
}

TEST(Successor, FinishesWhatTheProgramLeftWithoutDelayingItsEnd) {
  const std::string name = DeviceName();
  int output[2];
  ASSERT_EQ(pipe(output), 0);
  Child child([&] {
    AttachTo(name);
    Session session;
    Fake().unfinished = true;
    return 7;
  });
  close(output[1]);
  EXPECT_EQ(child.Wait(), 7);
  char byte;
  EXPECT_EQ(read(output[0], &byte, 1), 0);  // nobody holds the program's output
  EXPECT_TRUE(SuccessorHolds(name));
  // A newcomer takes over; when it has no work left either, nobody holds the device.
  Child newcomer([&] {
    AttachTo(name);
    Session session;
    EXPECT_TRUE(Fake().unfinished);
    Fake().unfinished = false;
    return 0;
  });
  EXPECT_EQ(newcomer.Wait(), 0);
  EXPECT_TRUE(Eventually([&] { return !SuccessorHolds(name); }));
}

TEST(Successor, EndsWhenTheWorkIsDone) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    Session session;
    Fake().unfinished = true;
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
  Wire wire(name);
  wire.Send(kFinishChannel);
  EXPECT_TRUE(Eventually([&] { return !SuccessorHolds(name); }));
}

TEST(Successor, GivesWayToAStackOfAnotherConfiguration) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name, "10.0.0.2/24");
    Session session;
    Fake().unfinished_time_wait = true;
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_TRUE(SuccessorHolds(name));
  Child other([&] {
    AttachTo(name, "10.0.0.3/24");
    return 0;
  });
  EXPECT_EQ(other.Wait(), 0);
}

TEST(Successor, ProgramWithNothingLeftHasNone) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_FALSE(SuccessorHolds(name));
}

TEST(Successor, ProgramEndedByASignalHasOneToo) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    {
      Session session;
      Fake().unfinished = true;
    }
    raise(SIGTERM);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 128 + SIGTERM);
  EXPECT_TRUE(SuccessorHolds(name));
  Wire wire(name);
  wire.Send(kFinishChannel);
  EXPECT_TRUE(Eventually([&] { return !SuccessorHolds(name); }));
}

}  // namespace

// --program=adopt KEPT CLOSED: exec'd with those descriptors.
int RunAdopt(char** arguments) {
  const int kept = atoi(arguments[0]);
  const int closed = atoi(arguments[1]);
  AttachInherited();
  if (!IsAttached()) return 10;
  if (getenv("USERSTACK_ATTACH") != nullptr) return 11;
  if (!IsOurs(kept)) return 12;
  if (closed >= 0 && IsOurs(closed)) return 13;
  {
    Session session;
    if (session.failed()) return 14;
    if (closed >= 0 && Lookup(kept)->socket->id != 77) return 15;
    if (closed >= 0 && Fake().destroyed != 1) return 16;
  }
  ProcessExit();
  return 0;
}

}  // namespace userstack::shim
