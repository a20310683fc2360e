// RLIMIT_NOFILE is what the program set, at every instant, whatever the other threads do; children
// inherit it.
#include <pthread.h>
#include <sys/resource.h>

#include "observe.h"

enum { kPort = 6270, kChildren = 8, kNumbers = 1000 };

static volatile bool done;

// Connections that come and go, for 60 ms.
static void* Connections(void* unused) {
  const int64_t end = Milliseconds() + 60;
  int listener = Listener(SELF4, kPort, 4);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(kPort)};
  address.sin_addr.s_addr = inet_addr(SELF4);
  while (Milliseconds() < end) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr*)&address, sizeof address) != 0) break;
    int accepted = accept(listener, NULL, NULL);
    close(accepted);
    close(fd);
  }
  close(listener);
  done = true;
  return unused;
}

static int Child(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, Connections, NULL);
  bool always = true;
  while (!done) {
    struct rlimit limit = {0, 0};
    always = always && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == kNumbers;
  }
  pthread_join(thread, NULL);
  return always ? 0 : 1;
}

int main(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = kNumbers;
  See("setrlimit", setrlimit(RLIMIT_NOFILE, &limit));
  int well = 0;
  for (int i = 0; i < kChildren; ++i) {
    pid_t child = fork();
    if (child == 0) _exit(Child());
    int status = -1;
    waitpid(child, &status, 0);
    well += status == 0;
  }
  Note("%d of %d saw what was set", well, kChildren);
  return 0;
}
