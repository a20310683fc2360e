// A handler leaves the program's first socket call by siglongjmp, wherever it then is; the next
// calls work as if nothing had been. Each try is a program of its own, with rewriting and without.
#include <setjmp.h>
#include <sys/time.h>

#include "observe.h"

enum { kFirst = 20, kLast = 1500, kStep = 20 };  // microseconds

static sigjmp_buf out;

static void Leave(int signal) {
  (void)signal;
  siglongjmp(out, 1);
}

// The kernel's oracle: it always can.
static bool CanTalk(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const struct sockaddr_in peer = {
      .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = inet_addr(PEER4)};
  struct sockaddr_in self;
  socklen_t length = sizeof self;
  return fd >= 0 && connect(fd, (const struct sockaddr*)&peer, sizeof peer) == 0 &&
         getsockname(fd, (struct sockaddr*)&self, &length) == 0 && self.sin_addr.s_addr == inet_addr(SELF4);
}

static int Try(int microseconds) {
  const struct itimerval soon = {.it_value = {.tv_usec = microseconds}};
  signal(SIGALRM, Leave);
  if (sigsetjmp(out, 1) == 0) {
    setitimer(ITIMER_REAL, &soon, NULL);
    for (;;) close(socket(AF_INET, SOCK_STREAM, 0));
  }
  signal(SIGALRM, SIG_DFL);
  alarm(20);
  return CanTalk() ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc > 1) return Try(atoi(argv[1]));
  for (int rewriting = 0; rewriting < 2; ++rewriting) {
    int well = 0;
    int tries = 0;
    for (int microseconds = kFirst; microseconds <= kLast; microseconds += kStep) {
      char text[16];
      snprintf(text, sizeof text, "%d", microseconds);
      ++tries;
      const pid_t child = fork();
      if (child == 0) {
        setenv("USERSTACK_REWRITE", rewriting ? "on" : "off", 1);
        execl("/proc/self/exe", argv[0], text, (char*)NULL);
        _exit(9);
      }
      int status = -1;
      waitpid(child, &status, 0);
      well += status == 0;
    }
    Note("%d of %d could go on", well, tries);
  }
  return 0;
}
