// TCP connect: success, refusal, time-out, non-blocking with poll and epoll, and what a socket says
// before and after.
#include "observe.h"

enum { kPort = 5000 };

static void Refused(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  SeeOk("connect to a closed port", Connect(fd, PEER4, kPort + 1));
  SeeSocketError("after a blocking refusal", fd);
  PollOne("poll after refusal", fd, POLLIN | POLLOUT, 0);
  char byte;
  See("read after refusal", read(fd, &byte, 1));
  SeeOk("connect again to a closed port", Connect(fd, PEER4, kPort + 1));
  PeerMust("listen again %s %d", PEER4, kPort + 1);
  SeeOk("connect again, now open", Connect(fd, PEER4, kPort + 1));
  close(fd);
  PeerMust("close again");
}

static void Success(void) {
  PeerMust("listen l %s %d", PEER4, kPort);
  int fd = Socket(AF_INET, SOCK_STREAM);
  PollOne("poll a fresh socket", fd, POLLIN | POLLOUT, 0);
  char byte = 'x';
  See("read before connect", read(fd, &byte, 1));
  SeeOk("connect", Connect(fd, PEER4, kPort));
  SeeOk("connect when connected", Connect(fd, PEER4, kPort));
  SeeSocketError("connected", fd);
  PollOne("poll when connected", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  See("listen when connected", listen(fd, 5));
  See("accept when connected", accept(fd, NULL, NULL));
  See("bind when connected", Bind(fd, SELF4, 0));
  PeerMust("accept l c");
  See("write", write(fd, "hello", 5));
  SeePeer("recv c 5");
  PeerMust("text c world");
  char buffer[16];
  SeeData("read", buffer, read(fd, buffer, sizeof buffer));
  close(fd);
  SeePeer("drain c");
  PeerMust("close l");
}

static void NonblockingSuccess(void) {
  PeerMust("listen l2 %s %d", PEER4, kPort + 2);
  int fd = Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  int epoll = epoll_create1(0);
  See("epoll_ctl add", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 7));
  EpollSee("epoll_wait before connect", epoll, 0);
  SeeOk("non-blocking connect", Connect(fd, PEER4, kPort + 2));
  PollOne("poll for OUT", fd, POLLOUT, 5000);
  SeeSocketError("after success", fd);
  EpollSee("epoll_wait after connect", epoll, 5000);
  SeeOk("connect once more", Connect(fd, PEER4, kPort + 2));
  char byte;
  See("read with nothing there", read(fd, &byte, 1));
  close(fd);
  close(epoll);
  PeerMust("close l2");
}

static void NonblockingRefused(void) {
  int fd = Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  int epoll = epoll_create1(0);
  SeeOk("non-blocking connect to a closed port", Connect(fd, PEER4, kPort + 3));
  See("epoll_ctl add", EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 8));
  Await(fd, POLLERR);
  PollOne("poll after refusal", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  EpollSee("epoll_wait after refusal", epoll, 5000);
  SeeSocketError("refused", fd);
  SeeSocketError("read again", fd);
  PollOne("poll with the error taken", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  char byte;
  See("read", read(fd, &byte, 1));
  See("write", send(fd, "x", 1, MSG_NOSIGNAL));
  close(fd);
  close(epoll);
}

static void TimesOut(void) {
  // 10.78.0.1 lies behind the gateway, which does not forward: the SYN is never answered.
  int fd = Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  SeeOk("non-blocking connect to nowhere", Connect(fd, "10.78.0.1", kPort));
  SeeOk("connect again meanwhile", Connect(fd, "10.78.0.1", kPort));
  PollOne("poll meanwhile", fd, POLLIN | POLLOUT, 50);
  SeeSocketError("meanwhile", fd);
  char byte;
  See("read meanwhile", read(fd, &byte, 1));
  See("write meanwhile", write(fd, "x", 1));
  See("shutdown meanwhile", shutdown(fd, SHUT_RDWR));
  PollOne("poll after shutdown", fd, POLLIN | POLLOUT, 0);
  close(fd);

  fd = Socket(AF_INET, SOCK_STREAM);
  struct timeval limit = {.tv_usec = 100000};
  See("SO_SNDTIMEO", setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
  int64_t start = Milliseconds();
  SeeOk("blocking connect with SO_SNDTIMEO", Connect(fd, "10.78.0.1", kPort));
  SeeBool("it waited", Milliseconds() - start >= 90);
  SeeOk("and again", Connect(fd, "10.78.0.1", kPort));
  close(fd);

  fd = Socket(AF_INET, SOCK_STREAM);
  See("TCP_SYNCNT", SetInt(fd, IPPROTO_TCP, TCP_SYNCNT, 1));
  SeeOk("connect with one retry", Connect(fd, "10.78.0.1", kPort));
  SeeSocketError("after the time-out", fd);
  close(fd);
}

int main(void) {
  Refused();
  Success();
  NonblockingSuccess();
  NonblockingRefused();
  TimesOut();
  return 0;
}
