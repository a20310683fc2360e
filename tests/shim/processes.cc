// See processes.h.
#include "tests/shim/processes.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "shim/descriptors.h"
#include "shim/internal.h"

namespace userstack::shim {

Child::Child(const std::function<int()>& body) : pid_(fork()) {
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int code = body();
  Leave(testing::Test::HasFailure() ? kFailed : code);
}

Child::~Child() {
  if (waited_) return;
  Kill(SIGKILL);
  Wait();
}

int Child::Wait() {
  waited_ = true;
  return ExitCode(pid_);
}

void Child::Kill(int signal) const { kill(pid_, signal); }

int ExitCode(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

pid_t ForkAttached() {
  PrepareFork();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ForkInChild();
  } else {
    ForkInParent(pid);
  }
  return pid;
}

void Leave(int code) {
  ProcessExit();
  fflush(nullptr);
  _exit(code);
}

std::string DeviceName() {
  static int number = 0;
  return "t" + std::to_string(getpid()) + "." + std::to_string(++number);
}

// What its first turns send would come between what a test sends.
static void AwaitIdlePump() {
  for (int i = 0; i < 5000; ++i) {
    PumpState state;
    {
      const Session session;
      state = CurrentShared().pump_state;
    }
    if (state == PumpState::kParked || state == PumpState::kAttending) return;
    usleep(1000);
  }
  fprintf(stderr, "the pump does not come to rest\n");
  _exit(kFailed);
}

static void Configure(const std::string& name, const std::string& extra) {
  setenv("USERSTACK_DEV", ("tap:" + name).c_str(), 1);
  setenv("USERSTACK_MEMORY", "1G", 1);
  setenv("USERSTACK_SPIN_US", "0", 0);  // so that threads really sleep
  if (!extra.empty()) setenv("USERSTACK_ADDR", extra.c_str(), 1);
}

void AttachTo(const std::string& name, const std::string& extra) {
  Configure(name, extra);
  if (Attach() == 0) return AwaitIdlePump();
  fprintf(stderr, "cannot attach\n");
  _exit(kFailed);
}

void AttachWithoutPump(const std::string& name) {
  g_local.pump_started = true;
  Configure(name, "");
  if (Attach() != 0) _exit(kFailed);
}

ChannelWatch::ChannelWatch(Session& session, unsigned channel)
    : session_(session), channel_(channel), watch_(CurrentShared().watches.New()) {
  watch_->target = &Fake().channels[channel].pollable;
  watch_->set = &CurrentSleeper().own_set;
  watch_->interest = kEventIn;
  watch_->flags = kWatchEdge;
  userstack::Attach(*watch_, session.core().wakes);
}

ChannelWatch::~ChannelWatch() {
  Detach(*watch_, session_.core().wakes);
  CurrentShared().watches.Delete(watch_);
}

WaitResult ChannelWatch::Await(uint64_t count, Instant deadline) {
  while (Fake().channels[channel_].arrived < count) {
    watch_->ready_node.Unlink();
    WaitRequest request;
    request.set = watch_->set;
    request.deadline = deadline;
    const WaitResult result = shim::Wait(session_, request);
    if (session_.failed() || result == WaitResult::kTimedOut ||
        result == WaitResult::kInterrupted) {
      return result;
    }
  }
  return WaitResult::kStackReady;
}

Instant In(Duration duration) { return MonotonicNow() + duration; }

int NewSocket() {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct stat status;
  EXPECT_EQ(fstat(fd, &status), 0);
  Session session;
  Socket* made = *session.stack().CreateSocket(AF_INET, SOCK_STREAM, 0);
  Install(CurrentProcess(), fd, NewDescription(made, status.st_ino));
  return fd;
}

void CloseSocket(int fd) {
  Session session;
  Remove(CurrentProcess(), fd, session.now());
  close(fd);
}

uint64_t Destroyed() {
  Session session;
  return Fake().destroyed;
}

uint32_t References(int fd) {
  Session session;
  return Lookup(fd)->references;
}

}  // namespace userstack::shim
