// The entry: a rewritten call leaves the machine as a system call does, whoever answers it.
#include <execinfo.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <vector>

#include "tests/rewrite/machine.h"
#include "tests/rewrite/rewriter.h"

namespace userstack::testing {
namespace {

using shim::rewrite::Answer;

constexpr long kOurs = 100000;  // numbers that no kernel knows
constexpr long kTheirs = 100001;
constexpr int kRounds = 3000;

long g_arguments[6];
long g_result = 0;
bool g_handled = true;

// What a dispatcher may do: change every register that a C function may change.
Answer Scramble(long, const long* arguments) {
  memcpy(g_arguments, arguments, sizeof g_arguments);
  if (userstack_rewrite_vectors == 2) {
    asm volatile(
        "vpternlogd $255,%%zmm0,%%zmm0,%%zmm0; vpternlogd $255,%%zmm7,%%zmm7,%%zmm7;"
        "vpternlogd $255,%%zmm15,%%zmm15,%%zmm15; vpternlogd $255,%%zmm16,%%zmm16,%%zmm16;"
        "vpternlogd $255,%%zmm31,%%zmm31,%%zmm31; kxnorq %%k1,%%k1,%%k1; kxnorq %%k7,%%k7,%%k7" ::
            : "memory");
  } else if (userstack_rewrite_vectors == 1) {
    asm volatile("vzeroall" ::: "memory");
  } else {
    asm volatile("pcmpeqd %%xmm0,%%xmm0; pcmpeqd %%xmm15,%%xmm15" ::: "memory");
  }
  asm volatile("xor %%r8d,%%r8d; xor %%r9d,%%r9d; xor %%r10d,%%r10d; xor %%r11d,%%r11d" ::
                   : "r8", "r9", "r10", "r11", "cc");
  return {g_result, g_handled ? 1 : 0};
}

void Fill(Machine* machine, uint64_t seed) {
  std::mt19937_64 random(seed);
  auto* words = reinterpret_cast<uint64_t*>(machine);
  for (size_t i = 0; i < sizeof *machine / sizeof *words; ++i) words[i] = random();
  machine->flags = (machine->flags & kFlags) | 0x202;
}

size_t VectorBytes() { return size_t{16} << machine_level; }

void ExpectPreserved() {
  for (int i = 0; i < 16; ++i) {
    if (i == kRax || i == kRcx || i == kRsp || i == kR11) continue;
    EXPECT_EQ(machine_out.general[i], machine_in.general[i]) << "general register " << i;
  }
  EXPECT_EQ(machine_out.flags & kFlags, machine_in.flags & kFlags);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(machine_out.red_zone[i], machine_in.red_zone[i]) << "red zone " << i;
  }
  for (int i = 0; i < (machine_level == 2 ? 32 : 16); ++i) {
    EXPECT_EQ(memcmp(machine_out.vectors[i], machine_in.vectors[i], VectorBytes()), 0)
        << "vector register " << i;
  }
  for (int i = 0; machine_level == 2 && i < 8; ++i) {
    EXPECT_EQ(machine_out.masks[i], machine_in.masks[i]) << "mask register " << i;
  }
}

class EntryTest : public ::testing::TestWithParam<void (*)()> {
 protected:
  void SetUp() override {
    dispatcher.call = Scramble;
    dispatcher.concerned = kOurs;
    g_handled = true;
    ASSERT_EQ(RewriteFunction(GetParam()), 1u);
    machine_level = userstack_rewrite_vectors;
  }
  void Run(uint64_t seed, long number) {
    Fill(&machine_in, seed);
    machine_in.general[kRax] = static_cast<uint64_t>(number);
    GetParam()();
  }
};

TEST_P(EntryTest, TheTestSeesWhatTheKernelPreserves) {
  // On a site that is not rewritten there would be nothing to test: the number goes to the kernel.
  Run(1, kTheirs);
  EXPECT_EQ(static_cast<long>(machine_out.general[kRax]), -ENOSYS);
  ExpectPreserved();
}

TEST_P(EntryTest, AnAnsweredCallPreservesEverything) {
  for (int seed = 0; seed < kRounds && !HasFailure(); ++seed) {
    g_result = seed * 7919L - 4000;
    Run(static_cast<uint64_t>(seed), kOurs);
    EXPECT_EQ(static_cast<long>(machine_out.general[kRax]), g_result);
    EXPECT_EQ(machine_out.general[kR11] & kFlags, machine_in.flags & kFlags);
    ExpectPreserved();
    const int order[] = {kRdi, kRsi, kRdx, kR10, kR8, kR9};
    for (int i = 0; i < 6; ++i) {
      EXPECT_EQ(static_cast<uint64_t>(g_arguments[i]), machine_in.general[order[i]]);
    }
  }
}

TEST_P(EntryTest, ACallThatIsNotTheStacksReachesTheKernelUnchanged) {
  for (int seed = 0; seed < kRounds && !HasFailure(); ++seed) {
    Run(static_cast<uint64_t>(seed), kTheirs);
    EXPECT_EQ(static_cast<long>(machine_out.general[kRax]), -ENOSYS);
    ExpectPreserved();
  }
}

TEST_P(EntryTest, ACallThatTheDispatcherDeclinesReachesTheKernelUnchanged) {
  g_handled = false;
  for (int seed = 0; seed < kRounds && !HasFailure(); ++seed) {
    Run(static_cast<uint64_t>(seed), kOurs);
    EXPECT_EQ(static_cast<long>(machine_out.general[kRax]), -ENOSYS);
    ExpectPreserved();
  }
}

TEST_P(EntryTest, OlderProcessorsRegistersArePreservedToo) {
  const uint32_t real = userstack_rewrite_vectors;
  for (uint32_t level = 0; level <= real; ++level) {
    userstack_rewrite_vectors = machine_level = level;
    for (int seed = 0; seed < 200 && !HasFailure(); ++seed) {
      g_result = seed;
      Run(static_cast<uint64_t>(seed), kOurs);
      ExpectPreserved();
    }
  }
  userstack_rewrite_vectors = real;
}

INSTANTIATE_TEST_SUITE_P(Sites, EntryTest, ::testing::Values(machine_run_front, machine_run_behind),
                         [](const auto& info) {
                           return info.param == machine_run_front ? "Front" : "Behind";
                         });

// --- calls from C ---

class CallTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(RewriteFunction(reinterpret_cast<void (*)()>(machine_call)), 1u);
    dispatcher.concerned = kOurs;
  }
};

long Call(long number, long a = 0, long b = 0) { return machine_call(number, a, b, 3, 4, 5, 6); }

TEST_F(CallTest, PassesSixArgumentsAndAResult) {
  dispatcher.call = [](long number, const long* a) -> Answer {
    return {number + a[0] + 10 * a[1] + 100 * a[2] + 1000 * a[3] + 10000 * a[4] + 100000 * a[5], 1};
  };
  EXPECT_EQ(Call(kOurs, 1, 2), kOurs + 654321);
  EXPECT_EQ(Call(SYS_getpid), getpid());
}

std::atomic<int> g_handled_signals{0};

TEST_F(CallTest, AHandlerMayComeAnywhereAndCallAgain) {
  dispatcher.call = [](long, const long* a) -> Answer { return {a[0] ^ a[1], 1}; };
  g_handled_signals = 0;
  struct sigaction action {};
  action.sa_handler = [](int) {
    const int n = g_handled_signals.fetch_add(1);
    // From inside the entry of the interrupted call, as often as not.
    if (Call(kOurs, n, 0x5555) != (n ^ 0x5555) || Call(kTheirs) != -ENOSYS) _exit(1);
  };
  action.sa_flags = SA_RESTART | SA_NODEFER;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 50}, {0, 50}};
  setitimer(ITIMER_REAL, &often, nullptr);
  for (long i = 0; g_handled_signals < 2000 && i < 50'000'000; ++i) {
    ASSERT_EQ(Call(kOurs, i, 77), i ^ 77);
    if (i % 16 == 0) {
      ASSERT_EQ(Call(kTheirs), -ENOSYS);
    }
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  signal(SIGALRM, SIG_DFL);
  EXPECT_GE(g_handled_signals, 2000);
}

TEST_F(CallTest, ACallThatASignalInterruptsIsRestarted) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  struct sigaction action {};
  static int write_end;
  static int count;
  write_end = ends[1];
  count = 0;
  action.sa_handler = [](int) {
    if (++count == 3 && write(write_end, "x", 1) != 1) _exit(1);
  };
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 2000}, {0, 2000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  char byte = 0;
  EXPECT_EQ(machine_call(SYS_read, ends[0], reinterpret_cast<long>(&byte), 1, 0, 0, 0), 1);
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  signal(SIGALRM, SIG_DFL);
  EXPECT_GE(count, 3);
  close(ends[0]);
  close(ends[1]);
}

// The walk that a cancelled thread, an exception or a debugger makes.
std::atomic<bool> g_saw_caller{false};

void LookForCaller(int) {
  void* frames[32];
  const int count = backtrace(frames, 32);
  const auto begin = reinterpret_cast<uintptr_t>(machine_call);
  for (int i = 0; i < count; ++i) {
    const auto frame = reinterpret_cast<uintptr_t>(frames[i]);
    if (frame >= begin && frame - begin < 64 && i + 1 < count) g_saw_caller = true;
  }
}

TEST_F(CallTest, AnUnwinderPassesThroughACallThatSleepsInTheKernel) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  g_saw_caller = false;
  void* warm[2];
  backtrace(warm, 2);
  struct sigaction action {};
  static int write_end;
  static int looks;
  write_end = ends[1];
  looks = 0;
  action.sa_handler = [](int signal) {
    LookForCaller(signal);
    // The first look may be too early.
    if (!g_saw_caller && ++looks < 1000) return;
    if (write(write_end, "x", 1) != 1) _exit(1);
  };
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 2000}, {0, 2000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  char byte = 0;
  EXPECT_EQ(machine_call(SYS_read, ends[0], reinterpret_cast<long>(&byte), 1, 0, 0, 0), 1);
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  signal(SIGALRM, SIG_DFL);
  EXPECT_TRUE(g_saw_caller);
  close(ends[0]);
  close(ends[1]);
}

void ExpectChild(long child) {
  ASSERT_GT(child, 0);
  int status = 0;
  ASSERT_EQ(waitpid(static_cast<pid_t>(child), &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(CallTest, ForkReturnsTwice) {
  const long child = Call(SYS_fork);
  if (child == 0) _exit(7);
  ExpectChild(child);
}

TEST_F(CallTest, VforkReturnsTwiceOnOneStack) {
  ASSERT_EQ(RewriteFunction(reinterpret_cast<void (*)()>(machine_vfork)), 1u);
  for (int i = 0; i < 100; ++i) ExpectChild(machine_vfork(SYS_vfork));
}

long CallSmall(long number, long a = 0, long b = 0) {
  return machine_call_small(number, a, b, 3, 4, 5, 6);
}

class SmallStackTest : public CallTest {
 protected:
  void SetUp() override {
    CallTest::SetUp();
    for (const auto function : {reinterpret_cast<void (*)()>(machine_call_small),
                                reinterpret_cast<void (*)()>(machine_untouched)}) {
      ASSERT_EQ(RewriteFunction(function, userstack_rewrite_entry_small), 1u);
    }
  }
};

// Uses far more stack than a goroutine has.
Answer Deep(long number, const long* a) {
  if ((number & shim::rewrite::kFromSmallStack) == 0) return {-1, 1};
  volatile char room[20000];
  memset(const_cast<char*>(room), 7, sizeof room);
  return {a[0] * 3 + a[1] + room[19999] - 7, 1};
}

TEST_F(SmallStackTest, ACallLeavesTheProgramsStackAlone) {
  dispatcher = {kOurs | shim::rewrite::kFromSmallStack, Deep};
  ASSERT_TRUE(shim::rewrite::MakeThreadStack());
  EXPECT_EQ(machine_untouched(kOurs, 0x1122334455667788), 0);
  EXPECT_EQ(CallSmall(kOurs, 5, 6), 21);
  EXPECT_EQ(machine_untouched(kTheirs, 0x1122334455667788), 0);
  EXPECT_EQ(CallSmall(kTheirs), -ENOSYS);
  EXPECT_EQ(CallSmall(SYS_getpid), getpid());
}

TEST_F(SmallStackTest, AThreadWithoutAStackMakesTheKernelsCall) {
  dispatcher = {kOurs | shim::rewrite::kFromSmallStack, Deep};
  pthread_t thread;
  const auto body = [](void*) -> void* {
    const long before = CallSmall(kOurs, 5, 6);
    shim::rewrite::MakeThreadStack();
    return reinterpret_cast<void*>(before == -ENOSYS ? CallSmall(kOurs, 5, 6) : before);
  };
  pthread_create(&thread, nullptr, body, nullptr);
  void* result = nullptr;
  pthread_join(thread, &result);
  EXPECT_EQ(reinterpret_cast<long>(result), 21);
}

TEST_F(SmallStackTest, HandlersNest) {
  dispatcher = {kOurs | shim::rewrite::kFromSmallStack, Deep};
  ASSERT_TRUE(shim::rewrite::MakeThreadStack());
  static std::atomic<int> handled{0};
  handled = 0;
  struct sigaction action {};
  action.sa_handler = [](int) {
    if (CallSmall(kOurs, ++handled, 1) != handled * 3 + 1) _exit(1);
    if (CallSmall(kTheirs) != -ENOSYS) _exit(1);
  };
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  static char other_stack[1 << 16];
  const stack_t alternate{other_stack, 0, sizeof other_stack};
  sigaltstack(&alternate, nullptr);
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 50}, {0, 50}};
  setitimer(ITIMER_REAL, &often, nullptr);
  for (long i = 0; handled < 2000 && i < 50'000'000; ++i) {
    ASSERT_EQ(CallSmall(kOurs, i, 77), i * 3 + 77);
    if (i % 16 == 0) {
      ASSERT_EQ(CallSmall(kTheirs), -ENOSYS);
    }
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  signal(SIGALRM, SIG_DFL);
  EXPECT_GE(handled, 2000);
  EXPECT_EQ(CallSmall(kOurs, 5, 6), 21) << "everything that was reserved was given back";
}

void* g_frames[32];
int g_frame_count = 0;

TEST_F(CallTest, AnUnwinderSeesWhoMadeTheCall) {
  dispatcher.call = [](long, const long*) -> Answer {
    g_frame_count = backtrace(g_frames, 32);
    return {0, 1};
  };
  Call(kOurs);
  const auto begin = reinterpret_cast<uintptr_t>(&machine_call);
  const bool site = std::any_of(g_frames, g_frames + g_frame_count, [&](void* frame) {
    return reinterpret_cast<uintptr_t>(frame) - begin < 64;
  });
  EXPECT_TRUE(site);
  EXPECT_GT(g_frame_count, 5) << "the frames behind it, down to main";
}

std::atomic<bool> g_cleaned{false};

TEST_F(CallTest, ACancelledThreadUnwindsThroughTheCall) {
  dispatcher.call = [](long, const long*) -> Answer {
    for (;;) pause();
  };
  g_cleaned = false;
  pthread_t thread;
  const auto body = [](void*) -> void* {
    struct Cleaner {
      ~Cleaner() { g_cleaned = true; }
    } const cleaner;
    Call(kOurs);
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  pthread_cancel(thread);
  void* result = nullptr;
  ASSERT_EQ(pthread_join(thread, &result), 0);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  EXPECT_TRUE(g_cleaned);
}

TEST_F(CallTest, ThreadsDoNotDisturbEachOther) {
  dispatcher.call = [](long, const long* a) -> Answer { return {a[0] * 3 + a[1], 1}; };
  std::vector<pthread_t> threads(8);
  static std::atomic<int> wrong{0};
  for (size_t t = 0; t < threads.size(); ++t) {
    const auto body = [](void* seed) -> void* {
      const long base = reinterpret_cast<long>(seed);
      for (long i = 0; i < 100000; ++i) {
        if (Call(kOurs, base + i, i) != (base + i) * 3 + i) ++wrong;
      }
      return nullptr;
    };
    pthread_create(&threads[t], nullptr, body, reinterpret_cast<void*>(t * 1000));
  }
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace userstack::testing
