// kill_storm ADDRESS PEER PEER_PORT KILLS SEED FILE: three workers talk over the stack without
// pause, among themselves (ADDRESS) and with an echo server on the kernel (PEER); one after the
// other is killed at a random instant and replaced. The parent's own connections must go on. Prints
// "kills N answered N", or says after how many kills the stack was lost or stood still, or that a
// worker received wrong bytes.
// A worker is of one of two kinds, as its seed says: it exchanges small blocks, or has up to four
// connections with the mirror (PEER_PORT + 1), each with a thread that sends FILE again and again
// (sendfile, or large writes) and one that waits in large reads.
// kill_storm mirror ADDRESS PORT: sends back what it receives, in as large pieces.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kWorkers = 3, kBlock = 6000, kLost = 3, kStuck = 4, kWrong = 5, kSeconds = 10 };
enum { kStreams = 4, kFile = 1 << 20, kRead = 200000 };

static struct sockaddr_in own, peer, mirror;
static int file;
static char content[kFile];

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

// A new connection with ourselves over `address`: both ends, which the caller closes in any case.
static int Pair(struct sockaddr_in address, int ends[2]) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  socklen_t length = sizeof address;
  address.sin_port = 0;
  int ready = listener >= 0 && bind(listener, (struct sockaddr*)&address, length) == 0 &&
              listen(listener, 4) == 0 &&
              getsockname(listener, (struct sockaddr*)&address, &length) == 0;
  if (ready) ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  if (ready && ends[0] >= 0 && connect(ends[0], (struct sockaddr*)&address, length) == 0) {
    ends[1] = accept(listener, NULL, NULL);
  }
  int error = errno;
  if (listener >= 0) close(listener);
  errno = error;
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
    if ((rand_r(&seed) & 1) != 0) {
      close(ends[1]);
      ends[1] = -1;
    }
    close(ends[0]);
    close(ends[1]);
  }
}

static void* SendFile(void* argument) {
  int fd = (int)(long)argument;
  for (;;) {
    off_t from = 0;
    while (from < kFile) {
      if (sendfile(fd, file, &from, (size_t)(kFile - from)) < 0) {
        if (errno == ENETDOWN) _exit(kLost);
        shutdown(fd, SHUT_RDWR);
        return NULL;
      }
    }
  }
}

static void* WriteLarge(void* argument) {
  int fd = (int)(long)argument;
  unsigned seed = (unsigned)fd;
  for (size_t at = 0;;) {
    size_t most = 1 + (size_t)rand_r(&seed) % (2 * kRead);
    if (most > kFile - at) most = kFile - at;
    ssize_t n = send(fd, content + at, most, MSG_NOSIGNAL);
    if (n < 0 && errno == ENETDOWN) _exit(kLost);
    if (n <= 0) break;
    at = (at + (size_t)n) % kFile;
  }
  shutdown(fd, SHUT_RDWR);
  return NULL;
}

// Every byte must be the file's, at its place, however the reads are cut.
static void* ReadBack(void* argument) {
  int fd = (int)(long)argument;
  unsigned seed = (unsigned)fd;
  char* memory = malloc(kRead);
  for (size_t at = 0;;) {
    ssize_t n = recv(fd, memory, kRead - (size_t)rand_r(&seed) % (kRead / 2), 0);
    if (n < 0 && errno == ENETDOWN) _exit(kLost);
    if (n <= 0) break;
    for (size_t done = 0; done < (size_t)n;) {
      size_t part = (size_t)n - done < kFile - at ? (size_t)n - done : kFile - at;
      if (memcmp(memory + done, content + at, part) != 0) _exit(kWrong);
      done += part;
      at = (at + part) % kFile;
    }
  }
  free(memory);
  return NULL;
}

static void Stream(unsigned seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int count = 1 << (rand_r(&seed) % 3);
  for (;;) {
    pthread_t threads[2 * kStreams];
    int fds[kStreams];
    for (int i = 0; i < count; ++i) {
      fds[i] = Dial(&mirror);
      pthread_create(&threads[2 * i], NULL, i % 2 == 0 ? WriteLarge : SendFile,
                     (void*)(long)fds[i]);
      pthread_create(&threads[2 * i + 1], NULL, ReadBack, (void*)(long)fds[i]);
    }
    for (int i = 0; i < 2 * count; ++i) pthread_join(threads[i], NULL);
    for (int i = 0; i < count; ++i) close(fds[i]);
    usleep(1000);
  }
}

static void* Reflect(void* argument) {
  int fd = (int)(long)argument;
  char* memory = malloc(kRead);
  for (ssize_t n; (n = recv(fd, memory, kRead, 0)) > 0;) {
    for (ssize_t done = 0, put; done < n; done += put) {
      put = send(fd, memory + done, (size_t)(n - done), MSG_NOSIGNAL);
      if (put <= 0) break;
    }
  }
  free(memory);
  close(fd);
  return NULL;
}

static int Mirror(const char* address, const char* port) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, address, &name.sin_addr);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr*)&name, sizeof name) != 0 || listen(listener, 64) != 0) {
    perror("mirror");
    return 1;
  }
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    pthread_t thread;
    if (fd >= 0 && pthread_create(&thread, NULL, Reflect, (void*)(long)fd) == 0) {
      pthread_detach(thread);
    }
  }
}

static void ReadContent(const char* path) {
  file = (int)Need("FILE", open(path, O_RDONLY));
  if (pread(file, content, kFile, 0) != kFile) Die("FILE is too short", kWrong);
}

static void Timed(const char* what, int to, int from, size_t size) {
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  if (Exchange(to, from, size) != 0) Die(what, kStuck);
  clock_gettime(CLOCK_MONOTONIC, &end);
  long took = (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;
  if (took >= 1000) fprintf(stderr, "%s: %ld ms\n", what, took);
}

static pid_t Start(unsigned seed) {
  pid_t child = fork();
  if (child == 0 && rand_r(&seed) % 2 != 0) Stream(seed);
  if (child == 0) Work(seed);
  return child;
}

// Says what it had found if it ended by itself.
static void Kill(pid_t worker) {
  int status = 0;
  kill(worker, SIGKILL);
  waitpid(worker, &status, 0);
  if (!WIFEXITED(status) && WTERMSIG(status) == SIGKILL) return;
  printf("a worker ended by itself: status 0x%x\n", status);
  fflush(stdout);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : kWrong);
}

int main(int count, char** arguments) {
  if (count == 4 && strcmp(arguments[1], "mirror") == 0) return Mirror(arguments[2], arguments[3]);
  if (count != 7) return 2;
  own.sin_family = peer.sin_family = AF_INET;
  inet_pton(AF_INET, arguments[1], &own.sin_addr);
  inet_pton(AF_INET, arguments[2], &peer.sin_addr);
  peer.sin_port = htons((uint16_t)atoi(arguments[3]));
  mirror = peer;
  mirror.sin_port = htons((uint16_t)(atoi(arguments[3]) + 1));
  ReadContent(arguments[6]);
  int kills = atoi(arguments[4]);
  unsigned seed = (unsigned)atoi(arguments[5]);
  signal(SIGPIPE, SIG_IGN);
  int ends[2] = {-1, -1};
  Need("a connection with itself", Pair(own, ends));
  int outside = (int)Need("a connection with the peer", Dial(&peer));
  pid_t workers[kWorkers];
  for (int i = 0; i < kWorkers; ++i) workers[i] = Start(seed + (unsigned)i);
  for (int i = 0; i < kills; ++i) {
    usleep((unsigned)rand_r(&seed) % 4000);
    int victim = rand_r(&seed) % kWorkers;
    Kill(workers[victim]);
    char what[64];
    size_t size = 1 + (size_t)rand_r(&seed) % kBlock;
    snprintf(what, sizeof what, "after %d kills, inside", i + 1);
    Timed(what, ends[0], ends[1], size);
    snprintf(what, sizeof what, "after %d kills, with the peer", i + 1);
    Timed(what, outside, outside, size);
    workers[victim] = Start(seed);
    if (workers[victim] < 0) Die("fork", kWrong);
  }
  for (int i = 0; i < kWorkers; ++i) Kill(workers[i]);
  printf("kills %d answered %d\n", kills, kills);
  return 0;
}
