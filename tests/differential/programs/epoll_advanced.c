// epoll: nested, exclusive, many threads, many events, listeners, changes while someone waits.
#include <pthread.h>
#include <stdatomic.h>

#include "observe.h"

enum { kPort = 5160 };

static void Nested(void) {
  int fd = Connected("a", kPort);
  int inner = epoll_create1(0), outer = epoll_create1(0);
  char buffer[8];
  See("add inner", EpollControl(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  See("add outer", EpollControl(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2));
  See("a loop", EpollControl(inner, EPOLL_CTL_ADD, outer, EPOLLIN, 3));
  EpollSee("idle", outer, 0);
  PeerMust("after 60 text a x");
  EpollSee("outer", outer, 5000);
  PeerMust("wait");
  EpollSee("inner", inner, 0);
  Must("read", read(fd, buffer, 8));
  EpollSee("outer idle", outer, 0);
  int third = epoll_create1(0);
  See("three deep", EpollControl(third, EPOLL_CTL_ADD, outer, EPOLLIN, 4));
  PeerMust("text a y");
  Await(fd, POLLIN);
  EpollSee("third", third, 5000);
  PollOne("poll the third", third, POLLIN, 0);
  Must("read", read(fd, buffer, 8));
  See("outer edge", EpollControl(outer, EPOLL_CTL_MOD, inner, EPOLLIN | EPOLLET, 5));
  PeerMust("text a z");
  EpollSee("edge over level", outer, 5000);
  EpollSee("once", outer, 20);
  close(third);
  close(outer);
  close(inner);
  close(fd);
}

static atomic_int woken;
static int shared_epoll;
static void* WaitOnce(void* unused) {
  (void)unused;
  struct epoll_event event;
  if (epoll_wait(shared_epoll, &event, 1, 1000) == 1) atomic_fetch_add(&woken, 1);
  return NULL;
}

static void EdgeThreads(void) {
  // One edge wakes one of four waiters.
  int fd = Connected("b", kPort + 1);
  shared_epoll = epoll_create1(0);
  EpollControl(shared_epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, WaitOnce, NULL);
  usleep(100000);
  PeerMust("text b one");
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  Note("one edge woke: %d", (int)woken);
  woken = 0;
  PeerMust("text b two");
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, WaitOnce, NULL);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  Note("one pending edge woke: %d", (int)woken);
  close(fd);
  close(shared_epoll);
}

static int private_epolls[4];
static void* WaitPrivate(void* argument) {
  struct epoll_event event;
  if (epoll_wait(private_epolls[(intptr_t)argument], &event, 1, 1000) == 1)
    atomic_fetch_add(&woken, 1);
  return NULL;
}

static void Exclusive(void) {
  int listener = Listener(SELF4, kPort + 2, 16);
  SetNonblocking(listener);
  pthread_t threads[4];
  woken = 0;
  for (int i = 0; i < 4; ++i) {
    private_epolls[i] = epoll_create1(0);
    Must("add",
         EpollControl(private_epolls[i], EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE, 1));
    pthread_create(&threads[i], NULL, WaitPrivate, (void*)(intptr_t)i);
  }
  usleep(100000);
  PeerMust("connect c %s %d", SELF4, kPort + 2);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  SeeBool("exclusive woke some but not all", woken >= 1 && woken < 4);
  See("mod of an exclusive one",
      EpollControl(private_epolls[0], EPOLL_CTL_MOD, listener, EPOLLIN, 1));
  See("exclusive and one-shot", EpollControl(private_epolls[0], EPOLL_CTL_ADD, 0,
                                             EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
  SeeOk("accept", accept(listener, NULL, NULL));
  for (int i = 0; i < 4; ++i) close(private_epolls[i]);
  close(listener);
}

static void* AddLater(void* argument) {
  usleep(80000);
  Must("add", EpollControl(shared_epoll, EPOLL_CTL_ADD, *(int*)argument, EPOLLOUT, 9));
  return NULL;
}

static void* CloseLater(void* argument) {
  usleep(80000);
  close(*(int*)argument);
  return NULL;
}

static void WhileWaiting(void) {
  int fd = Connected("d", kPort + 3);
  shared_epoll = epoll_create1(0);
  pthread_t thread;
  pthread_create(&thread, NULL, AddLater, &fd);
  EpollSee("added while waiting", shared_epoll, 5000);
  pthread_join(thread, NULL);
  EpollControl(shared_epoll, EPOLL_CTL_MOD, fd, EPOLLIN, 1);
  pthread_create(&thread, NULL, CloseLater, &fd);
  EpollSee("closed while waiting", shared_epoll, 300);
  pthread_join(thread, NULL);
  SeePeer("drain d");
  close(shared_epoll);
}

enum { kMany = 100 };

static void ManyEvents(void) {
  int listener = Listener(SELF4, kPort + 4, kMany);
  int epoll = epoll_create1(0);
  int fds[kMany];
  PeerMust("connect_many m %d %s %d", kMany, SELF4, kPort + 4);
  for (int i = 0; i < kMany; ++i) {
    fds[i] = (int)Must("accept", accept(listener, NULL, NULL));
    Must("add", EpollControl(epoll, EPOLL_CTL_ADD, fds[i], EPOLLIN, (uint64_t)i));
  }
  for (int i = 0; i < kMany; ++i) PeerMust("text m%d %d", i, i);
  for (int i = 0; i < kMany; ++i) Await(fds[i], POLLIN);
  // Level events rotate: 10 at a time, everyone comes within kMany / 10 calls.
  bool seen[kMany] = {false};
  int distinct = 0;
  for (int round = 0; round < kMany / 10; ++round) {
    struct epoll_event events[10];
    int count = epoll_wait(epoll, events, 10, 0);
    for (int i = 0; i < count; ++i) {
      if (!seen[events[i].data.u64]) ++distinct;
      seen[events[i].data.u64] = true;
    }
  }
  Note("distinct in %d calls: %d", kMany / 10, distinct);
  static struct epoll_event all[200];
  See("all at once", epoll_wait(epoll, all, 200, 0));
  for (int i = 0; i < kMany; i += 2) close(fds[i]);
  See("half of them closed", epoll_wait(epoll, all, 200, 0));
  for (int i = 1; i < kMany; i += 2) close(fds[i]);
  See("all closed", epoll_wait(epoll, all, 200, 0));
  close(epoll);
  close(listener);
}

static int worker_epoll;
static atomic_int worker_bytes;
static void* Worker(void* unused) {
  (void)unused;
  for (;;) {
    struct epoll_event event;
    if (epoll_wait(worker_epoll, &event, 1, 2000) != 1) return NULL;
    if (event.data.u64 == 1000) return NULL;  // the level-triggered pipe ends everyone
    char buffer[512];
    ssize_t got;
    while ((got = recv((int)event.data.u64, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
      atomic_fetch_add(&worker_bytes, (int)got);
    }
    EpollControl(worker_epoll, EPOLL_CTL_MOD, (int)event.data.u64, EPOLLIN | EPOLLONESHOT,
                 event.data.u64);
  }
}

static void Workers(void) {
  enum { kConnections = 8, kBytes = 100000 };
  int listener = Listener(SELF4, kPort + 5, 16);
  worker_epoll = epoll_create1(0);
  PeerMust("connect_many w %d %s %d", kConnections, SELF4, kPort + 5);
  for (int i = 0; i < kConnections; ++i) {
    int fd = (int)Must("accept", accept(listener, NULL, NULL));
    EpollControl(worker_epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, (uint64_t)fd);
  }
  int pipes[2];
  Must("pipe", pipe(pipes));
  EpollControl(worker_epoll, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 1000);
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, Worker, NULL);
  for (int i = 0; i < kConnections; ++i) PeerMust("after 0 send w%d %d 1", i, kBytes);
  PeerMust("wait");
  for (int i = 0; i < 500 && worker_bytes < kConnections * kBytes; ++i) usleep(10000);
  Must("write", write(pipes[1], "x", 1));
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  Note("four workers read: %d", (int)worker_bytes);
  close(listener);
  close(worker_epoll);
}

int main(void) {
  Nested();
  EdgeThreads();
  Exclusive();
  WhileWaiting();
  ManyEvents();
  Workers();
  return 0;
}
