// vfork: the parent goes on when the child has exec'd or ended, not before; signals, descriptors,
// and what libc builds on such children (posix_spawn, system, popen).
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "observe.h"

extern char** environ;

enum { kPort = 5860 };

// What the child leaves for the parent to see, whether the two share their memory or not.
struct Page {
  volatile int reached;
  volatile int handler_ran;
  volatile int handler_was_early;
};
static struct Page* page;

static void OnAlarm(int signal) {
  (void)signal;
  page->handler_ran = 1;
  if (!page->reached) page->handler_was_early = 1;
}

static void SeeEnd(const char* what, pid_t child) {
  int status = -1;
  Must("waitpid", waitpid(child, &status, 0));
  if (WIFSIGNALED(status)) {
    Note("%s: signal %d", what, WTERMSIG(status));
  } else {
    Note("%s: %d", what, WEXITSTATUS(status));
  }
}

static void Exits(void) {
  page->reached = 0;
  pid_t child = vfork();
  if (child == 0) {
    usleep(100000);
    page->reached = 1;
    _exit(7);
  }
  SeeBool("the child had ended when vfork returned", page->reached == 1);
  SeeEnd("status", child);
}

static void Executes(void) {
  static char* const arguments[] = {"sh", "-c", "exit 5", NULL};
  page->reached = 0;
  pid_t child = vfork();
  if (child == 0) {
    usleep(100000);
    page->reached = 1;
    execve("/bin/sh", arguments, environ);
    _exit(127);
  }
  SeeBool("the child had exec'd when vfork returned", page->reached == 1);
  SeeEnd("status", child);
  static char* const slow[] = {"sleep", "1", NULL};
  static int64_t start;
  start = Milliseconds();
  child = vfork();
  if (child == 0) {
    execvp("sleep", slow);
    _exit(127);
  }
  SeeBool("the parent does not wait for the program", Milliseconds() - start < 900);
  SeeEnd("status", child);
  child = vfork();
  if (child == 0) {
    execl("/nonexistent", "nothing", (char*)NULL);
    _exit(errno == ENOENT ? 3 : 4);
  }
  SeeEnd("exec that fails", child);
  child = vfork();
  if (child == 0) {
    char* const own[] = {"NAME=value", NULL};
    execle("/bin/sh", "sh", "-c", "test \"$NAME\" = value && exit 6", (char*)NULL, own);
    _exit(127);
  }
  SeeEnd("execle", child);
}

static void Dies(void) {
  pid_t child = vfork();
  if (child == 0) {
    kill(getpid(), SIGKILL);
    _exit(1);
  }
  SeeEnd("a child that is killed", child);
}

static int CloneMain(void* fd) {
  usleep(100000);
  close(*(int*)fd);
  page->reached = 1;
  return 2;
}

// clone with CLONE_VFORK and a memory of its own.
static void Clones(int fd) {
  static char stack[65536] __attribute__((aligned(16)));
  page->reached = 0;
  pid_t child = clone(CloneMain, stack + sizeof stack, CLONE_VFORK | SIGCHLD, &fd);
  SeeBool("the child had ended when clone returned", page->reached == 1);
  SeeEnd("status", child);
}

// What the child leaves running is nothing to the parent.
static void Grandchild(void) {
  static int64_t start;
  start = Milliseconds();
  static int ends[2];
  Must("pipe", pipe(ends));
  pid_t child = vfork();
  if (child == 0) {
    if (fork() == 0) {
      close(ends[1]);
      char byte;
      _exit((int)read(ends[0], &byte, 1));
    }
    _exit(0);
  }
  SeeBool("the parent does not wait for the grandchild", Milliseconds() - start < 1000);
  close(ends[0]);
  close(ends[1]);
  SeeEnd("status", child);
}

static void Signals(void) {
  struct sigaction action = {.sa_handler = OnAlarm};
  sigaction(SIGALRM, &action, NULL);
  page->handler_ran = page->handler_was_early = page->reached = 0;
  struct itimerval timer = {{0, 0}, {0, 50000}};
  setitimer(ITIMER_REAL, &timer, NULL);
  pid_t child = vfork();
  if (child == 0) {
    usleep(150000);
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    page->reached = 1;
    _exit(sigismember(&mask, SIGALRM));
  }
  while (!page->handler_ran) usleep(1000);
  SeeBool("the parent's handler ran while the child lived", page->handler_was_early);
  SeeEnd("blocked signals of the child", child);
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  See("blocked signals of the parent", sigismember(&mask, SIGALRM));
}

static void Library(void) {
  See("system", system("exit 9"));
  FILE* stream = popen("echo popen; exit 4", "r");
  char line[32] = "";
  if (fgets(line, sizeof line, stream) != NULL) Note("popen: %s", line);
  See("pclose", pclose(stream));
  char* arguments[] = {"sh", "-c", "exit 8", NULL};
  pid_t child = -1;
  See("posix_spawn", posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ));
  SeeEnd("status", child);
}

// The child's close and dup2 before exec leave the parent's sockets alone.
static void Sockets(void) {
  static int fd;
  fd = Connected("v", kPort);
  static char* const arguments[] = {"sh", "-c", "exec cat", NULL};
  pid_t child = vfork();
  if (child == 0) {
    dup2(fd, 1);
    close(fd);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    execve("/bin/sh", arguments, environ);
    _exit(127);
  }
  SeeEnd("status", child);
  See("write", write(fd, "still here", 10));
  SeePeer("recv v 10");
  close(fd);
}

static void All(void) {
  Exits();
  Executes();
  Dies();
  Grandchild();
  Signals();
  Library();
}

int main(void) {
  page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  Note("-- before the first socket");
  All();
  Note("-- with a socket");
  int fd = Socket(AF_INET, SOCK_STREAM);
  All();
  Clones(fd);
  Sockets();
  close(fd);
  return 0;
}
