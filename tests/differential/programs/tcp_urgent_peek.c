// Reads around the urgent mark: MSG_PEEK, MSG_TRUNC, MSG_WAITALL, vectors, FIONREAD, several urgent
// bytes, SO_OOBINLINE changed on the way, and the end of the stream behind an urgent byte.
#include "observe.h"

enum { kPort = 5110 };

static char buffer[64];

static void Mark(const char* what, int fd) {
  int queued = -1;
  See(what, sockatmark(fd));
  See("FIONREAD", ioctl(fd, FIONREAD, &queued));
  Note("queued: %d", queued);
}

static void Take(const char* what, int fd, size_t length, int flags) {
  memset(buffer, '.', sizeof buffer);
  SeeData(what, buffer, recv(fd, buffer, length, flags | MSG_DONTWAIT));
}

static void Give(const char* command) {
  PeerMust(command);
  usleep(50000);
}

// "abc" X "def"
static int Standard(const char* name, int port) {
  int fd = Connected(name, port);
  char command[64];
  snprintf(command, sizeof command, "text %s abc", name);
  Give(command);
  snprintf(command, sizeof command, "oob %s X", name);
  Give(command);
  snprintf(command, sizeof command, "text %s def", name);
  Give(command);
  return fd;
}

static void Peeks(void) {
  int fd = Standard("a", kPort);
  Mark("before", fd);
  Take("peek all", fd, 64, MSG_PEEK);
  Take("peek two", fd, 2, MSG_PEEK);
  Take("peek OOB", fd, 1, MSG_PEEK | MSG_OOB);
  Take("read two", fd, 2, 0);
  Mark("one before the mark", fd);
  Take("peek to the mark", fd, 64, MSG_PEEK);
  Take("read to the mark", fd, 64, 0);
  Mark("at the mark", fd);
  Take("peek at the mark", fd, 64, MSG_PEEK);
  Mark("still at the mark", fd);
  Take("peek OOB at the mark", fd, 1, MSG_PEEK | MSG_OOB);
  Take("read one", fd, 1, 0);
  Mark("past the mark", fd);
  Take("OOB past the mark", fd, 1, MSG_OOB);
  Take("rest", fd, 64, 0);
  Take("nothing", fd, 64, 0);
  Take("peek nothing", fd, 64, MSG_PEEK);
  close(fd);
}

static void Discards(void) {
  int fd = Standard("b", kPort + 1);
  Take("discard two", fd, 2, MSG_TRUNC);
  Take("peek and discard", fd, 64, MSG_TRUNC | MSG_PEEK);
  Take("discard to the mark", fd, 64, MSG_TRUNC);
  Mark("at the mark", fd);
  Take("OOB TRUNC", fd, 1, MSG_OOB | MSG_TRUNC | MSG_PEEK);
  Take("OOB of no length", fd, 0, MSG_OOB | MSG_PEEK);
  Take("OOB of no length, taken", fd, 0, MSG_OOB);
  Take("OOB again", fd, 1, MSG_OOB);
  Take("discard one", fd, 1, MSG_TRUNC);
  Take("discard the rest", fd, 64, MSG_TRUNC);
  Take("discard nothing", fd, 64, MSG_TRUNC);
  close(fd);
}

static void Whole(void) {
  int fd = Standard("c", kPort + 2);
  memset(buffer, '.', sizeof buffer);
  SeeData("all of six", buffer, recv(fd, buffer, 6, MSG_WAITALL));
  Mark("after WAITALL", fd);
  SeeData("all of three", buffer, recv(fd, buffer, 3, MSG_WAITALL));
  close(fd);
  fd = Standard("d", kPort + 3);
  char one[2], two[2], three[8];
  memset(three, '.', sizeof three);
  struct iovec parts[3] = {{one, 2}, {two, 2}, {three, 8}};
  See("readv", readv(fd, parts, 3));
  See("readv on", readv(fd, parts, 3));
  Note("%.2s %.1s", one, two);
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
  Give("oob d Z");
  long got = recvmsg(fd, &message, MSG_OOB);
  See("recvmsg OOB", got);
  Note("flags %s%s", (message.msg_flags & MSG_OOB) != 0 ? "OOB " : "",
       (message.msg_flags & MSG_TRUNC) != 0 ? "TRUNC" : "");
  close(fd);
}

static void Several(void) {
  int fd = Connected("e", kPort + 4);
  Give("oob e 1");
  Mark("at once at the mark", fd);
  Give("oob e 2");
  Mark("two urgent bytes", fd);
  Take("peek", fd, 64, MSG_PEEK);
  Take("OOB", fd, 1, MSG_OOB);
  Take("read", fd, 64, 0);
  Mark("after the first", fd);
  Give("text e xy");
  Take("read on", fd, 64, 0);
  Give("text e ab");
  Give("oob e 3");
  Give("text e cd");
  Give("oob e 4");
  Give("text e ef");
  Mark("two marks", fd);
  Take("OOB", fd, 1, MSG_OOB);
  Take("read", fd, 64, 0);
  Mark("next", fd);
  Take("read", fd, 64, 0);
  Mark("last", fd);
  Take("read", fd, 64, 0);
  close(fd);
}

static void Inline(void) {
  int fd = Standard("f", kPort + 5);
  See("SO_OOBINLINE late", SetInt(fd, SOL_SOCKET, SO_OOBINLINE, 1));
  PollOne("poll", fd, POLLIN | POLLPRI, 0);
  Take("OOB", fd, 1, MSG_OOB);
  Take("peek", fd, 64, MSG_PEEK);
  Take("read", fd, 64, 0);
  Mark("mark", fd);
  Take("peek", fd, 64, MSG_PEEK);
  PollOne("poll at the mark", fd, POLLIN | POLLPRI, 0);
  See("SO_OOBINLINE off", SetInt(fd, SOL_SOCKET, SO_OOBINLINE, 0));
  Take("OOB now", fd, 1, MSG_OOB | MSG_PEEK);
  Take("read", fd, 64, 0);
  PollOne("poll at the end", fd, POLLIN | POLLPRI, 0);
  close(fd);
}

static void End(void) {
  int fd = Connected("g", kPort + 6);
  Give("text g ab");
  Give("oob g !");
  Give("shut g wr");
  PollOne("poll", fd, POLLIN | POLLPRI | POLLRDHUP, 0);
  Take("peek", fd, 64, MSG_PEEK);
  Take("read", fd, 64, 0);
  Mark("mark", fd);
  Take("peek at the end", fd, 64, MSG_PEEK);
  Take("read", fd, 64, 0);
  Take("OOB", fd, 1, MSG_OOB);
  Take("OOB again", fd, 1, MSG_OOB);
  PollOne("poll", fd, POLLIN | POLLPRI | POLLRDHUP, 0);
  close(fd);
}

int main(void) {
  Peeks();
  Discards();
  Whole();
  Several();
  Inline();
  End();
  return 0;
}
