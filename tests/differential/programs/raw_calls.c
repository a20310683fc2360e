// Raw system calls through syscall(2).
#include "observe.h"

enum { kPort = 5310 };

static void Function(void) {
  PeerMust("listen l %s %d", PEER4, kPort);
  char buffer[32];
  int fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  See("socket", fd);
  struct sockaddr_storage name;
  socklen_t length = Address(&name, PEER4, kPort);
  See("connect", syscall(SYS_connect, fd, &name, length));
  PeerMust("accept l a");
  See("write", syscall(SYS_write, fd, "raw write", 9));
  SeePeer("recv a 9");
  See("sendto", syscall(SYS_sendto, fd, "raw sendto", 10, 0, NULL, 0));
  SeePeer("recv a 10");
  PeerMust("text a raw read");
  SeeData("read", buffer, syscall(SYS_read, fd, buffer, sizeof buffer));
  PeerMust("text a raw recv");
  SeeData("recvfrom", buffer, syscall(SYS_recvfrom, fd, buffer, sizeof buffer, 0, NULL, NULL));
  struct iovec part = {"vector", 6};
  See("writev", syscall(SYS_writev, fd, &part, 1));
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  See("sendmsg", syscall(SYS_sendmsg, fd, &message, 0));
  SeePeer("recv a 12");
  int value = -1;
  length = sizeof value;
  See("getsockopt", syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &value, &length));
  Note("type %d", value);
  value = 1;
  See("setsockopt", syscall(SYS_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
  length = sizeof name;
  long result = syscall(SYS_getpeername, fd, &name, &length);
  SeeAddress("getpeername", &name, result, length, true);
  int copy = (int)syscall(SYS_dup, fd);
  See("dup", copy);
  See("fcntl", syscall(SYS_fcntl, copy, F_SETFL, O_NONBLOCK));
  See("read when empty", syscall(SYS_read, copy, buffer, 1));
  int epoll = (int)syscall(SYS_epoll_create1, 0);
  struct epoll_event event = {.events = EPOLLOUT, .data.u64 = 5};
  See("epoll_ctl", syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &event));
  See("epoll_wait", syscall(SYS_epoll_wait, epoll, &event, 1, 0));
  Note("data %d", (int)event.data.u64);
  struct pollfd entry = {fd, POLLIN | POLLOUT, 0};
  See("poll", syscall(SYS_poll, &entry, 1, 0));
  See("shutdown", syscall(SYS_shutdown, fd, SHUT_WR));
  SeePeer("drain a");
  See("close", syscall(SYS_close, fd));
  See("close", syscall(SYS_close, copy));
  See("close", syscall(SYS_close, copy));
  See("getpid agrees", syscall(SYS_getpid) == getpid());
  See("an unknown call", syscall(9999));
  close(epoll);
  PeerMust("close l");
}

int main(void) {
  Function();
  return 0;
}
