// Bad arguments to every call, on sockets and on what is none: EBADF, ENOTSOCK, EINVAL, EOPNOTSUPP,
// EAFNOSUPPORT, EFAULT.
#include <sys/un.h>

#include "observe.h"

enum { kPort = 5320 };

static void Create(void) {
  static const int kCases[][3] = {{AF_INET, SOCK_STREAM, 0},
                                  {AF_INET, SOCK_STREAM, IPPROTO_TCP},
                                  {AF_INET, SOCK_STREAM, IPPROTO_UDP},
                                  {AF_INET, SOCK_DGRAM, IPPROTO_UDP},
                                  {AF_INET, SOCK_DGRAM, IPPROTO_TCP},
                                  {AF_INET, SOCK_STREAM, 999},
                                  {AF_INET, SOCK_SEQPACKET, 0},
                                  {AF_INET, SOCK_RDM, 0},
                                  {AF_INET, 77, 0},
                                  {AF_INET, 0, 0},
                                  {AF_INET, -1, 0},
                                  {AF_INET, SOCK_STREAM, -1},
                                  {AF_INET6, SOCK_STREAM, IPPROTO_UDP},
                                  {AF_INET6, SOCK_SEQPACKET, 0},
                                  {AF_INET, SOCK_RAW, 0},
                                  {AF_INET, SOCK_RAW, IPPROTO_ICMP},
                                  {AF_INET6, SOCK_RAW, IPPROTO_ICMPV6},
                                  {AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
                                  {0, SOCK_STREAM, 0},
                                  {99, SOCK_STREAM, 0},
                                  {-1, SOCK_STREAM, 0},
                                  {AF_UNIX, SOCK_STREAM, 0},
                                  {AF_INET, SOCK_STREAM | 0x100000, 0}};
  char label[48];
  for (size_t i = 0; i < sizeof kCases / sizeof kCases[0]; ++i) {
    snprintf(label, sizeof label, "socket(%d, %#x, %d)", kCases[i][0], (unsigned)kCases[i][1],
             kCases[i][2]);
    int fd = socket(kCases[i][0], kCases[i][1], kCases[i][2]);
    SeeOk(label, fd);
    if (fd >= 0) close(fd);
  }
  int pair[2];
  See("socketpair of AF_INET", socketpair(AF_INET, SOCK_STREAM, 0, pair));
  See("socketpair of AF_UNIX", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  char buffer[4];
  See("a pair works", write(pair[0], "ok", 2));
  SeeData("both ways", buffer, read(pair[1], buffer, 4));
  close(pair[0]);
  close(pair[1]);
}

static void EveryCall(const char* kind, int fd) {
  char label[64];
  char buffer[8] = "";
  struct sockaddr_storage name;
  socklen_t length = Address(&name, PEER4, 9);
  struct iovec part = {buffer, 4};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  struct mmsghdr many = {.msg_hdr = message};
  int value = 0;
  socklen_t value_length = sizeof value;
  struct {
    const char* name;
    long result;
    int error;
  } results[24];
  size_t count = 0;
  errno = 0;
#define CALL(text, expression)            \
  do {                                    \
    errno = 0;                            \
    results[count].name = text;           \
    results[count].result = (expression); \
    results[count++].error = errno;       \
  } while (0)
  CALL("bind", bind(fd, (struct sockaddr*)&name, length));
  CALL("connect", connect(fd, (struct sockaddr*)&name, length));
  CALL("listen", listen(fd, 1));
  CALL("accept", accept(fd, NULL, NULL));
  CALL("accept4", accept4(fd, NULL, NULL, SOCK_CLOEXEC));
  CALL("getsockname", getsockname(fd, (struct sockaddr*)&name, &length));
  CALL("getpeername", getpeername(fd, (struct sockaddr*)&name, &length));
  CALL("getsockopt", getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &value_length));
  CALL("setsockopt", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
  CALL("send", send(fd, "x", 1, MSG_NOSIGNAL));
  CALL("sendto", sendto(fd, "x", 1, MSG_NOSIGNAL, NULL, 0));
  CALL("sendmsg", sendmsg(fd, &message, MSG_NOSIGNAL));
  CALL("sendmmsg", sendmmsg(fd, &many, 1, MSG_NOSIGNAL));
  CALL("recv", recv(fd, buffer, 1, MSG_DONTWAIT));
  CALL("recvfrom", recvfrom(fd, buffer, 1, MSG_DONTWAIT, NULL, NULL));
  CALL("recvmsg", recvmsg(fd, &message, MSG_DONTWAIT));
  CALL("recvmmsg", recvmmsg(fd, &many, 1, MSG_DONTWAIT, NULL));
  CALL("shutdown", shutdown(fd, SHUT_RDWR));
#undef CALL
  for (size_t i = 0; i < count; ++i) {
    snprintf(label, sizeof label, "%s: %s", kind, results[i].name);
    errno = results[i].error;
    See(label, results[i].result);
  }
}

static void Others(void) {
  int pipes[2];
  Must("pipe", pipe(pipes));
  int file = open("/dev/null", O_RDWR);
  int epoll = epoll_create1(0);
  EveryCall("bad number", 4444);
  EveryCall("-1", -1);
  EveryCall("pipe", pipes[0]);
  EveryCall("file", file);
  EveryCall("epoll", epoll);
  close(pipes[0]);
  close(pipes[1]);
  close(file);
  close(epoll);
}

static void Faults(void) {
  int fd = Connected("a", kPort);
  int on = 1;
  socklen_t length = sizeof on;
  char* volatile nowhere = (char*)8;
  struct sockaddr_storage name;
  See("connect NULL", ({
        int fresh = Socket(AF_INET, SOCK_STREAM);
        int result = connect(fresh, NULL, 16);
        close(fresh);
        result;
      }));
  See("bind bad pointer", ({
        int fresh = Socket(AF_INET, SOCK_STREAM);
        int result = bind(fresh, (struct sockaddr*)nowhere, 16);
        close(fresh);
        result;
      }));
  See("setsockopt bad pointer", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, nowhere, 4));
  See("getsockopt bad length pointer",
      getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, (socklen_t*)nowhere));
  See("getsockopt bad value pointer", getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, nowhere, &length));
  See("getsockname NULL length", getsockname(fd, (struct sockaddr*)&name, (socklen_t*)nowhere));
  See("write bad pointer", write(fd, nowhere, 10));
  See("send bad pointer", send(fd, nowhere, 10, 0));
  PeerMust("text a 0123456789");
  Await(fd, POLLIN);
  See("read bad pointer", read(fd, nowhere, 10));
  char buffer[16];
  SeeData("the data is still there", buffer, recv(fd, buffer, sizeof buffer, MSG_DONTWAIT));
  See("writev bad array", writev(fd, (struct iovec*)nowhere, 1));
  struct iovec part = {nowhere, 4};
  See("writev bad part", writev(fd, &part, 1));
  See("sendmsg bad header", sendmsg(fd, (struct msghdr*)nowhere, 0));
  See("poll bad pointer", poll((struct pollfd*)nowhere, 1, 0));
  int epoll = epoll_create1(0);
  EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, 1);
  See("epoll_wait bad pointer", epoll_wait(epoll, (struct epoll_event*)nowhere, 1, 0));
  See("epoll_ctl NULL event", epoll_ctl(epoll, EPOLL_CTL_MOD, fd, NULL));
  close(epoll);
  close(fd);
}

static void Flags(void) {
  int fd = Connected("b", kPort + 1);
  char buffer[8];
  struct sockaddr_storage name;
  socklen_t length = Address(&name, PEER4, kPort);
  See("sendto with an address on a connection",
      sendto(fd, "x", 1, 0, (struct sockaddr*)&name, length));
  SeePeer("recv b 1");
  See("recv ERRQUEUE", recv(fd, buffer, 1, MSG_ERRQUEUE));
  See("zero-length send", send(fd, "", 0, 0));
  See("zero-length write", write(fd, "", 0));
  See("zero-length read", read(fd, buffer, 0));
  See("ioctl unknown", ioctl(fd, 0xabcd, buffer));
  See("fcntl unknown", fcntl(fd, 9999, 0));
  See("F_SETFL O_APPEND", fcntl(fd, F_SETFL, O_APPEND));
  SeeBool("O_APPEND stays", (fcntl(fd, F_GETFL) & O_APPEND) != 0);
  See("connect short", connect(fd, (struct sockaddr*)&name, 3));
  close(fd);
  fd = Socket(AF_INET, SOCK_STREAM);
  struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};
  See("connect to AF_UNIX", connect(fd, (struct sockaddr*)&local, sizeof local));
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  See("connect AF_UNSPEC on a fresh one", connect(fd, &none, sizeof none));
  See("connect length 1", connect(fd, &none, 1));
  See("connect length 200", connect(fd, &none, 200));
  See("connect to port 0", Connect(fd, PEER4, 0));
  See("sendto an address unconnected",
      sendto(fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr*)&name, length));
  close(fd);
  // AF_UNSPEC takes a connection apart.
  fd = Connected("c", kPort + 2);
  See("connect AF_UNSPEC on a connection", connect(fd, &none, sizeof none));
  SeePeer("drain c");
  See("read after it", read(fd, buffer, 1));
  PeerMust("listen d %s %d", PEER4, kPort + 3);
  SeeOk("connect again", Connect(fd, PEER4, kPort + 3));
  close(fd);
}

int main(void) {
  Create();
  Others();
  Faults();
  Flags();
  return 0;
}
