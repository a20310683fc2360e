// A library whose constructor makes a thread, before anybody else's constructor runs.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static void* Sleep(void* unused) {
  for (;;) pause();
  return unused;
}

__attribute__((constructor)) static void Start(void) {
  pthread_t thread;
  sigset_t timer;
  sigemptyset(&timer);
  sigaddset(&timer, SIGALRM);  // the program's
  pthread_sigmask(SIG_BLOCK, &timer, NULL);
  pthread_create(&thread, NULL, Sleep, NULL);
  pthread_sigmask(SIG_UNBLOCK, &timer, NULL);
}
