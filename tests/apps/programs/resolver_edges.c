// The resolver in programs with habits of their own: `resolver_edges cancel|trap|blocked|none`.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static int Resolve(const char* name) {
  const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  struct addrinfo* list = NULL;
  const int status = getaddrinfo(name, "80", &hints, &list);
  if (list != NULL) freeaddrinfo(list);
  return status;
}

static void* Forever(void* unused) {
  for (;;) Resolve("silent.test");
  return unused;
}

// Threads are cancelled while they wait for an answer.
static void Cancel(void) {
  for (int i = 0; i < 5; ++i) {
    pthread_t thread;
    void* result = NULL;
    pthread_create(&thread, NULL, Forever, NULL);
    usleep(50000);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("%s %d\n", result == PTHREAD_CANCELED ? "cancelled" : "not", Resolve("four.test"));
  }
}

static void Filter(unsigned number, unsigned first, unsigned verdict) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, verdict),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {sizeof code / sizeof code[0], code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    printf("no filter: %s\n", strerror(errno));
  }
}

static void Trapped(int signal, siginfo_t* info, void* context) {
  (void)signal;
  (void)info;
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_RAX] = 77;
}

// SIGSYS is the program's own too.
static void Trap(void) {
  const struct sigaction action = {.sa_sigaction = Trapped, .sa_flags = SA_SIGINFO};
  sigaction(SIGSYS, &action, NULL);
  Filter(SYS_getpgid, 12345, SECCOMP_RET_TRAP);
  for (int i = 0; i < 3; ++i) printf("%ld %d\n", (long)getpgid(12345), Resolve("four.test"));
  struct sigaction old = {.sa_flags = 0};
  sigaction(SIGSYS, &action, &old);
  printf("%d %ld\n", old.sa_sigaction == Trapped, (long)getpgid(12345));
}

// SIGSYS is blocked, and stays so.
static void Blocked(void) {
  sigset_t set;
  sigset_t now;
  sigfillset(&set);
  sigprocmask(SIG_SETMASK, &set, NULL);
  const int status = Resolve("four.test");
  sigprocmask(SIG_SETMASK, NULL, &now);
  printf("%d %d %d\n", status, sigismember(&now, SIGSYS), sigismember(&now, SIGTERM));
}

// A kernel without Syscall User Dispatch.
static void None(void) {
  Filter(SYS_prctl, 59, SECCOMP_RET_ERRNO | EINVAL);
  const int status = Resolve("four.test");
  printf("%d %s\n", status == EAI_SYSTEM, strerror(errno));
  printf("%d\n", Resolve("four.test") == EAI_SYSTEM);
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(what, "cancel") == 0) Cancel();
  if (strcmp(what, "trap") == 0) Trap();
  if (strcmp(what, "blocked") == 0) Blocked();
  if (strcmp(what, "none") == 0) None();
  return 0;
}
