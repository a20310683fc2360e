// exec: a connection, a listener and a non-blocking socket survive into the new program;
// close-on-exec ones do not.
#include "observe.h"

enum { kPort = 5370 };

static int Second(char** argv) {
  int fd = atoi(argv[2]), listener = atoi(argv[3]), gone = atoi(argv[4]);
  char buffer[32];
  SeeData("after exec: read", buffer, read(fd, buffer, sizeof buffer));
  See("after exec: write", write(fd, "second program", 14));
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  long result = getpeername(fd, (struct sockaddr*)&name, &length);
  SeeAddress("after exec: peer", &name, result, length, true);
  See("after exec: close-on-exec", fcntl(gone, F_GETFD));
  SeeBool("after exec: O_NONBLOCK of the listener", (fcntl(listener, F_GETFL) & O_NONBLOCK) != 0);
  See("after exec: accept when none is there", accept(listener, NULL, NULL));
  PeerMust("connect b %s %d", SELF4, kPort + 1);
  Await(listener, POLLIN);
  int accepted = accept(listener, NULL, NULL);
  SeeOk("after exec: accept", accepted);
  See("after exec: write", write(accepted, "hi", 2));
  SeePeer("recv b 2");
  close(accepted);
  close(fd);
  SeePeer("drain a");
  int fresh = Connected("c", kPort + 2);
  See("after exec: a new connection", write(fresh, "new", 3));
  SeePeer("recv c 3");
  close(fresh);
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 1) return Second(argv);
  int fd = Connected("a", kPort);
  int listener = Listener(SELF4, kPort + 1, 4);
  SetNonblocking(listener);
  int gone = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // A failed exec leaves everything as it was.
  See("a failed exec", execl("/nowhere/at/all", "x", (char*)NULL));
  See("write after it", write(fd, "first program", 13));
  SeePeer("recv a 13");
  PeerMust("text a for the second");
  char numbers[3][16];
  snprintf(numbers[0], 16, "%d", fd);
  snprintf(numbers[1], 16, "%d", listener);
  snprintf(numbers[2], 16, "%d", gone);
  fflush(stdout);
  execl("/proc/self/exe", argv[0], "second", numbers[0], numbers[1], numbers[2], (char*)NULL);
  return 9;
}
