// Small things that the tests of bad input do: `probe socket` says what socket() gives; `probe
// connect ADDRESS PORT` what a connection gives; `probe map HEX` maps a page at an address first
// and then does as `socket`; `probe exhaust ADDRESS PORT` connects, makes sockets until no more can
// be made, and looks whether the connection still lives and whether sockets can be made again
// afterwards; `probe hold ADDRESS PORT` connects and waits for the end of stdin.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char* Result(long value) { return value >= 0 ? "ok" : strerrorname_np(errno); }

static int Socket(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  printf("socket: %s\n", Result(fd));
  int second = socket(AF_INET6, SOCK_DGRAM, 0);
  printf("second: %s\n", Result(second));
  return 0;
}

static int Connect(const char* address, const char* port) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, address, &name.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) {
    printf("socket: %s\n", Result(fd));
    return -1;
  }
  int result = connect(fd, (struct sockaddr*)&name, sizeof name);
  printf("connect: %s\n", Result(result));
  fflush(stdout);
  return result == 0 ? fd : -1;
}

static int Map(const char* where) {
  void* wanted = (void*)strtoull(where, NULL, 16);
  void* got = mmap(wanted, 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  printf("map: %s\n", got == wanted ? "ok" : "taken");
  strcpy(got, "mine");
  Socket();
  printf("page: %s\n", (char*)got);
  return 0;
}

// Echo of the peer: is the connection alive?
static int Alive(int fd) {
  char buffer[8] = "";
  return send(fd, "ping", 4, MSG_NOSIGNAL) == 4 && recv(fd, buffer, 4, MSG_WAITALL) == 4 &&
         memcmp(buffer, "ping", 4) == 0;
}

static int Exhaust(const char* address, const char* port) {
  enum { kMost = 60000 };
  static int fds[kMost];
  struct rlimit limit = {65536, 65536};
  setrlimit(RLIMIT_NOFILE, &limit);
  int old = Connect(address, port), count = 0;
  if (old < 0) return 1;
  printf("old connection before: %s\n", Alive(old) ? "alive" : "dead");
  while (count < kMost) {
    fds[count] = socket(AF_INET, SOCK_STREAM, 0);
    if (fds[count] < 0) break;
    ++count;
  }
  if (count < kMost) printf("new sockets: %s\n", Result(-1));
  fprintf(stderr, "%d sockets\n", count);
  printf("old connection while exhausted: %s\n", Alive(old) ? "alive" : "dead");
  for (int i = 0; i < count; ++i) close(fds[i]);
  printf("old connection afterwards: %s\n", Alive(old) ? "alive" : "dead");
  int again = Connect(address, port);
  printf("new connection: %s\n", again >= 0 && Alive(again) ? "alive" : "dead");
  return 0;
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc == 2 && strcmp(argv[1], "socket") == 0) return Socket();
  if (argc == 4 && strcmp(argv[1], "connect") == 0) return Connect(argv[2], argv[3]) < 0;
  if (argc == 3 && strcmp(argv[1], "map") == 0) return Map(argv[2]);
  if (argc == 4 && strcmp(argv[1], "exhaust") == 0) return Exhaust(argv[2], argv[3]);
  if (argc == 4 && strcmp(argv[1], "hold") == 0) {
    char buffer[8];
    if (Connect(argv[2], argv[3]) < 0) return 1;
    return read(0, buffer, sizeof buffer) == 0 ? 0 : 1;
  }
  return 64;
}
