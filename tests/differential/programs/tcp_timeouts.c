// SO_RCVTIMEO and SO_SNDTIMEO on every kind of call, EINTR and SA_RESTART.
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/select.h>

#include "observe.h"

enum { kPort = 5080 };

static volatile sig_atomic_t alarms;
static void OnSignal(int number) {
  (void)number;
  ++alarms;
}

static void Handle(int flags) {
  struct sigaction action = {.sa_handler = OnSignal, .sa_flags = flags};
  sigaction(SIGUSR1, &action, NULL);
}

static pthread_t main_thread;
static pid_t main_id;
static atomic_bool about_to_block;

// Says that the next call is the one to be interrupted.
static void Begin(void) { atomic_store(&about_to_block, true); }

static bool IsAsleep(pid_t thread) {
  char path[64], state = 0;
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  FILE* file = fopen(path, "r");
  if (file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 0;
  if (file != NULL) fclose(file);
  return state == 'S';
}

// Not before that call sleeps, however late this machine lets it come there.
static void* SendSignal(void* delay) {
  usleep((useconds_t)(intptr_t)delay);
  for (int i = 0; i < 30000 && !(atomic_load(&about_to_block) && IsAsleep(main_id)); ++i) {
    usleep(1000);
  }
  atomic_store(&about_to_block, false);
  pthread_kill(main_thread, SIGUSR1);
  return NULL;
}

static pthread_t SignalIn(int microseconds) {
  pthread_t thread;
  pthread_create(&thread, NULL, SendSignal, (void*)(intptr_t)microseconds);
  return thread;
}

static void SetTimeout(int fd, int option, int milliseconds) {
  struct timeval limit = {milliseconds / 1000, milliseconds % 1000 * 1000};
  Must("SO_*TIMEO", setsockopt(fd, SOL_SOCKET, option, &limit, sizeof limit));
}

static void Timeouts(void) {
  int fd = Connected("a", kPort);
  char buffer[16];
  struct iovec part = {buffer, sizeof buffer};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  SetTimeout(fd, SO_RCVTIMEO, 120);
  int64_t start = Milliseconds();
  See("read", read(fd, buffer, 1));
  SeeBool("it waited", Milliseconds() - start >= 110);
  See("recv", recv(fd, buffer, 1, 0));
  See("recvfrom", recvfrom(fd, buffer, 1, 0, NULL, NULL));
  See("recvmsg", recvmsg(fd, &message, 0));
  See("readv", readv(fd, &part, 1));
  See("recv PEEK", recv(fd, buffer, 1, MSG_PEEK));
  PollOne("poll does not care", fd, POLLIN, 10);
  SetTimeout(fd, SO_RCVTIMEO, 2000);
  PeerMust("after 60 text a in time");
  SeeData("read in time", buffer, read(fd, buffer, sizeof buffer));
  PeerMust("wait");
  static char large[16 << 20];
  PeerMust("small_buffer a");
  SetTimeout(fd, SO_SNDTIMEO, 200);
  ssize_t sent = write(fd, large, sizeof large);
  SeeBool("a large write comes back short", sent > 0 && sent < (ssize_t)sizeof large);
  usleep(100000);
  while (send(fd, large, sizeof large, MSG_DONTWAIT) > 0) usleep(1000);
  start = Milliseconds();
  See("then nothing more", write(fd, large, 4096));
  SeeBool("it waited", Milliseconds() - start >= 190);
  close(fd);
}

static void Interrupted(int flags, const char* how) {
  char label[64];
  Handle(flags);
  alarms = 0;
  int fd = Connected("b", kPort + 1 + flags % 7);
  char buffer[16];
  pthread_t thread = SignalIn(80000);
  PeerMust("after 600 text b later");
  snprintf(label, sizeof label, "%s read", how);
  Begin();
  SeeData(label, buffer, read(fd, buffer, sizeof buffer));
  pthread_join(thread, NULL);
  PeerMust("wait");
  if (!(flags & SA_RESTART)) See("the rest", read(fd, buffer, sizeof buffer));
  Note("%s handlers: %d", how, (int)alarms);

  SetTimeout(fd, SO_RCVTIMEO, 2000);  // with a time-out, recv is never restarted
  thread = SignalIn(80000);
  snprintf(label, sizeof label, "%s read with a time-out", how);
  Begin();
  See(label, read(fd, buffer, sizeof buffer));
  pthread_join(thread, NULL);

  thread = SignalIn(80000);
  snprintf(label, sizeof label, "%s poll", how);
  struct pollfd entry = {fd, POLLIN, 0};
  Begin();
  See(label, poll(&entry, 1, 2000));
  pthread_join(thread, NULL);

  thread = SignalIn(80000);
  snprintf(label, sizeof label, "%s select", how);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  struct timeval limit = {2, 0};
  Begin();
  See(label, select(fd + 1, &set, NULL, NULL, &limit));
  pthread_join(thread, NULL);

  int epoll = epoll_create1(0);
  EpollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
  thread = SignalIn(80000);
  snprintf(label, sizeof label, "%s epoll_wait", how);
  struct epoll_event event;
  Begin();
  See(label, epoll_wait(epoll, &event, 1, 2000));
  pthread_join(thread, NULL);
  close(epoll);
  close(fd);

  int listener = Listener(SELF4, kPort + 9, 4);
  SetTimeout(listener, SO_RCVTIMEO, 2000);
  thread = SignalIn(80000);
  snprintf(label, sizeof label, "%s accept with a time-out", how);
  Begin();
  See(label, accept(listener, NULL, NULL));
  pthread_join(thread, NULL);
  SetTimeout(listener, SO_RCVTIMEO, 0);
  thread = SignalIn(80000);
  PeerMust("after 600 connect c %s %d", SELF4, kPort + 9);
  snprintf(label, sizeof label, "%s accept", how);
  Begin();
  SeeOk(label, accept(listener, NULL, NULL));
  pthread_join(thread, NULL);
  PeerMust("wait");
  close(listener);

  fd = Socket(AF_INET, SOCK_STREAM);
  SetInt(fd, IPPROTO_TCP, TCP_SYNCNT, 1);
  thread = SignalIn(80000);
  snprintf(label, sizeof label, "%s connect", how);
  Begin();
  SeeOk(label, Connect(fd, "10.78.0.1", 9));
  pthread_join(thread, NULL);
  snprintf(label, sizeof label, "%s connect again", how);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  SeeOk(label, Connect(fd, "10.78.0.1", 9));
  close(fd);

  fd = Connected("d", kPort + 8);
  PeerMust("small_buffer d");
  static char large[16 << 20];
  thread = SignalIn(300000);
  Begin();
  ssize_t sent = write(fd, large, sizeof large);
  pthread_join(thread, NULL);
  if (flags & SA_RESTART) {
    // The write was cut short all the same: bytes had been taken.
  }
  snprintf(label, sizeof label, "%s a large write comes back short", how);
  SeeBool(label, sent > 0 && sent < (ssize_t)sizeof large);
  close(fd);
}

int main(void) {
  main_thread = pthread_self();
  main_id = gettid();
  Timeouts();
  Interrupted(0, "plain");
  Interrupted(SA_RESTART, "restart");
  return 0;
}
