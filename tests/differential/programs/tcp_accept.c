// TCP listen and accept: what is inherited, what accept4 sets, who is told when, and the errors.
#include "observe.h"

enum { kPort = 5010 };

static void AcceptErrors(void) {
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  int fd = Socket(AF_INET, SOCK_STREAM);
  See("accept on a fresh socket", accept(fd, NULL, NULL));
  See("accept4 with bad flags", accept4(fd, NULL, NULL, 0x5a5a5a));
  See("listen without bind", listen(fd, 1));
  See("getsockname of it", getsockname(fd, (struct sockaddr*)&name, &length));
  SeeAddress("its name", &name, 0, length, false);
  PollOne("poll it", fd, POLLIN | POLLOUT, 0);
  close(fd);
  int udp = Socket(AF_INET, SOCK_DGRAM);
  See("listen on UDP", listen(udp, 1));
  See("accept on UDP", accept(udp, NULL, NULL));
  close(udp);
  int pipes[2];
  Must("pipe", pipe(pipes));
  See("accept on a pipe", accept(pipes[0], NULL, NULL));
  See("listen on a pipe", listen(pipes[0], 1));
  See("accept on a bad number", accept(4444, NULL, NULL));
  close(pipes[0]);
  close(pipes[1]);
}

static void Blocking(void) {
  int listener = Listener(SELF4, kPort, 16);
  See("listen again", listen(listener, 8));
  See("connect on a listener", Connect(listener, PEER4, kPort));
  char byte;
  See("read from a listener", read(listener, &byte, 1));
  See("write to a listener", send(listener, "x", 1, MSG_NOSIGNAL));
  PollOne("poll an idle listener", listener, POLLIN | POLLOUT, 0);
  PeerMust("after 100 connect a %s %d", SELF4, kPort);
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  int fd = accept(listener, (struct sockaddr*)&name, &length);
  SeeAddress("blocking accept", &name, fd, length, false);
  PeerMust("wait");
  See("its flags", fcntl(fd, F_GETFL) & O_NONBLOCK);
  See("its descriptor flags", fcntl(fd, F_GETFD));
  close(fd);
  SeePeer("drain a");

  PeerMust("connect b %s %d", SELF4, kPort);
  PollOne("poll a listener with a connection", listener, POLLIN | POLLOUT, 5000);
  fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  SeeBool("accept4 non-blocking", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  See("accept4 close-on-exec", fcntl(fd, F_GETFD));
  See("read when empty", read(fd, &byte, 1));
  close(fd);
  PeerMust("close b");

  SetNonblocking(listener);
  See("non-blocking accept", accept(listener, NULL, NULL));
  PeerMust("connect c %s %d", SELF4, kPort);
  Await(listener, POLLIN);
  fd = accept(listener, NULL, NULL);
  See("O_NONBLOCK is not inherited", fcntl(fd, F_GETFL) & O_NONBLOCK);
  close(fd);
  PeerMust("close c");
  close(listener);
  SeePeer("connect d %s %d", SELF4, kPort);
}

static void Inherited(void) {
  int listener = Socket(AF_INET, SOCK_STREAM);
  SetInt(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  SetInt(listener, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetInt(listener, SOL_SOCKET, SO_RCVBUF, 20000);
  SetInt(listener, SOL_SOCKET, SO_OOBINLINE, 1);
  SetInt(listener, IPPROTO_TCP, TCP_NODELAY, 1);
  SetInt(listener, IPPROTO_TCP, TCP_KEEPIDLE, 77);
  SetInt(listener, IPPROTO_IP, IP_TOS, 0x10);
  SetInt(listener, IPPROTO_IP, IP_TTL, 33);
  struct linger linger = {1, 5};
  setsockopt(listener, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  struct timeval limit = {.tv_usec = 80000};
  setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  Must("bind", Bind(listener, SELF4, kPort + 1));
  Must("listen", listen(listener, 4));
  See("accept with SO_RCVTIMEO", accept(listener, NULL, NULL));
  int fd = Accepted(listener, "e", kPort + 1);
  static const struct {
    int level, option;
    const char* name;
  } kOptions[] = {{SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"},
                  {SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE"},
                  {SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"},
                  {SOL_SOCKET, SO_OOBINLINE, "SO_OOBINLINE"},
                  {SOL_SOCKET, SO_ACCEPTCONN, "SO_ACCEPTCONN"},
                  {IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY"},
                  {IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE"},
                  {IPPROTO_IP, IP_TOS, "IP_TOS"},
                  {IPPROTO_IP, IP_TTL, "IP_TTL"}};
  for (size_t i = 0; i < sizeof kOptions / sizeof kOptions[0]; ++i) {
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(fd, kOptions[i].level, kOptions[i].option, &value, &length);
    Note("inherited %s: %d", kOptions[i].name, value);
  }
  socklen_t length = sizeof linger;
  getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length);
  Note("inherited SO_LINGER: %d %d", linger.l_onoff, linger.l_linger);
  char byte;
  See("inherited SO_RCVTIMEO", read(fd, &byte, 1));
  See("SO_ACCEPTCONN of the listener", ({
        int value = -1;
        socklen_t size = sizeof value;
        getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &value, &size);
        value;
      }));
  close(fd);
  close(listener);
}

static void GoneBeforeAccept(void) {
  int listener = Listener(SELF4, kPort + 2, 8);
  PeerMust("connect f %s %d", SELF4, kPort + 2);
  Await(listener, POLLIN);
  PeerMust("text f bye");
  PeerMust("close f");
  usleep(100000);
  int fd = accept(listener, NULL, NULL);
  SeeOk("accept after the peer closed", fd);
  char buffer[8];
  SeeData("its data", buffer, read(fd, buffer, sizeof buffer));
  See("its end", read(fd, buffer, sizeof buffer));
  close(fd);
  PeerMust("connect g %s %d", SELF4, kPort + 2);
  Await(listener, POLLIN);
  PeerMust("reset g");
  usleep(100000);
  PollOne("poll after the peer reset", listener, POLLIN, 0);
  fd = accept(listener, NULL, NULL);
  SeeOk("accept after the peer reset", fd);
  See("read from it", read(fd, buffer, sizeof buffer));
  SeeSocketError("after the read", fd);
  close(fd);
  // Closing a listener resets what nobody accepted.
  PeerMust("connect h %s %d", SELF4, kPort + 2);
  Await(listener, POLLIN);
  close(listener);
  SeePeer("drain h");
}

int main(void) {
  AcceptErrors();
  Blocking();
  Inherited();
  GoneBeforeAccept();
  return 0;
}
