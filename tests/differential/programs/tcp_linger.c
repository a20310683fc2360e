// SO_LINGER, exit with unsent data, close in every state.
#include <sys/resource.h>
#include <sys/time.h>

#include "observe.h"

enum { kPort = 5060 };

static void SetLinger(int fd, int on, int seconds) {
  struct linger linger = {on, seconds};
  Must("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}

// How often this thread has gone to sleep.
static long Sleeps(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

static void Zero(void) {
  int fd = Connected("a", kPort);
  SetLinger(fd, 1, 0);
  See("write", write(fd, "lost or not", 11));
  usleep(50000);
  See("close", close(fd));
  SeePeer("drain a");
}

static void Waits(void) {
  int fd = Connected("b", kPort + 1);
  SetLinger(fd, 1, 5);
  See("write", write(fd, "kept", 4));
  int64_t start = Milliseconds();
  See("close", close(fd));
  SeeBool("close was short", Milliseconds() - start < 1000);
  SeePeer("drain b");

  // The peer does not read: close waits for the time-out.
  fd = Connected("c", kPort + 2);
  PeerMust("small_buffer c");
  SetNonblocking(fd);
  static char data[4 << 20];
  size_t sent = 0;
  for (int i = 0; i < 3; ++i) {
    ssize_t put;
    while ((put = write(fd, data, sizeof data)) > 0) sent += (size_t)put;
    usleep(50000);
  }
  fcntl(fd, F_SETFL, 0);
  SetLinger(fd, 1, 1);
  start = Milliseconds();
  long sleeps = Sleeps();
  See("close with unread data at the peer", close(fd));
  SeeBool("it slept instead of looking again and again", Sleeps() - sleeps < 50);
  SeeBool("it waited", Milliseconds() - start >= 900);
  const char* answer = Peer("drain c");
  SeeBool("the peer got all", strtoul(answer, NULL, 10) == sent);
}

static void NonblockingLinger(void) {
  int fd = Connected("d", kPort + 3);
  PeerMust("small_buffer d");
  SetNonblocking(fd);
  static char data[4 << 20];
  ssize_t sent = write(fd, data, sizeof data);
  SetLinger(fd, 1, 1);
  See("close", close(fd));
  const char* answer = Peer("drain d");
  SeeBool("the peer got all", (ssize_t)strtoul(answer, NULL, 10) == sent);
}

static void ExitUnsent(void) {
  for (int way = 0; way < 4; ++way) {
    char name[8];
    snprintf(name, sizeof name, "e%d", way);
    PeerMust("listen l %s %d", PEER4, kPort + 4 + way);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      int fd = Socket(AF_INET, SOCK_STREAM);
      if (Connect(fd, PEER4, kPort + 4 + way) != 0) _exit(1);
      SetNonblocking(fd);
      static char data[8 << 20];
      Fill(data, sizeof data, 0, 1);
      ssize_t sent = write(fd, data, 2 << 20);
      if (sent <= 0) _exit(2);
      if (way == 0) exit(0);
      if (way == 1) _exit(0);
      if (way == 2) syscall(SYS_exit_group, 0);
      close(fd);
      exit(0);
    }
    PeerMust("accept l %s", name);
    int status = -1;
    waitpid(child, &status, 0);
    See("child", status);
    const char* answer = Peer("drain %s", name);
    SeeBool("the peer got data", strtoul(answer, NULL, 10) > 1000);
    Note("it ended with: %s", strstr(answer, "then") ? strstr(answer, "then") + 5 : answer);
    PeerMust("close l");
  }
}

static void Killed(void) {
  PeerMust("listen l %s %d", PEER4, kPort + 9);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int fd = Socket(AF_INET, SOCK_STREAM);
    if (Connect(fd, PEER4, kPort + 9) != 0) _exit(1);
    if (write(fd, "hello", 5) != 5) _exit(2);
    pause();
  }
  PeerMust("accept l f");
  SeePeer("recv f 5");
  kill(child, SIGKILL);
  int status = -1;
  waitpid(child, &status, 0);
  SeeBool("killed", WIFSIGNALED(status));
  SeePeer("drain f");
}

static void Connecting(void) {
  int fd = Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  SeeOk("connect to nowhere", Connect(fd, "10.78.0.1", 9));
  See("close while connecting", close(fd));
  See("close again", close(fd));
}

// Nothing is unsent: close waits for the FIN to be acknowledged, and no longer.
static void WaitsForFin(void) {
  int fd = Connected("g", kPort + 10);
  SetLinger(fd, 1, 5);
  See("write", write(fd, "all", 3));
  SeePeer("recv g 3");
  usleep(100000);
  int64_t start = Milliseconds();
  See("close with nothing unsent", close(fd));
  SeeBool("close was short", Milliseconds() - start < 1000);
  SeePeer("drain g");
}

static void OnSignal(int signal) { (void)signal; }

// A handler ends the wait, and close() does not say so.
static void Interrupted(void) {
  int fd = Connected("h", kPort + 11);
  PeerMust("small_buffer h");
  SetNonblocking(fd);
  static char data[4 << 20];
  while (write(fd, data, sizeof data) > 0) usleep(50000);
  SetLinger(fd, 1, 10);
  struct sigaction action = {.sa_handler = OnSignal, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  struct itimerval timer = {{0, 0}, {0, 200000}};
  setitimer(ITIMER_REAL, &timer, NULL);
  int64_t start = Milliseconds();
  See("close that a signal interrupts", close(fd));
  SeeBool("it ended early", Milliseconds() - start < 5000);
  Peer("drain h");
}

int main(void) {
  Zero();
  Waits();
  WaitsForFin();
  Interrupted();
  NonblockingLinger();
  ExitUnsent();
  Killed();
  Connecting();
  return 0;
}
