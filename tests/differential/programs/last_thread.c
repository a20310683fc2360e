// A program whose main thread leaves by pthread_exit ends with its last thread: at once, with status
// 0, and with its exit handlers run.
#include <pthread.h>

#include "observe.h"

enum { kPort = 5880 };

static int handler_pipe[2];
static int connection = -1;

static void AtExit(void) {
  if (write(handler_pipe[1], "h", 1) != 1) _exit(9);
}

static void* Last(void* argument) {
  (void)argument;
  usleep(300000);
  if (connection >= 0 && write(connection, "late", 4) != 4) _exit(8);
  return NULL;
}

static void* First(void* argument) {
  (void)argument;
  return NULL;
}

static void Child(int threads) {
  atexit(AtExit);
  struct pollfd entry = {connection, POLLIN, 0};
  poll(&entry, 1, 20);  // under the library, the process has a thread more from here on
  pthread_t thread;
  for (int i = 0; i < threads; ++i) {
    pthread_create(&thread, NULL, i == 0 ? Last : First, NULL);
    pthread_detach(thread);
  }
  pthread_exit(NULL);
}

static void See1(const char* what, int threads) {
  Note("-- %s", what);
  Must("pipe", pipe(handler_pipe));
  fflush(stdout);
  int64_t start = Milliseconds();
  pid_t child = fork();
  if (child == 0) Child(threads);
  int status = -1;
  waitpid(child, &status, 0);
  int64_t took = Milliseconds() - start;
  See("status", status);
  SeeBool("it ended with its last thread", took < (threads == 0 ? 250 : 1000));
  char byte = 0;
  See("the handler's word", read(handler_pipe[0], &byte, 1));
  close(handler_pipe[0]);
  close(handler_pipe[1]);
}

int main(void) {
  See1("no socket", 1);
  connection = Connected("l", kPort);
  See1("the main thread is the last", 0);
  See1("one more thread", 1);
  See1("three more threads", 3);
  SeePeer("recv l 8");
  close(connection);
  return 0;
}
