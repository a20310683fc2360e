// epoll: level, edge, one-shot; mod, del, dup, close; mixtures with pipes; errors.
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "observe.h"

enum { kPort = 5150 };

static void Level(void) {
  int fd = Connected("a", kPort);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  char buffer[16];
  See("add", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  See("add again", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  EpollSee("idle", epoll, 0);
  EpollSee("idle 30 ms", epoll, 30);
  PeerMust("after 60 text a abc");
  EpollSee("readable", epoll, 5000);
  EpollSee("still readable", epoll, 0);
  Must("read", read(fd, buffer, 2));
  EpollSee("one byte left", epoll, 0);
  Must("read", read(fd, buffer, 2));
  EpollSee("empty", epoll, 0);
  See("mod to OUT", EpollControl(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
  EpollSee("writable", epoll, 0);
  EpollSee("still writable", epoll, 0);
  See("mod to nothing", EpollControl(epoll, EPOLL_CTL_MOD, fd, 0, 3));
  EpollSee("nothing", epoll, 0);
  PeerMust("reset a");
  EpollSee("ERR and HUP are not asked for", epoll, 5000);
  See("del", epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
  See("del again", epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
  See("mod of what is not there", EpollControl(epoll, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
  EpollSee("empty set", epoll, 10);
  close(fd);
  close(epoll);
}

static void Edge(void) {
  int fd = Connected("b", kPort + 1);
  int epoll = epoll_create1(0);
  char buffer[16];
  See("add edge",
      EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1));
  EpollSee("first", epoll, 0);
  EpollSee("no second", epoll, 0);
  PeerMust("text b one");
  EpollSee("new data", epoll, 5000);
  EpollSee("unread, no event", epoll, 20);
  PeerMust("text b two");
  EpollSee("more data", epoll, 5000);
  Must("read", read(fd, buffer, 2));
  EpollSee("partly read, no event", epoll, 0);
  See("mod re-arms", EpollControl(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, 1));
  EpollSee("after mod", epoll, 0);
  EpollSee("and no more", epoll, 0);
  Must("read", read(fd, buffer, sizeof buffer));
  See("empty", read(fd, buffer, 0) == 0 ? recv(fd, buffer, 1, MSG_DONTWAIT) : -1);
  PeerMust("shut b wr");
  EpollSee("half closed", epoll, 5000);
  EpollSee("once", epoll, 20);
  close(fd);
  EpollSee("closed", epoll, 20);
  close(epoll);
}

static void EdgeWritable(void) {
  int fd = Connected("c", kPort + 2);
  SetNonblocking(fd);
  SetInt(fd, SOL_SOCKET, SO_SNDBUF, 100000);
  int epoll = epoll_create1(0);
  EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, 1);
  EpollSee("writable at first", epoll, 0);
  static char data[1 << 20];
  size_t total = 0, before;
  do {
    before = total;
    ssize_t put;
    while ((put = write(fd, data, sizeof data)) > 0) total += (size_t)put;
    usleep(200000);
    struct epoll_event drop;
    epoll_wait(epoll, &drop, 1, 0);
  } while (total > before);
  EpollSee("full", epoll, 0);
  SeeBool("the peer read it all", strtoul(Peer("recv c %zu", total), NULL, 10) == total);
  EpollSee("writable after the peer read", epoll, 5000);
  See("write", write(fd, "x", 1));
  close(fd);
  close(epoll);
}

static void OneShot(void) {
  int fd = Connected("d", kPort + 3);
  int epoll = epoll_create1(0);
  char buffer[16];
  See("add one-shot", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 1));
  PeerMust("text d one");
  EpollSee("first", epoll, 5000);
  EpollSee("disarmed", epoll, 20);
  PeerMust("text d two");
  EpollSee("still disarmed", epoll, 50);
  See("mod", EpollControl(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 2));
  EpollSee("armed again", epoll, 0);
  Must("read", read(fd, buffer, sizeof buffer));
  PeerMust("close d");
  EpollSee("disarmed for HUP too", epoll, 50);
  See("mod", EpollControl(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, 3));
  EpollSee("the end", epoll, 5000);
  close(fd);
  close(epoll);
}

static void DupAndClose(void) {
  int fd = Connected("e", kPort + 4);
  int copy = dup(fd);
  int epoll = epoll_create1(0);
  See("add", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  See("add the copy", EpollControl(epoll, EPOLL_CTL_ADD, copy, EPOLLIN, 2));
  PeerMust("text e x");
  Await(fd, POLLIN);
  EpollSee("both", epoll, 5000);
  close(fd);
  EpollSee("one closed, the description lives", epoll, 0);
  See("del by the closed number", epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
  close(copy);
  EpollSee("both closed", epoll, 20);
  int again = Connected("f", kPort + 5);
  See("the number is free for another", EpollControl(epoll, EPOLL_CTL_ADD, again, EPOLLOUT, 3));
  EpollSee("the new one", epoll, 0);
  int epoll_copy = dup(epoll);
  EpollSee("through a copy of the epoll", epoll_copy, 0);
  See("del through the copy", epoll_ctl(epoll_copy, EPOLL_CTL_DEL, again, NULL));
  EpollSee("gone in both", epoll, 0);
  close(again);
  close(epoll);
  EpollSee("the copy lives", epoll_copy, 0);
  close(epoll_copy);
}

static void Mixture(void) {
  int fd = Connected("g", kPort + 6);
  int pipes[2];
  Must("pipe", pipe(pipes));
  int event = eventfd(0, 0);
  int timer = timerfd_create(CLOCK_MONOTONIC, 0);
  int epoll = epoll_create1(0);
  EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
  EpollControl(epoll, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 2);
  EpollControl(epoll, EPOLL_CTL_ADD, event, EPOLLIN, 3);
  EpollControl(epoll, EPOLL_CTL_ADD, timer, EPOLLIN, 4);
  EpollSee("idle", epoll, 0);
  struct itimerspec when = {.it_value = {0, 50000000}};
  timerfd_settime(timer, 0, &when, NULL);
  EpollSee("the timer", epoll, 5000);
  when.it_value.tv_nsec = 0;
  timerfd_settime(timer, 0, &when, NULL);
  uint64_t one = 1;
  Must("write", write(event, &one, 8));
  EpollSee("the eventfd", epoll, 5000);
  Must("write", write(pipes[1], "p", 1));
  EpollSee("and the pipe", epoll, 5000);
  PeerMust("text g s");
  Await(fd, POLLIN);
  EpollSee("and the socket", epoll, 5000);
  char buffer[16];
  Must("read", read(event, buffer, 8));
  Must("read", read(pipes[0], buffer, 8));
  EpollSee("only the socket", epoll, 5000);
  Must("read", read(fd, buffer, 8));
  PeerMust("after 60 text g t");
  EpollSee("the socket wakes", epoll, -1);
  PeerMust("wait");
  struct epoll_event single;
  Must("write", write(event, &one, 8));
  See("at most one", epoll_wait(epoll, &single, 1, 0));
  struct timespec none = {0, 0};
  struct epoll_event several[4];
  See("epoll_pwait2", epoll_pwait2(epoll, several, 4, &none, NULL));
  See("epoll_pwait", epoll_pwait(epoll, several, 4, 0, NULL));
  // epoll itself can be polled.
  PollOne("poll the epoll", epoll, POLLIN, 0);
  Must("read", read(event, buffer, 8));
  Must("read", read(fd, buffer, 8));
  PollOne("poll the idle epoll", epoll, POLLIN, 0);
  close(fd);
  close(epoll);
}

static void Errors(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  int epoll = epoll_create(5);
  struct epoll_event event;
  See("epoll_create 0", epoll_create(0));
  See("epoll_create1 bad flags", epoll_create1(0x1234));
  See("add a bad number", EpollControl(epoll, EPOLL_CTL_ADD, 4444, EPOLLIN, 1));
  See("add to a bad number", EpollControl(4444, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  See("add to a socket", EpollControl(fd, EPOLL_CTL_ADD, epoll, EPOLLIN, 1));
  See("add the epoll to itself", EpollControl(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN, 1));
  See("bad operation", EpollControl(epoll, 77, fd, EPOLLIN, 1));
  int file = open("/etc/passwd", O_RDONLY);
  See("add a regular file", EpollControl(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 1));
  See("wait for 0 events", epoll_wait(epoll, &event, 0, 0));
  volatile int minus_one = -1;
  See("wait for -1 events", epoll_wait(epoll, &event, minus_one, 0));
  See("wait on a socket", epoll_wait(fd, &event, 1, 0));
  See("wait on a bad number", epoll_wait(4444, &event, 1, 0));
  See("add", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  EpollSee("a fresh socket", epoll, 0);
  close(file);
  close(fd);
  close(epoll);
}

int main(void) {
  Level();
  Edge();
  EdgeWritable();
  OneShot();
  DupAndClose();
  Mixture();
  Errors();
  return 0;
}
