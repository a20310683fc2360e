// Death of processes, with and without the lock: what was theirs goes, the others go on.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
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

bool SleepsInFutex(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/syscall");
  long call = -1;
  return in >> call && call == SYS_futex;
}

// What pthread_mutex_lock does until it is woken.
void SleepForLock(pthread_mutex_t& mutex) {
  int* word = &mutex.__data.__lock;
  const int held = __atomic_or_fetch(word, static_cast<int>(FUTEX_WAITERS), __ATOMIC_ACQ_REL);
  syscall(SYS_futex, word, FUTEX_WAIT, held, nullptr, nullptr, 0);
}

// Of two that sleep for the lock the first is woken and killed before it can take it, and another
// takes it on its way: nothing in the lock's word says any more that somebody sleeps.
TEST(Death, WakeUpForTheLockThatDiesWithItsThreadHoldsUpNobody) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    pid_t sleepers[2];
    for (unsigned i = 0; i < 2; ++i) {
      sleepers[i] = ForkAttached();
      if (sleepers[i] != 0) continue;
      while (__atomic_load_n(&Fake().counters[i], __ATOMIC_ACQUIRE) == 0) poll(nullptr, 0, 1);
      if (i == 0) {
        SleepForLock(CurrentShared().lock);
        kill(getpid(), SIGKILL);
      }
      { Session session; }
      Leave(0);
    }
    {
      Session session;
      for (unsigned i = 0; i < 2; ++i) {
        __atomic_store_n(&Fake().counters[i], 1, __ATOMIC_RELEASE);
        EXPECT_TRUE(Eventually([&] { return SleepsInFutex(sleepers[i]); }));
      }
    }
    { Session session; }
    EXPECT_EQ(ExitCode(sleepers[0]), 128 + SIGKILL);
    EXPECT_EQ(ExitCode(sleepers[1]), 0);
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

// Children do what calls do, and are killed at any instruction; the survivors must neither hang nor
// lose what is theirs.
TEST(Death, KilledAtAnyInstructionTheOthersGoOn) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    const int fd = NewSocket();
    std::mt19937 random(4711);
    for (int round = 0; round < 60; ++round) {
      std::vector<pid_t> victims;
      for (unsigned i = 0; i < 3; ++i) {
        const pid_t pid = ForkAttached();
        if (pid == 0) {
          for (;;) {
            CloseSocket(NewSocket());
            Session session;
            Signal(30 + i);
            ChannelWatch watch(session, 40 + i);
            watch.Await(Fake().channels[40 + i].arrived + 1, In(Duration::Microseconds(200)));
            if (session.failed()) _exit(1);
          }
        }
        victims.push_back(pid);
      }
      const Instant end = In(Duration::Microseconds(200 + random() % 3000));
      uint64_t calls = 0;
      while (MonotonicNow() < end || calls < 20) {
        CloseSocket(NewSocket());
        Session session;
        EXPECT_FALSE(session.failed());
        if (session.failed()) return 1;
        for (unsigned i = 0; i < 3; ++i) Signal(40 + i);
        ++calls;
      }
      for (const pid_t pid : victims) kill(pid, SIGKILL);
      for (const pid_t pid : victims) EXPECT_EQ(ExitCode(pid), 128 + SIGKILL);
    }
    EXPECT_TRUE(Eventually([&] { return References(fd) == 1; }));
    // One that dies between taking an object from its pool and listing it loses the object.
    constexpr unsigned kLost = 10;
    EXPECT_TRUE(Eventually([&] {
      Session session;
      return CurrentShared().sleepers.live() <= 2 + kLost && Fake().sockets.live() <= 1 + kLost;
    }));
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

struct Item {
  ListNode node;
};
using Items = List<Item, &Item::node>;

// The stores of a change in their order; a death leaves the first `n` of them.
void InsertInSteps(ListNode* n, ListNode* before, ListNode* after, int steps) {
  if (steps > 0) n->previous = ListNode::Marked(before);
  if (steps > 1) n->next = after;
  if (steps > 2) before->next = n;
  if (steps > 3) after->previous = n;
}

void UnlinkInSteps(ListNode* n, int steps) {
  ListNode* const before = n->previous;
  ListNode* const after = n->next;
  if (steps > 0) n->previous = ListNode::Marked(before);
  if (steps > 1) after->previous = before;
  if (steps > 2) before->next = after;
  if (steps > 3) n->next = nullptr;
}

void ExpectWhole(const Items& items, size_t count) {
  size_t forward = 0;
  size_t backward = 0;
  for (Item* i = items.front(); i != nullptr; i = items.Next(i)) ++forward;
  for (Item* i = items.back(); i != nullptr; i = items.Previous(i)) ++backward;
  EXPECT_EQ(forward, count);
  EXPECT_EQ(backward, count);
}

TEST(Repair, MendsAnInsertionCutAfterAnyStore) {
  for (int steps = 1; steps <= 4; ++steps) {
    Items items;
    Item a;
    Item b;
    Item inserted;
    items.PushBack(&a);
    items.PushBack(&b);
    InsertInSteps(&inserted.node, &a.node, &b.node, steps);
    RepairNode(&inserted.node);
    EXPECT_FALSE(inserted.node.is_marked());
    EXPECT_EQ(inserted.node.linked(), steps > 2);
    ExpectWhole(items, steps > 2 ? 3 : 2);
  }
}

TEST(Repair, MendsARemovalCutAfterAnyStore) {
  for (int steps = 1; steps <= 4; ++steps) {
    Items items;
    Item a;
    Item removed;
    Item b;
    items.PushBack(&a);
    items.PushBack(&removed);
    items.PushBack(&b);
    UnlinkInSteps(&removed.node, steps);
    RepairNode(&removed.node);
    EXPECT_FALSE(removed.node.is_marked());
    EXPECT_EQ(removed.node.linked(), steps <= 2);
    ExpectWhole(items, steps <= 2 ? 3 : 2);
  }
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
