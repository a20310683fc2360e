// What a static program may do to us, in one: threads that come and go with thread-locals of their
// own and connections, a timer's signals all the while, children of every kind, its own name, its
// break, masks, interrupted and restarted waits, an alternate stack, a jump out of a handler, and
// an end by a signal. Prints a line for each; the same natively and loaded by us, statically or
// not.
//
//   guest ADDRESS PORT      an HTTP server, which has /file
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kThreads = 16, kRounds = 4, kTurns = 1000, kMasks = 60000 };

static struct sockaddr_in server = {.sin_family = AF_INET};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int sum;
static __thread int own = 7;
static volatile sig_atomic_t handled, wrong_thread, jumps;
static sigjmp_buf place;

static void OnSignal(int number) {
  (void)number;
  ++handled;
  if (own != 7) ++wrong_thread;
  errno = 0;
}

static void Jump(int number) {
  (void)number;
  siglongjmp(place, 1);
}

// Is the calling thread's mask empty but for `only` (0: nothing)?
static int MaskIs(const sigset_t* mask, int only) {
  for (int number = 1; number < 32; ++number) {
    if (sigismember(mask, number) != (number == only)) return 0;
  }
  return 1;
}

// What a thread blocks and is told that it blocked, whatever is put off meanwhile.
static int ChangesMasks(int turns) {
  sigset_t set, before, now;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  int wrong = 0;
  for (int i = 0; i < turns; ++i) {
    sigprocmask(SIG_BLOCK, &set, &before);
    sigprocmask(SIG_BLOCK, NULL, &now);
    if (!MaskIs(&before, 0) || !MaskIs(&now, SIGHUP)) ++wrong;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
  }
  return wrong;
}

static volatile sig_atomic_t wrong_masks;

static void ChangesMasksOnAlternate(int number) {
  (void)number;
  wrong_masks = ChangesMasks(10);
}

static void OnAlternate(int number) {
  (void)number;
  // A call of ours on a small stack, with other signals about.
  for (int i = 0; i < 100; ++i) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd >= 0) close(fd);
  }
  ++handled;
}

static void Handle(int number, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  sigaction(number, &action, NULL);
}

static long Fetch(void) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr*)&server, sizeof server) != 0) return -1;
  const char request[] = "GET /file HTTP/1.0\r\n\r\n";
  if (write(fd, request, sizeof request - 1) != (long)sizeof request - 1) return -2;
  char part[4096];
  long total = 0;
  for (long n; (n = read(fd, part, sizeof part)) > 0;) total += n;
  close(fd);
  return total;
}

static void* Work(void* unused) {
  (void)unused;
  for (int i = 0; i < kTurns; ++i) {
    pthread_mutex_lock(&mutex);
    ++sum;
    pthread_mutex_unlock(&mutex);
    if (i % 250 == 0) usleep(10);
  }
  return (void*)(Fetch() > 1000 ? 1L : 0L);
}

static void Threads(void) {
  long good = 0;
  for (int round = 0; round < kRounds; ++round) {
    pthread_t threads[kThreads];
    for (int i = 0; i < kThreads; ++i) pthread_create(&threads[i], NULL, Work, NULL);
    for (int i = 0; i < kThreads; ++i) {
      void* result = NULL;
      pthread_join(threads[i], &result);
      good += (long)result;
    }
  }
  printf("threads %d fetched %ld handled %d wrong %d\n", sum == kThreads * kRounds * kTurns, good,
         handled > 0, wrong_thread);
}

static void Ticks(long microseconds) {
  const struct itimerval every = {{0, microseconds}, {0, microseconds}};
  setitimer(ITIMER_REAL, &every, NULL);
}

static void Children(void) {
  fflush(stdout);
  int status = 0;
  pid_t child = fork();
  if (child == 0) _exit(Work(NULL) == NULL ? 9 : 5);
  waitpid(child, &status, 0);
  printf("fork %d\n", WEXITSTATUS(status));
  fflush(stdout);
  child = vfork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", "exit 6", (char*)NULL);
    _exit(127);
  }
  waitpid(child, &status, 0);
  printf("vfork %d\n", WEXITSTATUS(status));
  fflush(stdout);
  printf("system %d\n", WEXITSTATUS(system("exit 4")));
  char line[32] = "";
  FILE* const stream = popen("echo popen", "r");
  if (fgets(line, sizeof line, stream) == NULL) strcpy(line, "nothing\n");
  pclose(stream);
  printf("%s", line);
}

static void Interrupted(void) {
  char byte[8];
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(4999)};
  if (bind(fd, (const struct sockaddr*)&any, sizeof any) != 0) perror("bind");
  Handle(SIGALRM, OnSignal, 0);
  handled = 0;
  // The second comes late: who hears of both slept through the first, or was not there for it.
  const struct itimerval once = {{10, 0}, {0, 500000}};
  setitimer(ITIMER_REAL, &once, NULL);
  long n = recv(fd, byte, sizeof byte, 0);
  printf("recv %ld EINTR %d handled %d\n", n, errno == EINTR, handled);
  Handle(SIGALRM, OnSignal, SA_RESTART);
  handled = 0;
  Ticks(200000);
  Handle(SIGUSR1, Jump, SA_NODEFER);
  const pid_t parent = getpid();
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    usleep(900000);
    kill(parent, SIGUSR1);
    _exit(0);
  }
  if (sigsetjmp(place, 1) == 0) {
    n = recv(fd, byte, sizeof byte, 0);
    printf("recv %ld came back\n", n);
  }
  Ticks(0);
  printf("restarted %d\n", handled >= 2);
  waitpid(child, NULL, 0);
  // Works after the jump.
  printf("fetched %d\n", Fetch() > 1000);
}

static void Masks(void) {
  Handle(SIGALRM, OnSignal, SA_RESTART);
  handled = 0;
  Ticks(100);
  const int wrong = ChangesMasks(kMasks);
  Ticks(0);
  printf("masks %d handled %d\n", wrong, handled > 0);
}

static void Alternate(void) {
  static char memory[1 << 15];
  const stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
  sigaltstack(&stack, NULL);
  handled = 0;
  Handle(SIGUSR2, OnAlternate, SA_ONSTACK);
  Handle(SIGALRM, OnSignal, SA_RESTART | SA_ONSTACK);
  Ticks(4000);
  for (int i = 0; i < 20; ++i) raise(SIGUSR2);
  Ticks(0);
  Handle(SIGUSR2, ChangesMasksOnAlternate, SA_ONSTACK | SA_NODEFER);
  raise(SIGUSR2);
  printf("masks on it %d\n", wrong_masks);
  stack_t now;
  sigaltstack(NULL, &now);
  printf("alternate %d flags %d\n", handled >= 20, now.ss_flags);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  inet_pton(AF_INET, argv[1], &server.sin_addr);
  server.sin_port = htons((unsigned short)atoi(argv[2]));
  char path[4096] = "";
  if (readlink("/proc/self/exe", path, sizeof path - 1) < 0) perror("readlink");
  const char* slash = strrchr(path, '/');
  const char* given = strrchr(argv[0], '/');
  printf("own file %d\n",
         slash != NULL && strcmp(slash + 1, given == NULL ? argv[0] : given + 1) == 0);
  // By number: musl's sbrk does nothing.
  char* const before = (char*)syscall(SYS_brk, NULL);
  char* const after = (char*)syscall(SYS_brk, before + (1 << 20));
  if (after - before == 1 << 20) memset(before, 1, 1 << 20);
  printf("break %d\n", after - before == 1 << 20);
  Handle(SIGALRM, OnSignal, SA_RESTART);
  Ticks(5000);
  Threads();
  Ticks(0);
  Children();
  Interrupted();
  Masks();
  Alternate();
  signal(SIGTERM, SIG_DFL);
  fflush(stdout);
  raise(SIGTERM);
  return 1;
}
