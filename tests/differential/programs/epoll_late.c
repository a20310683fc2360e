// epoll: instances that were made, slept on, duplicated or nested before the first socket was added;
// sockets that were registered before their destination made them the kernel's.
#include <pthread.h>
#include <stdatomic.h>

#include "observe.h"

enum { kPort = 5620, kSleepers = 3 };

static atomic_int woken;

static void* Sleep(void* epoll) {
  struct epoll_event event;
  long count = epoll_wait(*(int*)epoll, &event, 1, 5000);
  if (count == 1 && event.data.u64 == 2) atomic_fetch_add(&woken, 1);
  return NULL;
}

static void Sleepers(void) {
  int epoll = epoll_create1(0), pipes[2];
  Must("pipe", pipe(pipes));
  Must("add", EpollControl(epoll, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 1));
  pthread_t threads[kSleepers];
  for (int i = 0; i < kSleepers; ++i) pthread_create(&threads[i], NULL, Sleep, &epoll);
  usleep(100000);
  int fd = Connected("a", kPort);
  See("add under sleepers", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 2));
  usleep(100000);
  Note("awake for nothing: %d", atomic_load(&woken));
  PeerMust("text a x");
  for (int i = 0; i < kSleepers; ++i) pthread_join(threads[i], NULL);
  Note("woken: %d", atomic_load(&woken));
  EpollSee("after them", epoll, 0);
  char buffer[8];
  Must("read", read(fd, buffer, 8));
  EpollSee("nothing is left behind", epoll, 100);
  Must("write", write(pipes[1], "k", 1));
  EpollSee("the pipe", epoll, 5000);
  close(pipes[0]);
  close(pipes[1]);
  close(epoll);
  close(fd);
}

static void Relations(void) {
  int inner = epoll_create1(0), outer = epoll_create1(0);
  int copy = dup(inner);
  Must("nest", EpollControl(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 7));
  int fd = Connected("b", kPort + 1);
  See("add", EpollControl(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 8));
  See("add by the copy", EpollControl(copy, EPOLL_CTL_ADD, fd, EPOLLIN, 8));
  EpollSee("outer, idle", outer, 0);
  PeerMust("after 60 text b y");
  EpollSee("outer", outer, 5000);
  PeerMust("wait");
  EpollSee("inner", inner, 0);
  EpollSee("copy", copy, 0);
  PollOne("poll inner", inner, POLLIN, 0);
  See("delete by the copy", EpollControl(copy, EPOLL_CTL_DEL, fd, 0, 0));
  EpollSee("outer, empty", outer, 0);
  close(copy);
  close(outer);
  close(inner);
  close(fd);
}

static void BecomesLocal(void) {
  int listener = Listener("127.0.0.1", kPort + 2, 4);
  int fd = Socket(AF_INET, SOCK_STREAM);
  SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetInt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetNonblocking(fd);
  int epoll = epoll_create1(0);
  See("add", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 9));
  int copy = dup(fd);
  See("connect", Connect(fd, "127.0.0.1", kPort + 2));
  int accepted = (int)Must("accept", accept(listener, NULL, NULL));
  EpollSee("idle", epoll, 0);
  Must("write", write(accepted, "local", 5));
  EpollSee("readable", epoll, 5000);
  char buffer[8];
  SeeData("by the copy", buffer, read(copy, buffer, 8));
  int value = 0;
  socklen_t length = sizeof value;
  getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length);
  Note("TCP_NODELAY %d", value != 0);
  getsockopt(copy, SOL_SOCKET, SO_KEEPALIVE, &value, &length);
  Note("SO_KEEPALIVE %d", value != 0);
  SeeBool("non-blocking", (fcntl(copy, F_GETFL) & O_NONBLOCK) != 0);
  close(copy);
  close(fd);
  close(accepted);
  close(listener);
  close(epoll);
}

int main(void) {
  Sleepers();
  Relations();
  BecomesLocal();
  return 0;
}
