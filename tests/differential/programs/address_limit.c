// RLIMIT_AS: what the library maps is not the program's.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "observe.h"

enum { kPort = 5900 };

static void NoteLimit(const char* when) {
  struct rlimit limit = {0, 0};
  See("getrlimit", getrlimit(RLIMIT_AS, &limit));
  Note("%s: %lld of %lld MiB", when, (long long)limit.rlim_cur >> 20, (long long)limit.rlim_max >> 20);
}

static void Map(size_t mebibytes) {
  void* memory = mmap(NULL, mebibytes << 20, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  Note("%zu MiB: %s", mebibytes, memory == MAP_FAILED ? strerror(errno) : "mapped");
  if (memory != MAP_FAILED) munmap(memory, mebibytes << 20);
}

static void Exchange(void) {
  int fd = Connected("c", kPort);
  char buffer[8];
  PeerMust("text c 0123");
  Await(fd, POLLIN);
  SeeData("read", buffer, read(fd, buffer, sizeof(buffer)));
  close(fd);
}

int main(int count, char** arguments) {
  if (count > 1) {  // the same after exec, under the limit that was inherited
    Exchange();
    Map(100);
    return 0;
  }
  struct rlimit limit = {(rlim_t)512 << 20, (rlim_t)1024 << 20};
  See("setrlimit before the first socket", setrlimit(RLIMIT_AS, &limit));
  NoteLimit("before");
  Map(100);
  Exchange();
  NoteLimit("with a stack");
  Map(100);
  struct rlimit old = {0, 0};
  limit.rlim_cur = (rlim_t)700 << 20;
  See("prlimit", prlimit(getpid(), RLIMIT_AS, &limit, &old));
  Note("old: %lld of %lld MiB", (long long)old.rlim_cur >> 20, (long long)old.rlim_max >> 20);
  limit.rlim_cur = limit.rlim_max + 1;
  See("more than the hard limit", setrlimit(RLIMIT_AS, &limit));
  limit.rlim_cur = limit.rlim_max = (rlim_t)600 << 20;
  See("less", setrlimit(RLIMIT_AS, &limit));
  NoteLimit("less");
  Map(300);
  Map(6000);
  fflush(stdout);
  if (fork() == 0) {
    NoteLimit("child");
    Exchange();
    fflush(stdout);
    execl("/proc/self/exe", arguments[0], "again", NULL);
    _exit(1);
  }
  int status = 0;
  wait(&status);
  Note("child: %d", status);
  return 0;
}
