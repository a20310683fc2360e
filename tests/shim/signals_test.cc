// Handlers and the stack: none runs while its thread holds the lock, none is lost, and a wait ends
// as the kernel's would.
#include "shim/signals.h"

#include <csetjmp>
#include <csignal>
#include <thread>

#include "shim/descriptors.h"
#include "tests/shim/processes.h"

namespace userstack::shim {
namespace {

volatile sig_atomic_t g_count = 0;
volatile sig_atomic_t g_value = 0;
volatile sig_atomic_t g_code = 0;
volatile sig_atomic_t g_nested = 0;
sigjmp_buf g_jump;

void Count(int) { g_count = g_count + 1; }

void CountWithSession(int) {
  // Would wait for itself if it ran while its thread holds the lock.
  Session session;
  if (!session.failed()) Signal(60);
  g_count = g_count + 1;
}

void Record(int, siginfo_t* info, void*) {
  g_value = info->si_value.sival_int;
  g_code = info->si_code;
  g_count = g_count + 1;
}

void Jump(int) { siglongjmp(g_jump, 1); }

void SetHandler(int signal, void (*handler)(int), int flags = 0) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  EXPECT_EQ(SignalAction(signal, &action, nullptr), 0);
}

TEST(Signals, HandlerRunsAfterTheSession) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    SetHandler(SIGUSR1, CountWithSession);
    {
      Session session;
      raise(SIGUSR1);
      raise(SIGUSR1);  // blocked by now: one pending, as in the kernel
      EXPECT_EQ(g_count, 0);
      EXPECT_EQ(Fake().channels[60].arrived, 0u);
    }
    EXPECT_GE(g_count, 1);
    EXPECT_LE(g_count, 2);
    sigset_t mask;
    sigprocmask(SIG_BLOCK, nullptr, &mask);
    EXPECT_FALSE(sigismember(&mask, SIGUSR1));
    EXPECT_FALSE(sigismember(&mask, SIGUSR2));
    Session session;
    EXPECT_GE(Fake().channels[60].arrived, 1u);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, HandlerSetBeforeAttachIsPutOffToo) {
  const std::string name = DeviceName();
  Child child([&] {
    signal(SIGUSR1, CountWithSession);
    AttachTo(name);
    {
      Session session;
      raise(SIGUSR1);
      EXPECT_EQ(g_count, 0);
    }
    EXPECT_EQ(g_count, 1);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, PutOffSignalKeepsItsInformation) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    struct sigaction action {};
    action.sa_sigaction = Record;
    action.sa_flags = SA_SIGINFO;
    EXPECT_EQ(SignalAction(SIGRTMIN + 1, &action, nullptr), 0);
    {
      Session session;
      for (int i = 1; i <= 3; ++i) sigqueue(getpid(), SIGRTMIN + 1, {.sival_int = 100 + i});
      EXPECT_EQ(g_count, 0);
    }
    EXPECT_EQ(g_count, 3);  // real-time signals queue
    EXPECT_GT(g_value, 100);
    EXPECT_EQ(g_code, SI_QUEUE);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, ActionIsReportedAsTheProgramSetIt) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    struct sigaction old {};
    EXPECT_EQ(SignalAction(SIGTERM, nullptr, &old), 0);
    EXPECT_EQ(old.sa_handler, SIG_DFL);
    struct sigaction action {};
    action.sa_handler = Count;
    action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
    sigaddset(&action.sa_mask, SIGUSR2);
    EXPECT_EQ(SignalAction(SIGUSR1, &action, nullptr), 0);
    EXPECT_EQ(SignalAction(SIGUSR1, nullptr, &old), 0);
    EXPECT_EQ(old.sa_handler, Count);
    EXPECT_EQ(old.sa_flags & static_cast<int>(SA_RESTART | SA_RESETHAND | SA_SIGINFO),
              static_cast<int>(SA_RESTART | SA_RESETHAND));
    EXPECT_TRUE(sigismember(&old.sa_mask, SIGUSR2));
    raise(SIGUSR1);
    EXPECT_EQ(g_count, 1);
    EXPECT_EQ(SignalAction(SIGUSR1, nullptr, &old), 0);
    EXPECT_EQ(old.sa_handler, SIG_DFL);  // SA_RESETHAND
    SetHandler(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    EXPECT_EQ(SignalAction(SIGUSR1, nullptr, &old), 0);
    EXPECT_EQ(old.sa_handler, SIG_IGN);
    EXPECT_EQ(SignalAction(SIGKILL, &action, nullptr), -EINVAL);
    EXPECT_EQ(SignalAction(0, &action, nullptr), -EINVAL);
    EXPECT_EQ(SignalAction(65, &action, nullptr), -EINVAL);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, OneShotHandlerThatIsPutOffRunsOnce) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    SetHandler(SIGUSR1, Count, static_cast<int>(SA_RESETHAND));
    {
      Session session;
      raise(SIGUSR1);
    }
    EXPECT_EQ(g_count, 1);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, DefaultActionStillEndsTheProcess) {
  const std::string name = DeviceName();
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGRTMIN}) {
    Child child([&] {
      ::signal(signal, SIG_DFL);  // a shell's background jobs ignore SIGINT
      AttachTo(name);
      {
        Session session;
        raise(signal);
      }
      return 0;
    });
    EXPECT_EQ(child.Wait(), 128 + signal);
  }
}

// Repeats `signal` to this thread until it has gone on.
class Nag {
 public:
  explicit Nag(int signal)
      : thread_([this, signal, target = pthread_self()] {
          while (!stop_) {
            pthread_kill(target, signal);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        }) {}
  ~Nag() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST(Signals, WaitIsInterruptedAndTellsWhetherToRestart) {
  const std::string name = DeviceName();
  for (const bool restart : {false, true}) {
    Child child([&] {
      AttachTo(name);
      SetHandler(SIGUSR1, Count, restart ? SA_RESTART : 0);
      for (int round = 0; round < 50; ++round) {
        Nag nag(SIGUSR1);
        Session session;
        ChannelWatch watch(session, 8);
        EXPECT_EQ(watch.Await(1, In(kPatience)), WaitResult::kInterrupted);
        EXPECT_EQ(ShouldRestart(), restart);
      }
      EXPECT_GT(g_count, 0);
      return 0;
    });
    EXPECT_EQ(child.Wait(), 0);
  }
}

TEST(Signals, FollowerOnItsFutexIsInterruptedToo) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    SetHandler(SIGUSR1, Count);
    std::atomic<bool> attending{false};
    std::thread attendant([&] {
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, nullptr);
      Session session;
      ChannelWatch watch(session, 11);
      attending = true;
      EXPECT_EQ(watch.Await(1, In(kPatience)), WaitResult::kStackReady);
    });
    while (!attending) std::this_thread::yield();
    for (int round = 0; round < 50; ++round) {
      Nag nag(SIGUSR1);
      Session session;
      ChannelWatch watch(session, 8);
      EXPECT_EQ(watch.Await(1, In(kPatience)), WaitResult::kInterrupted);
    }
    {
      Session session;
      Signal(11);
    }
    attendant.join();
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, MaskOfAWaitIsInForceOnlyWhileItSleeps) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    SetHandler(SIGUSR1, Count);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, nullptr);
    raise(SIGUSR1);
    EXPECT_EQ(g_count, 0);
    {
      Session session;
      ChannelWatch watch(session, 8);
      sigset_t none;
      sigemptyset(&none);
      WaitRequest request;
      request.set = &CurrentSleeper().own_set;
      request.mask = &none;
      request.deadline = In(kPatience);
      EXPECT_EQ(Wait(session, request), WaitResult::kInterrupted);
    }
    EXPECT_EQ(g_count, 1);
    raise(SIGUSR1);
    EXPECT_EQ(g_count, 1);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, HandlerMayLeaveAWaitByALongJump) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    SetHandler(SIGALRM, Jump, SA_NODEFER);
    for (int round = 0; round < 20; ++round) {
      if (sigsetjmp(g_jump, 1) == 0) {
        ualarm(2000, 0);
        Session session;
        ChannelWatch watch(session, 8);
        watch.Await(1000, In(kPatience));
        ADD_FAILURE() << "not interrupted";
      }
      ualarm(0, 0);
    }
    Session session;
    EXPECT_FALSE(session.failed());
    EXPECT_EQ(CurrentShared().attendant == &CurrentSleeper(), false);
    EXPECT_LE(CurrentShared().sleepers.live(), 3u);  // the abandoned ones were found
    EXPECT_LE(CurrentShared().watches.live(), 1u);
    Signal(8);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

void WaitInside(int) {
  Session session;
  ChannelWatch watch(session, 61);
  Fake().timer = session.now() + Duration::Milliseconds(1);
  const WaitResult result = watch.Await(1, session.now() + Duration::Milliseconds(20));
  g_nested = result == WaitResult::kTimedOut ? 1 : 2;
}

TEST(Signals, HandlerMayWaitWhileItsThreadWaits) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    SetHandler(SIGUSR1, WaitInside, SA_RESTART);
    pthread_t self = pthread_self();
    std::thread killer([self] {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      pthread_kill(self, SIGUSR1);
    });
    {
      Session session;
      ChannelWatch watch(session, 8);
      EXPECT_EQ(watch.Await(1, In(kPatience)), WaitResult::kInterrupted);
      EXPECT_EQ(g_nested, 1);
      EXPECT_EQ(CurrentShared().watches.live(), 1u);
    }
    killer.join();
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Signals, StormNeitherDeadlocksNorLosesData) {
  const std::string name = DeviceName();
  Child child([&] {
    AttachTo(name);
    SetHandler(SIGUSR1, CountWithSession, SA_RESTART);
    const pid_t parent = getpid();
    const pid_t pid = ForkAttached();
    if (pid == 0) {
      for (int i = 0; i < 3000; ++i) {
        kill(parent, SIGUSR1);
        Session session;
        Signal(62);
      }
      Leave(0);
    }
    uint64_t seen = 0;
    while (seen < 3000) {
      Session session;
      ChannelWatch watch(session, 62);
      const WaitResult result = watch.Await(seen + 1, In(kPatience));
      if (result == WaitResult::kTimedOut) {
        ADD_FAILURE() << "lost after " << seen;
        break;
      }
      seen = Fake().channels[62].arrived;
    }
    EXPECT_EQ(ExitCode(pid), 0);
    EXPECT_GT(g_count, 0);
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace userstack::shim
