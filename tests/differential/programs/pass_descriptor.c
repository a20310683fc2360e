// A connection passed to a child over an AF_UNIX socket (SCM_RIGHTS).
#include "observe.h"

enum { kPort = 5375 };

static void PassDescriptor(void) {
  int pair[2];
  Must("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  int fd = Connected("d", kPort);
  fflush(stdout);
  pid_t child = fork();
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  memset(&control, 0, sizeof control);
  char byte = 'f';
  struct iovec part = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (child == 0) {
    close(fd);
    int received = -1;
    if (recvmsg(pair[1], &message, 0) != 1) _exit(1);
    memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
    _exit(write(received, "passed", 6) == 6 ? 0 : 2);
  }
  struct cmsghdr* item = CMSG_FIRSTHDR(&message);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(item), &fd, sizeof fd);
  See("SCM_RIGHTS", sendmsg(pair[0], &message, 0));
  int status = -1;
  waitpid(child, &status, 0);
  See("the receiver", status);
  close(fd);
  SeePeer("drain d");
}

int main(void) {
  PassDescriptor();
  return 0;
}
