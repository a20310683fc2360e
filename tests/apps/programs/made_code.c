// Code that is made at run time makes the system calls: a socket, a connection, data; in the first
// thread, in another, in children of fork and of a clone that no function of libc makes; with every
// signal blocked; from a handler of a signal that blocks all others. What the program sees of
// SIGSYS is what it asked for.
//
// made_code ADDRESS PORT: prints the first line of ADDRESS:PORT's answer for each.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

typedef long Call(long number, long a, long b, long c, long d, long e, long f);

static Call* call;
static struct sockaddr_in server;

static void Require(int truth, const char* what) {
  if (truth) return;
  fprintf(stderr, "made_code: %s (errno %d)\n", what, errno);
  _exit(1);
}

static void Make(void) {
  static const unsigned char kCode[] = {
      0x48, 0x89, 0xf8,              // mov %rdi,%rax
      0x48, 0x89, 0xf7,              // mov %rsi,%rdi
      0x48, 0x89, 0xd6,              // mov %rdx,%rsi
      0x48, 0x89, 0xca,              // mov %rcx,%rdx
      0x4d, 0x89, 0xc2,              // mov %r8,%r10
      0x4d, 0x89, 0xc8,              // mov %r9,%r8
      0x4c, 0x8b, 0x4c, 0x24, 0x08,  // mov 8(%rsp),%r9
      0x0f, 0x05,                    // syscall
      0xc3,                          // ret
  };
  void* memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Require(memory != MAP_FAILED, "mmap");
  memcpy(memory, kCode, sizeof kCode);
  Require(mprotect(memory, 4096, PROT_READ | PROT_EXEC) == 0, "mprotect");
  call = (Call*)memory;
}

static void Fetch(const char* who) {
  char answer[512] = {0};
  const char request[] = "GET / HTTP/1.0\r\n\r\n";
  const long s = call(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0);
  Require(s >= 0, "socket");
  Require(call(SYS_connect, s, (long)&server, sizeof server, 0, 0, 0) == 0, "connect");
  Require(call(SYS_write, s, (long)request, sizeof request - 1, 0, 0, 0) > 0, "write");
  Require(call(SYS_recvfrom, s, (long)answer, sizeof answer - 1, MSG_WAITALL, 0, 0) > 0, "recv");
  Require(call(SYS_close, s, 0, 0, 0, 0, 0) == 0, "close");
  printf("%s %.8s\n", who, answer);
  fflush(stdout);
}

static void* Thread(void* unused) {
  Fetch("thread");
  return unused;
}

static void Child(long child, const char* who) {
  int status = -1;
  if (child == 0) {
    Fetch(who);
    call(SYS_exit_group, 7, 0, 0, 0, 0, 0);
  }
  Require(child > 0 && waitpid((pid_t)child, &status, 0) == child, "wait");
  Require(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child's status");
}

static volatile int handled = 0;

static void Handler(int signal) {
  Fetch("handler");
  handled = signal;
}

static volatile int sent = 0;
static void OnSigsys(int signal, siginfo_t* info, void* context) {
  (void)context;
  if (info->si_code == SI_QUEUE && info->si_value.sival_int == 42) sent = signal;
}

static void Masks(void) {
  sigset_t all;
  sigset_t seen;
  struct sigaction action;
  struct sigaction old;
  sigfillset(&all);
  memset(&action, 0, sizeof action);
  action.sa_handler = Handler;
  action.sa_mask = all;
  Require(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
  Require(sigaction(SIGUSR1, NULL, &old) == 0 && sigismember(&old.sa_mask, SIGSYS) == 1,
          "SIGSYS is in the action's mask");
  raise(SIGUSR1);
  Require(handled == SIGUSR1, "the handler ran");

  memset(&action, 0, sizeof action);
  action.sa_sigaction = OnSigsys;
  action.sa_flags = SA_SIGINFO;
  Require(sigaction(SIGSYS, &action, NULL) == 0, "sigaction of SIGSYS");
  Require(sigaction(SIGSYS, NULL, &old) == 0 && old.sa_sigaction == OnSigsys, "its own SIGSYS");
  Require(sigprocmask(SIG_SETMASK, &all, NULL) == 0, "sigprocmask");
  Require(sigprocmask(SIG_BLOCK, NULL, &seen) == 0 && sigismember(&seen, SIGSYS) == 1,
          "SIGSYS is in the mask");
  Fetch("blocked");
  const union sigval value = {.sival_int = 42};
  Require(sigqueue(getpid(), SIGSYS, value) == 0 && sent == 0, "a blocked SIGSYS waits");
  sigemptyset(&all);
  Require(sigprocmask(SIG_SETMASK, &all, NULL) == 0, "sigprocmask");
  Require(sigprocmask(SIG_BLOCK, NULL, &seen) == 0 && sigismember(&seen, SIGSYS) == 0, "unblocked");
  Require(sigqueue(getpid(), SIGSYS, value) == 0 && sent == SIGSYS, "SIGSYS comes to its handler");
  Fetch("after");
}

static sigjmp_buf back;
static volatile int storms = 0;

static void Storm(int signal) {
  (void)signal;
  Require(call(SYS_getppid, 0, 0, 0, 0, 0, 0) == getppid(), "a call in a handler");
  if (++storms % 8 == 0) siglongjmp(back, 1);
}

// Signals at any instruction, of the handler of SIGSYS too; some are left by siglongjmp. Each is
// asked for when the last has come: a tracer may take longer for one than any interval.
static void StandStorm(void) {
  static volatile int asked = -1;
  signal(SIGALRM, Storm);
  sigsetjmp(back, 1);
  while (storms < 1000) {
    if (asked != storms) {
      asked = storms;
      const struct itimerval soon = {{0, 0}, {0, 20 + asked % 100}};
      setitimer(ITIMER_REAL, &soon, NULL);
    }
    Require(call(SYS_getpid, 0, 0, 0, 0, 0, 0) == getpid(), "a call in a storm");
    Require(call(SYS_dup, 99999, 0, 0, 0, 0, 0) == -EBADF, "an error in a storm");
  }
  Fetch("storm");
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  server.sin_family = AF_INET;
  server.sin_addr.s_addr = inet_addr(argv[1]);
  server.sin_port = htons((unsigned short)atoi(argv[2]));
  Make();
  Require(call(SYS_getpid, 0, 0, 0, 0, 0, 0) == getpid(), "getpid");
  Fetch("first");
  pthread_t thread;
  Require(pthread_create(&thread, NULL, Thread, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  Child(fork(), "fork");
  Child(call(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0), "clone");
  Masks();
  StandStorm();
  return 0;
}
