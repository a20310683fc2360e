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

static void SendRight(int over, int fd) {
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  memset(&control, 0, sizeof control);
  char byte = 'f';
  struct iovec part = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr* item = CMSG_FIRSTHDR(&message);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(item), &fd, sizeof fd);
  See("SCM_RIGHTS", sendmsg(over, &message, 0));
}

// The program that is not wrapped: takes the descriptor, says so, and keeps it until it is told.
static int Outsider(void) {
  char space[CMSG_SPACE(sizeof(int))];
  char byte = 0;
  struct iovec part = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  if (recvmsg(0, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == NULL) return 1;
  if (write(0, "t", 1) != 1 || read(0, &byte, 1) != 1) return 2;
  return 0;
}

// The connection lives as long as a stranger holds it, and no longer.
static void ToAStranger(void) {
  int pair[2];
  Must("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  int fd = Connected("s", kPort + 1);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(pair[0], F_SETFD, FD_CLOEXEC);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    dup2(pair[1], 0);
    char* arguments[] = {"outsider", "outsider", NULL};
    char* environment[] = {NULL};
    execve("/proc/self/exe", arguments, environment);
    _exit(9);
  }
  close(pair[1]);
  SendRight(pair[0], fd);
  close(fd);
  char byte = 0;
  See("the stranger has it", read(pair[0], &byte, 1));
  usleep(100000);
  See("the stranger shall go", write(pair[0], "g", 1));
  int status = -1;
  waitpid(child, &status, 0);
  See("the stranger", status);
  SeePeer("drain s");
  close(pair[0]);
}

static void ToNobody(void) {
  int pair[2];
  Must("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  int fd = Connected("n", kPort + 2);
  SendRight(pair[0], fd);
  close(fd);
  close(pair[0]);
  close(pair[1]);  // with the message
  SeePeer("drain n");
}

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "outsider") == 0) return Outsider();
  PassDescriptor();
  ToAStranger();
  ToNobody();
  return 0;
}
