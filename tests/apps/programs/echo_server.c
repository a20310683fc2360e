// An echo server on epoll: `echo_server ADDRESS PORT WORKERS`. With WORKERS > 0 it listens, forks
// them, and starts a new one for each that dies, until it is told to end; each accepts for itself.
// Level-triggered; a connection that cannot be written to waits for EPOLLOUT. On SIGTERM it prints
// how many connections it took and lost.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kBuffer = 4096, kEvents = 256 };

struct Connection {
  size_t length, sent;
  char data[kBuffer];
};

static struct Connection* connections[65536];
static long taken, ended, errors;
static volatile sig_atomic_t stop;

static void OnStop(int number) {
  (void)number;
  stop = 1;
}

static void Drop(int fd, int failed) {
  free(connections[fd]);
  connections[fd] = NULL;
  close(fd);
  ++ended;
  errors += failed;
}

static void Want(int epoll, int fd, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
}

static void Accept(int epoll, int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
        perror("accept4");
        ++errors;
      }
      return;
    }
    ++taken;
    connections[fd] = calloc(1, sizeof(struct Connection));
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) perror("epoll_ctl");
  }
}

static void Serve(int epoll, int fd) {
  struct Connection* connection = connections[fd];
  if (connection == NULL) return;
  for (;;) {
    while (connection->sent < connection->length) {
      ssize_t put = send(fd, connection->data + connection->sent,
                         connection->length - connection->sent, MSG_NOSIGNAL);
      if (put < 0) {
        if (errno == EAGAIN) return Want(epoll, fd, EPOLLOUT);
        return Drop(fd, 1);
      }
      connection->sent += (size_t)put;
    }
    ssize_t got = recv(fd, connection->data, kBuffer, 0);
    if (got == 0) return Drop(fd, 0);
    if (got < 0) {
      if (errno == EAGAIN) return Want(epoll, fd, EPOLLIN);
      return Drop(fd, 1);
    }
    connection->length = (size_t)got;
    connection->sent = 0;
  }
}

static int Loop(int listener) {
  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[kEvents];
  if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) {
    perror("epoll");
    return 1;
  }
  while (!stop) {
    int count = epoll_wait(epoll, events, kEvents, -1);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == listener) {
        Accept(epoll, listener);
      } else {
        Serve(epoll, events[i].data.fd);
      }
    }
  }
  printf("taken %ld ended %ld errors %ld\n", taken, ended, errors);
  return errors == 0 ? 0 : 2;
}

static pid_t StartWorker(int listener) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) exit(Loop(listener));
  return child;
}

static int Supervise(int listener, int workers) {
  pid_t children[64];
  for (int i = 0; i < workers; ++i) children[i] = StartWorker(listener);
  while (!stop) {
    int status;
    pid_t gone = wait(&status);
    for (int i = 0; i < workers && !stop; ++i) {
      if (children[i] == gone) children[i] = StartWorker(listener);
    }
  }
  for (int i = 0; i < workers; ++i) kill(children[i], SIGTERM);
  while (wait(NULL) > 0) {
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  struct rlimit limit = {65536, 65536};
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  struct sigaction action = {.sa_handler = OnStop};
  sigaction(SIGTERM, &action, NULL);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &name.sin_addr);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (listener < 0 || bind(listener, (struct sockaddr*)&name, sizeof name) != 0 ||
      listen(listener, 16384) != 0) {
    perror("listen");
    return 1;
  }
  int workers = atoi(argv[3]);
  return workers > 0 ? Supervise(listener, workers) : Loop(listener);
}
