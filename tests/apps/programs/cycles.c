// Connect and close, again and again: `cycles client ADDRESS PORT COUNT` connects, reads to the
// end, closes; `cycles server ADDRESS PORT COUNT` accepts, writes one byte, closes. After a tenth
// and at the end it prints its resident memory (KiB) and its number of descriptors.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void Report(long done) {
  long resident = 0;
  char line[128];
  FILE* status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, status) != NULL) sscanf(line, "VmRSS: %ld", &resident);
  fclose(status);
  int descriptors = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != NULL) ++descriptors;
  closedir(directory);
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
  for (long i = 1; i <= count; ++i) {
    if ((is_server ? Server(listener) : Client(&name)) != 0 && ++failed <= 5) {
      fprintf(stderr, "cycle %ld: %s\n", i, strerror(errno));
    }
    if (i == count / 10 || i == count) Report(i);
  }
  printf("failed %ld\n", failed);
  return failed == 0 ? 0 : 1;
}
