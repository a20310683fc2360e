// fork: parent and child share a listener, a connection, a datagram socket, an epoll.
#include "observe.h"

enum { kPort = 5280 };

static int Wait(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void SharedConnection(void) {
  int fd = Connected("a", kPort);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    char buffer[8] = "";
    if (read(fd, buffer, 5) != 5 || memcmp(buffer, "first", 5) != 0) _exit(1);
    if (write(fd, "from child;", 11) != 11) _exit(2);
    _exit(0);
  }
  PeerMust("text a first");
  See("child", Wait(child));
  SeePeer("recv a 11");
  See("the parent still has it", write(fd, "from parent", 11));
  SeePeer("recv a 11");
  // The end comes with the last close only.
  child = fork();
  if (child == 0) {
    usleep(150000);
    _exit(write(fd, "last", 4) == 4 ? 0 : 1);
  }
  close(fd);
  SeePeer("drain a");
  See("child", Wait(child));
}

static void CloseInChild(void) {
  int fd = Connected("b", kPort + 1);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    close(fd);
    _exit(0);
  }
  See("child closed", Wait(child));
  See("parent writes", write(fd, "open", 4));
  SeePeer("recv b 4");
  child = fork();
  if (child == 0) {
    shutdown(fd, SHUT_WR);
    _exit(0);
  }
  See("child shut down", Wait(child));
  See("parent cannot write", send(fd, "x", 1, MSG_NOSIGNAL));
  SeePeer("drain b");
  close(fd);
}

static void Prefork(void) {
  enum { kWorkers = 3, kClients = 12 };
  int listener = Listener(SELF4, kPort + 2, 32);
  pid_t workers[kWorkers];
  fflush(stdout);
  for (int i = 0; i < kWorkers; ++i) {
    workers[i] = fork();
    if (workers[i] == 0) {
      for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) _exit(1);
        char buffer[64];
        ssize_t got;
        while ((got = read(fd, buffer, sizeof buffer)) > 0) {
          if (memcmp(buffer, "quit", 4) == 0) _exit(0);
          if (write(fd, buffer, (size_t)got) != got) _exit(2);
        }
        close(fd);
      }
    }
  }
  for (int i = 0; i < kClients; ++i) {
    PeerMust("connect p %s %d", SELF4, kPort + 2);
    PeerMust("text p client %d", i);
    SeePeer("recv p %d", i < 10 ? 8 : 9);
    PeerMust("close p");
  }
  for (int i = 0; i < kWorkers; ++i) {
    PeerMust("connect q%d %s %d", i, SELF4, kPort + 2);
    PeerMust("text q%d quit", i);
    SeePeer("drain q%d", i);
  }
  for (int i = 0; i < kWorkers; ++i) See("worker", Wait(workers[i]));
  close(listener);
  SeePeer("connect r %s %d", SELF4, kPort + 2);
}

static void SharedEpoll(void) {
  int fd = Connected("c", kPort + 3);
  int epoll = epoll_create1(0);
  Must("add", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    struct epoll_event event;
    if (epoll_wait(epoll, &event, 1, 5000) != 1 || event.data.u64 != 1) _exit(1);
    char buffer[8];
    if (read(fd, buffer, 8) != 4) _exit(2);
    int pipes[2];
    if (pipe(pipes) != 0 || EpollControl(epoll, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 2) != 0) _exit(3);
    _exit(0);
  }
  PeerMust("after 80 text c wake");
  See("the child woke by the parent's epoll", Wait(child));
  PeerMust("wait");
  EpollSee("it read everything", epoll, 0);
  PeerMust("text c more");
  EpollSee("the parent's turn", epoll, 5000);
  child = fork();
  if (child == 0) {
    int mine = epoll_create1(0);
    EpollControl(mine, EPOLL_CTL_ADD, fd, EPOLLIN, 3);
    struct epoll_event event;
    _exit(epoll_wait(mine, &event, 1, 5000) == 1 && event.data.u64 == 3 ? 0 : 1);
  }
  See("an epoll of the child's own", Wait(child));
  close(epoll);
  close(fd);
}

static void Datagrams(void) {
  int fd = Socket(AF_INET, SOCK_DGRAM);
  Must("bind", Bind(fd, SELF4, kPort + 4));
  PeerMust("udp u %s %d", PEER4, kPort + 4);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    char buffer[16];
    _exit(recv(fd, buffer, sizeof buffer, 0) == 5 ? 0 : 1);
  }
  PeerMust("after 80 sendto u %s %d child", SELF4, kPort + 4);
  See("the child received", Wait(child));
  char buffer[16];
  See("only the child", recv(fd, buffer, sizeof buffer, MSG_DONTWAIT));
  close(fd);
}

static void NewInChild(void) {
  // A child that makes its own sockets, and a grandchild; the parent had none open.
  PeerMust("listen n %s %d", PEER4, kPort + 5);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    pid_t grandchild = fork();
    if (grandchild == 0) {
      int fd = Socket(AF_INET, SOCK_STREAM);
      if (Connect(fd, PEER4, kPort + 5) != 0) _exit(1);
      _exit(write(fd, "grandchild", 10) == 10 ? 0 : 2);
    }
    _exit(Wait(grandchild));
  }
  PeerMust("accept n o");
  SeePeer("drain o");
  See("child", Wait(child));
  PeerMust("close n");
  // vfork and posix_spawn-like children leave the sockets alone.
  int fd = Connected("v", kPort + 6);
  child = vfork();
  if (child == 0) _exit(5);
  See("vfork", Wait(child));
  See("write after vfork", write(fd, "ok", 2));
  SeePeer("recv v 2");
  See("system", system("exit 3") >> 8);
  See("write after system", write(fd, "ok", 2));
  SeePeer("recv v 2");
  close(fd);
}

int main(void) {
  SharedConnection();
  CloseInChild();
  Prefork();
  SharedEpoll();
  Datagrams();
  NewInChild();
  return 0;
}
