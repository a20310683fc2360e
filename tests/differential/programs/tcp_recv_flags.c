// MSG_PEEK, MSG_WAITALL, MSG_TRUNC, MSG_DONTWAIT on streams, SO_RCVLOWAT, SO_PEEK_OFF, FIONREAD.
#include "observe.h"

enum { kPort = 5030 };

static void SeeInt(const char* what, int result, int value) {
  if (result < 0) {
    Note("%s: -1 %s", what, ErrnoName(errno));
  } else {
    Note("%s: %d", what, value);
  }
}

int main(void) {
  int fd = Connected("a", kPort);
  char buffer[256];
  int count = -1;
  See("recv DONTWAIT on nothing", recv(fd, buffer, 4, MSG_DONTWAIT));
  See("recv DONTWAIT|PEEK on nothing", recv(fd, buffer, 4, MSG_DONTWAIT | MSG_PEEK));
  See("recv of zero bytes on nothing", recv(fd, buffer, 0, MSG_DONTWAIT));
  SeeInt("FIONREAD on nothing", ioctl(fd, FIONREAD, &count), count);
  PeerMust("text a abcdefghij");
  Await(fd, POLLIN);
  int result = ioctl(fd, FIONREAD, &count);
  SeeInt("FIONREAD", result, count);
  SeeData("peek 4", buffer, recv(fd, buffer, 4, MSG_PEEK));
  SeeData("peek all", buffer, recv(fd, buffer, sizeof buffer, MSG_PEEK));
  SeeData("recv 3", buffer, recv(fd, buffer, 3, 0));
  memset(buffer, '.', sizeof buffer);
  long got = recv(fd, buffer, 3, MSG_TRUNC);
  SeeData("recv 3 with TRUNC discards", buffer, got);
  SeeData("recv the rest", buffer, recv(fd, buffer, sizeof buffer, 0));
  result = ioctl(fd, FIONREAD, &count);
  SeeInt("FIONREAD after", result, count);

  PeerMust("text a 12345");
  PeerMust("after 80 text a 67890");
  SeeData("WAITALL for 10", buffer, recv(fd, buffer, 10, MSG_WAITALL));
  PeerMust("wait");
  PeerMust("text a abc");
  PeerMust("after 80 text a def");
  SeeData("WAITALL|PEEK for 6", buffer, recv(fd, buffer, 6, MSG_WAITALL | MSG_PEEK));
  PeerMust("wait");
  SeeData("then read", buffer, recv(fd, buffer, 6, MSG_WAITALL));
  PeerMust("text a xyz");
  Await(fd, POLLIN);
  SeeData("WAITALL|DONTWAIT takes what is there", buffer,
          recv(fd, buffer, 10, MSG_WAITALL | MSG_DONTWAIT));

  See("SO_RCVLOWAT 5", SetInt(fd, SOL_SOCKET, SO_RCVLOWAT, 5));
  PeerMust("text a 123");
  usleep(50000);
  PollOne("poll below the low-water mark", fd, POLLIN, 0);
  PeerMust("text a 45");
  PollOne("poll at the mark", fd, POLLIN, 5000);
  SeeData("recv", buffer, recv(fd, buffer, sizeof buffer, 0));
  // Linux: nothing wakes the call below the mark, so all of it must come while the call waits.
  PeerMust("after 40 text a 12");
  PeerMust("after 100 text a 345");
  SeeData("recv blocks to the mark", buffer, recv(fd, buffer, sizeof buffer, 0));
  PeerMust("wait");
  SetInt(fd, SOL_SOCKET, SO_RCVLOWAT, 1);

  PeerMust("text a end");
  PeerMust("after 80 shut a wr");
  SeeData("WAITALL cut short by the end", buffer, recv(fd, buffer, 10, MSG_WAITALL));
  PeerMust("wait");
  See("recv at the end", recv(fd, buffer, 10, MSG_WAITALL));
  See("peek at the end", recv(fd, buffer, 10, MSG_PEEK));
  close(fd);

  // A timeout on a WAITALL returns what came.
  fd = Connected("b", kPort + 1);
  struct timeval limit = {.tv_usec = 150000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  PeerMust("text b part");
  SeeData("WAITALL cut short by SO_RCVTIMEO", buffer, recv(fd, buffer, 10, MSG_WAITALL));
  See("recv with SO_RCVTIMEO", recv(fd, buffer, 10, 0));
  close(fd);

  // Large WAITALL, larger than any buffer.
  fd = Connected("c", kPort + 2);
  enum { kLarge = 3000000 };
  char* large = malloc(kLarge);
  PeerMust("after 1 send c %d 5", kLarge);
  SeeData("WAITALL for 3 MB", large, recv(fd, large, kLarge, MSG_WAITALL));
  PeerMust("wait");
  close(fd);
  free(large);
  return 0;
}
