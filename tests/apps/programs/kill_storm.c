// kill_storm ADDRESS PEER PEER_PORT KILLS SEED: three workers talk over the stack without pause, among
// themselves (ADDRESS) and with an echo server on the kernel (PEER); one after the other is killed at
// a random instant and replaced. The parent's own connections must go on. Prints
// "kills N answered N", or says after how many kills the stack was lost or stood still.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kWorkers = 3, kBlock = 6000, kLost = 3, kStuck = 4, kWrong = 5, kSeconds = 10 };

static struct sockaddr_in own, peer;

static void Die(const char* what, int status) {
  if (errno == ENETDOWN) status = kLost;
  printf("%s: %s\n", what, strerror(errno));
  fflush(stdout);
  _exit(status);
}

static long Need(const char* what, long result) {
  if (result < 0) Die(what, kWrong);
  return result;
}

// A new connection with ourselves over `address`: both ends.
static int Pair(struct sockaddr_in address, int ends[2]) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  socklen_t length = sizeof address;
  address.sin_port = 0;
  if (listener < 0 || bind(listener, (struct sockaddr*)&address, length) != 0 ||
      listen(listener, 4) != 0 ||
      getsockname(listener, (struct sockaddr*)&address, &length) != 0) {
    return -1;
  }
  ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  if (ends[0] < 0 || connect(ends[0], (struct sockaddr*)&address, length) != 0) return -1;
  ends[1] = accept(listener, NULL, NULL);
  close(listener);
  return ends[1] < 0 ? -1 : 0;
}

static int Dial(const struct sockaddr_in* to) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr*)to, sizeof *to) != 0) {
    close(fd);
    fd = -1;
  }
  return fd;
}

static int Exchange(int to, int from, size_t size) {
  static char out[kBlock], in[kBlock];
  memset(out, (int)(size % 251), size);
  if (write(to, out, size) != (ssize_t)size) return -1;
  for (size_t got = 0; got < size;) {
    struct pollfd entry = {from, POLLIN, 0};
    int ready = poll(&entry, 1, kSeconds * 1000);
    if (ready == 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    ssize_t n = read(from, in + got, size - got);
    if (n <= 0) return -1;
    got += (size_t)n;
  }
  return memcmp(in, out, size) == 0 ? 0 : -1;
}

// What goes wrong here is no matter: the next round begins anew. Only a lost stack is told.
static void Work(unsigned seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    int ends[2] = {-1, -1};
    int outside = Dial(&peer);
    int datagram = socket(AF_INET, SOCK_DGRAM, 0);
    if (datagram < 0 && errno == ENETDOWN) _exit(kLost);
    if (Pair(own, ends) == 0) {
      for (int i = 0; i < 8; ++i) {
        size_t size = 1 + (size_t)rand_r(&seed) % kBlock;
        if (Exchange(ends[i & 1], ends[~i & 1], size) != 0) break;
        sendto(datagram, "x", 1, 0, (struct sockaddr*)&peer, sizeof peer);
        if (outside >= 0 && Exchange(outside, outside, size) != 0) break;
      }
    }
    close(datagram);
    close(outside);
    close(ends[rand_r(&seed) & 1]);
    close(ends[0]);
    close(ends[1]);
  }
}

static pid_t Start(unsigned seed) {
  pid_t child = fork();
  if (child == 0) Work(seed);
  return child;
}

int main(int count, char** arguments) {
  if (count != 6) return 2;
  own.sin_family = peer.sin_family = AF_INET;
  inet_pton(AF_INET, arguments[1], &own.sin_addr);
  inet_pton(AF_INET, arguments[2], &peer.sin_addr);
  peer.sin_port = htons((uint16_t)atoi(arguments[3]));
  int kills = atoi(arguments[4]);
  unsigned seed = (unsigned)atoi(arguments[5]);
  signal(SIGPIPE, SIG_IGN);
  int ends[2];
  Need("a connection with itself", Pair(own, ends));
  int outside = (int)Need("a connection with the peer", Dial(&peer));
  pid_t workers[kWorkers];
  for (int i = 0; i < kWorkers; ++i) workers[i] = Start(seed + (unsigned)i);
  for (int i = 0; i < kills; ++i) {
    usleep((unsigned)rand_r(&seed) % 4000);
    int victim = rand_r(&seed) % kWorkers;
    kill(workers[victim], SIGKILL);
    waitpid(workers[victim], NULL, 0);
    char what[64];
    snprintf(what, sizeof what, "after %d kills", i + 1);
    size_t size = 1 + (size_t)rand_r(&seed) % kBlock;
    if (Exchange(ends[0], ends[1], size) != 0) Die(what, kStuck);
    if (Exchange(outside, outside, size) != 0) Die(what, kStuck);
    workers[victim] = Start(seed);
    if (workers[victim] < 0) Die("fork", kWrong);
  }
  for (int i = 0; i < kWorkers; ++i) kill(workers[i], SIGKILL);
  printf("kills %d answered %d\n", kills, kills);
  return 0;
}
