// Processes for the runtime's tests. A test attaches in processes of its own making, never in the
// one that runs the tests, so that each begins without a stack.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <string>

#include "shim/runtime.h"
#include "tests/shim/fakes.h"

namespace userstack::shim {

inline constexpr int kFailed = 99;

// Runs `body` in a forked process: its result, kFailed when an expectation failed there, or 128 +
// the signal that ended it. Before it ends it lets go of the stack as a program would.
class Child {
 public:
  explicit Child(const std::function<int()>& body);
  ~Child();  // kills it when it still runs
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  int Wait();
  void Kill(int signal) const;

 private:
  pid_t pid_;
  bool waited_ = false;
};

// fork through the runtime, as its hook does.
pid_t ForkAttached();
// Ends a process forked by ForkAttached.
[[noreturn]] void Leave(int code);
int ExitCode(pid_t pid);

// Sets the environment for device `name` (a new one per test) and attaches; aborts when it fails.
void AttachTo(const std::string& name, const std::string& extra = "");
// The same in a process whose pump never looks: what is kept waits for the test's own sessions.
void AttachWithoutPump(const std::string& name);
std::string DeviceName();

// A watch in this thread's own set on a channel; with the lock.
class ChannelWatch {
 public:
  ChannelWatch(Session& session, unsigned channel);
  ~ChannelWatch();
  // Waits until the channel's `arrived` is at least `count`.
  WaitResult Await(uint64_t count, Instant deadline);
  // What was ready is no news any more.
  void Forget() { watch_->ready_node.Unlink(); }

 private:
  Session& session_;
  unsigned channel_;
  Watch* watch_;
};

Instant In(Duration duration);
inline constexpr Duration kPatience = Duration::Seconds(20);

// A descriptor of the stack as the hooks make one: placeholder, description, slot.
int NewSocket();
void CloseSocket(int fd);
uint64_t Destroyed();  // sockets, so far
uint32_t References(int fd);

// Waits until `condition`, which takes the lock by itself, holds.
template <typename Condition>
bool Eventually(Condition condition) {
  const Instant end = In(kPatience);
  while (!condition()) {
    if (MonotonicNow() > end) return false;
    poll(nullptr, 0, 1);
  }
  return true;
}

// What this executable does as another program (--program=NAME ARGUMENTS).
int RunAdopt(char** arguments);

}  // namespace userstack::shim
