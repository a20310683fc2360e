// batch_server serve ADDRESS PORT THREADS MODE FIFO: threads that work off batches of events. MODE
// own: each has its epoll instance, with the listener in all of them (EPOLLEXCLUSIVE); shared: all
// wait on one, and a connection is one thread's at a time (EPOLLONESHOT). A request is eight bytes,
// and so is the reply. Its first says what the thread does when it has answered all of its batch,
// before it asks for the next: '.' nothing, 'r' reads a file, 'n' sleeps, 'm' takes a mutex that
// another thread holds, 'f', 'v', 's' waits for a child (of fork, vfork, posix_spawn), 'x' ends,
// each until the client has written to FIFO; 'e' exit, 'E' exec.
//
// batch_server ask ADDRESS PORT CONNECTIONS MODE SEED FIFO: the client. It writes to FIFO when the
// reply has come: what the library holds back for the end of the batch must not wait for the
// thread's next call, because that waits for the reply. Prints "asked N".
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMost = 64, kEvents = 32, kSize = 8, kPatience = 10000, kWarm = 14, kTurns = 6, kFocus = 8 };

static int fifo, listener, shared_epoll = -1, commands[2];
static struct sockaddr_in name;
static pthread_t threads[kMost];
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static sem_t taken;
static volatile int sleep_on[kMost];

static long Need(const char* what, long result) {
  if (result >= 0) return result;
  printf("%s: %s\n", what, strerror(errno));
  fflush(stdout);
  _exit(1);
}

static void AwaitClient(void) {
  char byte;
  Need("FIFO", read(fifo, &byte, 1));
}

static void Wait(pid_t child) { Need("waitpid", waitpid(child, NULL, 0)); }

static void Tell(char what, long thread) {
  char command[2] = {what, (char)thread};
  Need("command", write(commands[1], command, 2));
}

static void Spawn(void) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fifo, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  char* arguments[] = {"head", "-c1", NULL};
  pid_t child;
  if (posix_spawn(&child, "/usr/bin/head", &actions, NULL, arguments, environ) == 0) Wait(child);
  posix_spawn_file_actions_destroy(&actions);
}

// No call into the stack in here.
static void Pause(char what, long thread) {
  const struct timespec nap = {0, 20000000};
  pid_t child;
  switch (what) {
    case 'r':
      AwaitClient();
      break;
    case 'n':
      sleep_on[thread] = 1;
      Tell('n', thread);
      while (sleep_on[thread]) nanosleep(&nap, NULL);
      break;
    case 'm':
      Tell('m', thread);
      pthread_mutex_lock(&held);
      pthread_mutex_unlock(&held);
      sem_post(&taken);
      break;
    case 'f':
      child = fork();
      if (child == 0) {
        AwaitClient();
        _exit(0);
      }
      Wait(child);
      break;
    case 'v':
      child = vfork();
      if (child == 0) {
        char byte;
        _exit(read(fifo, &byte, 1) == 1 ? 0 : 1);
      }
      Wait(child);
      break;
    case 's':
      Spawn();
      break;
    case 'x':
      Tell('x', thread);
      pthread_exit(NULL);
    case 'e':
      exit(0);
    case 'E':
      // Without the library, so that nobody is left who could send.
      execle("/bin/true", "true", NULL, (char*[]){NULL});
      _exit(1);
  }
}

static void Add(int epoll, int operation, int fd, uint32_t events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  Need("epoll_ctl", epoll_ctl(epoll, operation, fd, &event));
}

static void Accept(int epoll, uint32_t events) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  if (fd < 0) return;
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Add(epoll, EPOLL_CTL_ADD, fd, events);
}

static void* Serve(void* argument) {
  long me = (long)argument;
  int shared = shared_epoll >= 0;
  int epoll = shared ? shared_epoll : (int)Need("epoll_create1", epoll_create1(0));
  uint32_t interest = shared ? EPOLLIN | EPOLLONESHOT : EPOLLIN;
  if (!shared) Add(epoll, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE);
  while (listener >= 0) {
    struct epoll_event events[kEvents];
    int count = epoll_wait(epoll, events, kEvents, -1);
    char then = '.';
    for (int i = 0; i < count; ++i) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        Accept(epoll, interest);
        if (shared) Add(epoll, EPOLL_CTL_MOD, listener, interest);
        continue;
      }
      char request[kSize];
      ssize_t n = read(fd, request, kSize);
      if (n <= 0) {
        close(fd);
        continue;
      }
      if (request[0] != '.') then = request[0];
      request[1] = (char)me;
      Need("reply", write(fd, request, (size_t)n));
      if (shared) Add(epoll, EPOLL_CTL_MOD, fd, interest);
    }
    Pause(then, me);
  }
  return NULL;
}

static void Listen(void) {
  int on = 1;
  listener = (int)Need("socket", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  Need("bind", bind(listener, (struct sockaddr*)&name, sizeof name));
  Need("listen", listen(listener, 128));
}

static int Server(int count, int shared) {
  Need("pipe", pipe(commands));
  sem_init(&taken, 0, 0);
  pthread_mutex_lock(&held);
  Listen();
  if (shared) {
    shared_epoll = (int)Need("epoll_create1", epoll_create1(0));
    Add(shared_epoll, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLONESHOT);
  }
  for (long i = 0; i < count; ++i) pthread_create(&threads[i], NULL, Serve, (void*)i);
  while (listener >= 0) {
    char command[2];
    Need("command", read(commands[0], command, 2));
    long thread = command[1];
    if (command[0] == 'x') pthread_join(threads[thread], NULL);
    AwaitClient();
    if (command[0] == 'n') sleep_on[thread] = 0;
    if (command[0] == 'm') {
      pthread_mutex_unlock(&held);
      sem_wait(&taken);
      pthread_mutex_lock(&held);
    }
    if (command[0] == 'x') pthread_create(&threads[thread], NULL, Serve, (void*)thread);
  }
  return 0;
}

static int fds[kMost], served_by[kMost];
static unsigned char next[kMost];

static void Ask(int i, char what) {
  char request[kSize] = {what, 0, (char)i, (char)++next[i]};
  if (send(fds[i], request, kSize, MSG_NOSIGNAL) != kSize) Need("request", -1);
}

static void Await(int i, char what) {
  struct pollfd entry = {fds[i], POLLIN, 0};
  char reply[kSize];
  if (poll(&entry, 1, kPatience) != 1) {
    printf("no reply to '%c' on connection %d of thread %d\n", what, i, served_by[i]);
    exit(1);
  }
  ssize_t n = recv(fds[i], reply, kSize, MSG_WAITALL);
  if (n != kSize || reply[0] != what || reply[2] != (char)i || reply[3] != (char)next[i]) {
    printf("a wrong reply to '%c' on connection %d: %zd bytes\n", what, i, n);
    exit(1);
  }
  served_by[i] = reply[1];
}

// Everybody in `chosen` at once, `special` with `what`, which is sent with the others and whose
// reply lets the server go on.
static void Round(const int* chosen, int count, int special, char what) {
  for (int i = 0; i < count; ++i) Ask(chosen[i], i == special ? what : '.');
  if (special >= 0) {
    Await(chosen[special], what);
    if (what == 'e' || what == 'E') return;
    Need("FIFO", write(fifo, "x", 1));
  }
  for (int i = 0; i < count; ++i) {
    if (i != special) Await(chosen[i], '.');
  }
}

// Those of one thread, where a connection stays with one.
static int Choose(int count, int shared, unsigned* seed, int* chosen) {
  int first = rand_r(seed) % count, found = 0;
  for (int i = 0; i < count && found < kFocus; ++i) {
    int at = (first + i) % count;
    if (shared || served_by[at] == served_by[first]) chosen[found++] = at;
  }
  return found;
}

static int Client(int count, int shared, unsigned seed) {
  int all[kMost], chosen[kMost], asked = 0, on = 1;
  for (int i = 0; i < count; ++i) {
    all[i] = i;
    fds[i] = (int)Need("socket", socket(AF_INET, SOCK_STREAM, 0));
    Need("connect", connect(fds[i], (struct sockaddr*)&name, sizeof name));
    setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  for (int turn = 0; turn < kTurns; ++turn) {
    for (const char* what = "rnmfvsx"; *what != 0; ++what, ++asked) {
      // An instance of a thread that has ended serves nobody any more.
      if (*what == 'x' && !shared) continue;
      for (int i = 0; i < kWarm; ++i) Round(all, count, -1, '.');
      int n = Choose(count, shared, &seed, chosen);
      for (int i = 0; i < kWarm; ++i) Round(chosen, n, -1, '.');
      Round(chosen, n, rand_r(&seed) % n, *what);
    }
  }
  const char last = shared ? 'x' : (seed & 1) != 0 ? 'e' : 'E';
  int n = Choose(count, shared, &seed, chosen);
  for (int i = 0; i < kWarm; ++i) Round(chosen, n, -1, '.');
  Round(chosen, n, rand_r(&seed) % n, last);
  printf("asked %d\n", asked + 1);
  return 0;
}

int main(int count, char** arguments) {
  if (count < 7) return 2;
  int shared = strcmp(arguments[5], "shared") == 0;
  name.sin_family = AF_INET;
  name.sin_port = htons((uint16_t)atoi(arguments[3]));
  inet_pton(AF_INET, arguments[2], &name.sin_addr);
  fifo = (int)Need("FIFO", open(arguments[count - 1], O_RDWR | O_CLOEXEC));
  if (strcmp(arguments[1], "serve") == 0) return Server(atoi(arguments[4]), shared);
  return Client(atoi(arguments[4]), shared, (unsigned)atoi(arguments[6]));
}
