// Urgent data: MSG_OOB both ways, SIGURG, POLLPRI, SIOCATMARK, SO_OOBINLINE.
#include <sys/select.h>

#include "observe.h"

enum { kPort = 5100 };

static volatile sig_atomic_t urgent;
static void OnUrgent(int number) {
  (void)number;
  ++urgent;
}

static void AtMark(const char* what, int fd) {
  int at = -1;
  int result = ioctl(fd, SIOCATMARK, &at);
  if (result < 0) {
    Note("%s: -1 %s", what, ErrnoName(errno));
  } else {
    Note("%s: %d sockatmark %d", what, at, sockatmark(fd));
  }
}

int main(void) {
  int fd = Connected("a", kPort);
  char buffer[32];
  signal(SIGURG, OnUrgent);
  See("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
  SeeBool("F_GETOWN", fcntl(fd, F_GETOWN) == getpid());
  See("recv OOB on nothing", recv(fd, buffer, 1, MSG_OOB));
  AtMark("mark on nothing", fd);

  PeerMust("text a abc");
  PeerMust("oob a X");
  Await(fd, POLLPRI);
  Note("SIGURG: %d", (int)urgent);
  PollOne("poll", fd, POLLIN | POLLPRI | POLLRDBAND, 0);
  fd_set except;
  FD_ZERO(&except);
  FD_SET(fd, &except);
  struct timeval now = {0, 0};
  See("select except", select(fd + 1, NULL, NULL, &except, &now));
  AtMark("mark before", fd);
  SeeData("peek OOB", buffer, recv(fd, buffer, 1, MSG_OOB | MSG_PEEK));
  SeeData("recv OOB", buffer, recv(fd, buffer, sizeof buffer, MSG_OOB));
  See("recv OOB again", recv(fd, buffer, 1, MSG_OOB));
  PollOne("poll after OOB was read", fd, POLLIN | POLLPRI, 0);
  PeerMust("text a def");
  usleep(50000);
  SeeData("read stops at the mark", buffer, read(fd, buffer, sizeof buffer));
  AtMark("at the mark", fd);
  SeeData("read on", buffer, read(fd, buffer, sizeof buffer));
  AtMark("past the mark", fd);

  See("SO_OOBINLINE", SetInt(fd, SOL_SOCKET, SO_OOBINLINE, 1));
  PeerMust("text a gh");
  PeerMust("oob a Y");
  Await(fd, POLLPRI);
  See("recv OOB when inline", recv(fd, buffer, 1, MSG_OOB));
  SeeData("read to the mark", buffer, read(fd, buffer, sizeof buffer));
  AtMark("inline mark", fd);
  SeeData("read the urgent byte", buffer, read(fd, buffer, sizeof buffer));

  See("send OOB", send(fd, "123Z", 4, MSG_OOB));
  SeePeer("recv_oob a");
  SeePeer("recv a 3");
  See("send OOB of nothing", send(fd, "", 0, MSG_OOB));
  close(fd);
  int udp = Socket(AF_INET, SOCK_DGRAM);
  Must("bind", Bind(udp, SELF4, kPort));
  Must("connect", Connect(udp, PEER4, kPort));
  See("send OOB on UDP", send(udp, "x", 1, MSG_OOB));
  See("recv OOB on UDP", recv(udp, buffer, 1, MSG_OOB | MSG_DONTWAIT));
  close(udp);
  return 0;
}
