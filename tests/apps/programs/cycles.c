// Connect and close, again and again: `cycles client ADDRESS PORT COUNT` connects, reads to the
// end, closes; `cycles server ADDRESS PORT COUNT` accepts, writes one byte, closes. At first,
// after half and at the end it prints its resident memory (KiB) and its number of descriptors.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Not VmRSS of /proc/self/status, which proc(5) calls inaccurate (how much depends on the kernel).
static void Report(long done) {
  int descriptors = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != NULL) ++descriptors;
  closedir(directory);
  long resident = 0;
  char line[128];
  FILE* memory = fopen("/proc/self/smaps_rollup", "r");
  while (fgets(line, sizeof line, memory) != NULL) sscanf(line, "Rss: %ld", &resident);
  fclose(memory);
  printf("after %ld: resident %ld descriptors %d\n", done, resident, descriptors);
  fflush(stdout);
}

static int Client(const struct sockaddr_in* name) {
  char buffer[16];
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  if (connect(fd, (const struct sockaddr*)name, sizeof *name) != 0 || read(fd, buffer, 16) != 1 ||
      read(fd, buffer, 16) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return close(fd);
}

static int Server(int listener) {
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) return -1;
  if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) return -1;
  return close(fd);
}

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  long count = atol(argv[4]), failed = 0;
  int is_server = strcmp(argv[1], "server") == 0, listener = -1, on = 1;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
  inet_pton(AF_INET, argv[2], &name.sin_addr);
  if (is_server) {
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr*)&name, sizeof name) != 0 || listen(listener, 1024) != 0) {
      perror("listen");
      return 1;
    }
  }
  Report(0);  // what the report itself touches is not growth
  for (long i = 1; i <= count; ++i) {
    if ((is_server ? Server(listener) : Client(&name)) != 0 && ++failed <= 5) {
      fprintf(stderr, "cycle %ld: %s\n", i, strerror(errno));
    }
    if (i == count / 2 || i == count) Report(i);
  }
  printf("failed %ld\n", failed);
  return failed == 0 ? 0 : 1;
}
