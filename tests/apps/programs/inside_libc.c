// What libc does inside itself, where no exported symbol is called: streams and dprintf on a
// socket, the list of interfaces, signal(), popen. inside_libc ADDRESS PORT.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int Connect(const char* host, const char* port) {
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  struct addrinfo* found = NULL;
  if (getaddrinfo(host, port, &hints, &found) != 0) exit(3);
  const int s = socket(found->ai_family, found->ai_socktype, 0);
  if (s < 0 || connect(s, found->ai_addr, found->ai_addrlen) != 0) exit(4);
  freeaddrinfo(found);
  return s;
}

static volatile int signalled = 0;
static void Note(int number) { signalled = number; }

int main(int argc, char** argv) {
  char line[256];
  if (argc != 3) return 2;
  const int s = Connect(argv[1], argv[2]);
  FILE* reader = fdopen(s, "r");
  FILE* writer = fdopen(dup(s), "w");
  fprintf(writer, "GET / HTTP/1.0\r\n");
  fputs("\r\n", writer);
  if (fflush(writer) != 0 || fgets(line, sizeof line, reader) == NULL) return 5;
  printf("stream %.8s\n", line);
  fclose(writer);
  fclose(reader);
  const int t = Connect(argv[1], argv[2]);
  if (dprintf(t, "GET / HTTP/1.%d\r\n\r\n", 0) <= 0 || read(t, line, sizeof line) <= 8) return 6;
  printf("dprintf %.8s\n", line);
  struct ifaddrs* list = NULL;
  if (getifaddrs(&list) != 0) return 7;
  for (struct ifaddrs* i = list; i != NULL; i = i->ifa_next) {
    if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET) continue;
    printf("address %s\n", inet_ntoa(((struct sockaddr_in*)i->ifa_addr)->sin_addr));
  }
  freeifaddrs(list);
  signal(SIGUSR1, Note);
  raise(SIGUSR1);
  FILE* child = popen("echo child", "r");
  if (child == NULL || fgets(line, sizeof line, child) == NULL || pclose(child) != 0) return 8;
  printf("signal %d, %s", signalled == SIGUSR1, line);
  return 0;
}
