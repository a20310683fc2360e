// poll, ppoll, select, pselect over mixtures of pipes, files and sockets.
#include <pthread.h>
#include <sys/select.h>

#include "observe.h"

enum { kPort = 5140 };

static void SeePoll(const char* what, struct pollfd* set, int count, int timeout) {
  int result = poll(set, (nfds_t)count, timeout);
  See(what, result);
  for (int i = 0; i < count; ++i) {
    char label[32];
    snprintf(label, sizeof label, "  entry %d", i);
    SeeBits(label, 0, (uint32_t)(unsigned short)set[i].revents);
  }
}

static volatile sig_atomic_t handled;
static void OnSignal(int number) {
  (void)number;
  ++handled;
}

static void Polls(int fd, int* pipes) {
  struct pollfd set[6] = {{fd, POLLIN | POLLOUT, 0}, {pipes[0], POLLIN, 0}, {pipes[1], POLLOUT, 0},
                          {-1, POLLIN, 0x55},        {4444, POLLIN, 0},     {fd, POLLIN, 0}};
  SeePoll("mixture", set, 6, 0);
  struct pollfd two[2] = {{fd, POLLIN, 0}, {pipes[0], POLLIN, 0}};
  SeePoll("nothing ready", two, 2, 0);
  SeePoll("nothing ready in 50 ms", two, 2, 50);
  PeerMust("after 80 text a x");
  SeePoll("the socket first", two, 2, 5000);
  PeerMust("wait");
  char buffer[16];
  Must("read", read(fd, buffer, sizeof buffer));
  pid_t child = fork();
  if (child == 0) {
    usleep(80000);
    _exit(write(pipes[1], "p", 1) == 1 ? 0 : 1);
  }
  SeePoll("the pipe first", two, 2, 5000);
  waitpid(child, NULL, 0);
  PeerMust("text a y");
  Await(fd, POLLIN);
  SeePoll("both", two, 2, 5000);
  SeePoll("both, endless", two, 2, -1);
  See("poll of nothing", poll(NULL, 0, 10));
  struct pollfd none = {fd, 0, 0};
  SeePoll("no events asked", &none, 1, 0);
  struct pollfd twice[2] = {{fd, POLLIN, 0}, {fd, POLLOUT, 0}};
  SeePoll("the same twice", twice, 2, 0);
  Must("read", read(fd, buffer, sizeof buffer));
  Must("read", read(pipes[0], buffer, sizeof buffer));
}

static void Masks(int fd) {
  struct sigaction action = {.sa_handler = OnSignal};
  sigaction(SIGUSR1, &action, NULL);
  sigset_t block, open;
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  sigemptyset(&open);
  sigprocmask(SIG_BLOCK, &block, NULL);
  raise(SIGUSR1);
  Note("handled: %d", (int)handled);
  struct pollfd entry = {fd, POLLIN, 0};
  struct timespec second = {1, 0}, bad = {0, -1}, zero = {0, 0};
  See("ppoll that lets the signal in", ppoll(&entry, 1, &second, &open));
  Note("handled: %d", (int)handled);
  See("ppoll without", ppoll(&entry, 1, &zero, NULL));
  See("ppoll with a bad time", ppoll(&entry, 1, &bad, NULL));
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  raise(SIGUSR1);
  See("pselect that lets the signal in", pselect(fd + 1, &set, NULL, NULL, &second, &open));
  Note("handled: %d", (int)handled);
  FD_SET(fd, &set);
  struct timespec short_time = {0, 20000000};
  See("pselect times out", pselect(fd + 1, &set, NULL, NULL, &short_time, NULL));
  SeeBool("its set is empty", !FD_ISSET(fd, &set));
  Note("its time is untouched: %ld %ld", (long)short_time.tv_sec, short_time.tv_nsec);
  sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void Selects(int fd, int* pipes) {
  fd_set in, out, except;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_ZERO(&except);
  FD_SET(fd, &in);
  FD_SET(fd, &out);
  FD_SET(fd, &except);
  FD_SET(pipes[0], &in);
  FD_SET(pipes[1], &out);
  struct timeval limit = {0, 50000};
  int top = (pipes[1] > fd ? pipes[1] : fd) + 1;
  See("select", select(top, &in, &out, &except, &limit));
  Note("in %d %d out %d %d except %d", FD_ISSET(fd, &in), FD_ISSET(pipes[0], &in),
       FD_ISSET(fd, &out), FD_ISSET(pipes[1], &out), FD_ISSET(fd, &except));
  FD_SET(fd, &in);
  FD_SET(pipes[0], &in);
  limit = (struct timeval){0, 50000};
  See("select, nothing", select(top, &in, NULL, NULL, &limit));
  Note("time left: %ld %ld", (long)limit.tv_sec, (long)limit.tv_usec);
  FD_SET(fd, &in);
  FD_SET(pipes[0], &in);
  PeerMust("after 80 text a s");
  See("select, the socket", select(top, &in, NULL, NULL, NULL));
  PeerMust("wait");
  Note("in %d %d", FD_ISSET(fd, &in), FD_ISSET(pipes[0], &in));
  FD_SET(50, &in);
  limit = (struct timeval){0, 0};
  See("select with a closed descriptor", select(51, &in, NULL, NULL, &limit));
  limit = (struct timeval){-1, 0};
  See("select with a negative time", select(top, NULL, NULL, NULL, &limit));
  limit = (struct timeval){0, 1000};
  See("select of nothing", select(0, NULL, NULL, NULL, &limit));
  See("select of -1", select(-1, NULL, NULL, NULL, &limit));
  // A peer that went away: readable, writable, no exception.
  PeerMust("reset a");
  Await(fd, POLLERR);
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_ZERO(&except);
  FD_SET(fd, &in);
  FD_SET(fd, &out);
  FD_SET(fd, &except);
  limit = (struct timeval){1, 0};
  See("select after a reset", select(fd + 1, &in, &out, &except, &limit));
  Note("in %d out %d except %d", FD_ISSET(fd, &in), FD_ISSET(fd, &out), FD_ISSET(fd, &except));
}

static void* CloseLater(void* argument) {
  usleep(80000);
  shutdown(*(int*)argument, SHUT_RDWR);
  return NULL;
}

static void OtherThread(void) {
  int fd = Connected("b", kPort + 1);
  pthread_t thread;
  pthread_create(&thread, NULL, CloseLater, &fd);
  char byte;
  See("read while another thread shuts down", read(fd, &byte, 1));
  pthread_join(thread, NULL);
  close(fd);
  fd = Connected("c", kPort + 2);
  pthread_create(&thread, NULL, CloseLater, &fd);
  PollOne("poll while another thread shuts down", fd, POLLIN | POLLRDHUP, 5000);
  pthread_join(thread, NULL);
  close(fd);
  int listener = Listener(SELF4, kPort + 3, 4);
  pthread_create(&thread, NULL, CloseLater, &listener);
  See("accept while another thread shuts down", accept(listener, NULL, NULL));
  pthread_join(thread, NULL);
  close(listener);
}

int main(void) {
  int pipes[2];
  Must("pipe", pipe(pipes));
  int fd = Connected("a", kPort);
  Polls(fd, pipes);
  Masks(fd);
  Selects(fd, pipes);
  OtherThread();
  return 0;
}
