// Many connections at once: `load_client ADDRESS PORT COUNT ROUNDS HOLD`. Opens COUNT connections
// (at most 500 at a time in the making), keeps all of them, sends each its own 64 bytes in every
// round and wants the same bytes back, waits HOLD milliseconds between rounds, closes. Prints what
// was lost.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMessage = 64, kEvents = 256, kMaking = 500, kPatience = 20000 };

struct Connection {
  int fd;
  int made, failed;
  int got;
  char back[kMessage];
};

static struct Connection* all;
static int count, epoll;
static long lost, wrong;

static void Message(char* out, int index, int round) {
  char text[2 * kMessage];
  snprintf(text, sizeof text, "connection %08d round %08d %30d", index, round, index * 31 + round);
  memcpy(out, text, kMessage);
}

static void Fail(int index, const char* what, int error) {
  struct Connection* connection = &all[index];
  if (connection->failed) return;
  connection->failed = 1;
  if (++lost <= 5) fprintf(stderr, "connection %d: %s: %s\n", index, what, strerror(error));
  epoll_ctl(epoll, EPOLL_CTL_DEL, connection->fd, NULL);
}

static void Start(int index, const struct sockaddr_in* name) {
  struct Connection* connection = &all[index];
  connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (unsigned)index};
  if (connection->fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) != 0) {
    Fail(index, "socket", errno);
  } else if (connect(connection->fd, (const struct sockaddr*)name, sizeof *name) != 0 &&
             errno != EINPROGRESS) {
    Fail(index, "connect", errno);
  }
}

static int Made(int index) {
  struct Connection* connection = &all[index];
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    Fail(index, "connect", error);
    return 0;
  }
  connection->made = 1;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
  epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event);
  return 1;
}

static void ConnectAll(const struct sockaddr_in* name) {
  struct epoll_event events[kEvents];
  int started = 0, settled = 0;
  while (settled < count) {
    while (started < count && started - settled < kMaking) {
      Start(started, name);
      settled += all[started++].failed;
    }
    int ready = epoll_wait(epoll, events, kEvents, kPatience);
    if (ready == 0) {
      fprintf(stderr, "%d of %d settled, no more in %d ms\n", settled, count, kPatience);
      for (int i = 0; i < started; ++i) {
        if (!all[i].made) Fail(i, "connect", ETIMEDOUT);
      }
      lost += count - started;
      return;
    }
    for (int i = 0; i < ready; ++i) {
      int index = (int)events[i].data.u32;
      if (!all[index].made && !all[index].failed) {
        Made(index);
        ++settled;
      }
    }
  }
}

static int Read(int index, int round) {
  struct Connection* connection = &all[index];
  ssize_t got = recv(connection->fd, connection->back + connection->got,
                     (size_t)(kMessage - connection->got), 0);
  if (got < 0 && errno == EAGAIN) return 0;
  if (got <= 0) {
    Fail(index, "recv", got == 0 ? ECONNABORTED : errno);
    return 1;
  }
  connection->got += (int)got;
  if (connection->got < kMessage) return 0;
  char wanted[kMessage];
  Message(wanted, index, round);
  if (memcmp(wanted, connection->back, kMessage) != 0) ++wrong;
  return 1;
}

static void Round(int round) {
  struct epoll_event events[kEvents];
  int waiting = 0;
  for (int i = 0; i < count; ++i) {
    char text[kMessage];
    if (all[i].failed || !all[i].made) continue;
    Message(text, i, round);
    all[i].got = 0;
    if (send(all[i].fd, text, kMessage, MSG_NOSIGNAL) != kMessage) {
      Fail(i, "send", errno);
    } else {
      ++waiting;
    }
  }
  while (waiting > 0) {
    int ready = epoll_wait(epoll, events, kEvents, kPatience);
    if (ready == 0) {
      for (int i = 0; i < count; ++i) {
        if (!all[i].failed && all[i].got < kMessage) Fail(i, "no answer", ETIMEDOUT);
      }
      return;
    }
    for (int i = 0; i < ready; ++i) waiting -= Read((int)events[i].data.u32, round);
  }
}

int main(int argc, char** argv) {
  if (argc != 6) return 64;
  count = atoi(argv[3]);
  all = calloc((size_t)count, sizeof *all);
  struct rlimit limit = {65536, 65536};
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &name.sin_addr);
  epoll = epoll_create1(0);
  ConnectAll(&name);
  for (int round = 0; round < atoi(argv[4]); ++round) {
    Round(round);
    usleep((useconds_t)atoi(argv[5]) * 1000);
  }
  for (int i = 0; i < count; ++i) {
    if (all[i].fd > 0) close(all[i].fd);
  }
  printf("connections %d lost %ld wrong %ld\n", count, lost, wrong);
  return lost == 0 && wrong == 0 ? 0 : 1;
}
