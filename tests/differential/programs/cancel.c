// pthread_cancel of a thread that is blocked in read.
#include <pthread.h>

#include "observe.h"

enum { kPort = 5390 };

static int shared;

static void* BlockedRead(void* unused) {
  (void)unused;
  char byte;
  intptr_t result = read(shared, &byte, 1);
  return (void*)(result < 0 ? -errno : result);
}

static void Cancel(void) {
  shared = Connected("c", kPort);
  pthread_t thread;
  void* result = NULL;
  pthread_create(&thread, NULL, BlockedRead, NULL);
  usleep(80000);
  See("pthread_cancel", pthread_cancel(thread));
  See("pthread_join", pthread_join(thread, &result));
  SeeBool("cancelled in read", result == PTHREAD_CANCELED);
  PeerMust("text c z");
  char byte;
  See("the socket still works", read(shared, &byte, 1));
  close(shared);
}

int main(void) {
  Cancel();
  return 0;
}
