// Sockets through the FORTIFY entry points, as distributions compile their programs.
// flags: -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
#include <sys/select.h>

#include "observe.h"

enum { kPort = 5300 };

static volatile size_t opaque;  // sizes that the compiler cannot see through

static void Fortified(void) {
  int fd = Connected("c", kPort + 2);
  char buffer[16];
  opaque = 4;
  PeerMust("text c 0123456789abcdef");
  Await(fd, POLLIN);
  usleep(50000);
  SeeData("__read_chk", buffer, read(fd, buffer, opaque));
  SeeData("__recv_chk", buffer, recv(fd, buffer, opaque, 0));
  SeeData("__recvfrom_chk", buffer, recvfrom(fd, buffer, opaque, 0, NULL, NULL));
  struct pollfd set[2] = {{fd, POLLIN, 0}, {fd, POLLOUT, 0}};
  opaque = 2;
  See("__poll_chk", poll(set, opaque, 0));
  struct timespec none = {0, 0};
  See("__ppoll_chk", ppoll(set, opaque, &none, NULL));
  fd_set in;
  FD_ZERO(&in);
  FD_SET(fd, &in);  // __fdelt_chk
  struct timeval now = {0, 0};
  See("select", select(fd + 1, &in, NULL, NULL, &now));
  SeeBool("FD_ISSET", FD_ISSET(fd, &in));
  close(fd);
}

int main(void) {
  Fortified();
  return 0;
}
