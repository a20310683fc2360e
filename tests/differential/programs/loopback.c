// Conversations of a program with itself: over its own address, over loopback, between threads and
// processes; self-connect; simultaneous shutdown.
#include <pthread.h>

#include "observe.h"

enum { kPort = 5330, kSize = 2 << 20 };

static void* Echo(void* argument) {
  int listener = *(int*)argument;
  int fd = accept(listener, NULL, NULL);
  static char buffer[65536];
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0) WriteAll(fd, buffer, (size_t)got);
  close(fd);
  return NULL;
}

static void Itself(const char* address, int port) {
  char label[64];
  int listener = Listener(address, port, 4);
  pthread_t thread;
  pthread_create(&thread, NULL, Echo, &listener);
  int fd = Socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM);
  snprintf(label, sizeof label, "connect to %s", address);
  SeeOk(label, Connect(fd, address, port));
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress("name", &name, 0, length, false);
  pid_t writer = fork();
  static char data[kSize], back[kSize];
  Fill(data, kSize, 0, 11);
  if (writer == 0) {
    _exit(WriteAll(fd, data, kSize) == kSize ? 0 : 1);
  }
  Note("echoed: %ld", (long)ReadAll(fd, back, kSize));
  SeeBool("equal", memcmp(data, back, kSize) == 0);
  waitpid(writer, NULL, 0);
  shutdown(fd, SHUT_WR);
  See("end", read(fd, back, 1));
  pthread_join(thread, NULL);
  close(fd);
  fd = Socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM);
  snprintf(label, sizeof label, "a closed port of %s", address);
  SeeOk(label, Connect(fd, address, port + 1));
  close(fd);
  close(listener);
}

static void Datagrams(const char* address) {
  int family = strchr(address, ':') ? AF_INET6 : AF_INET;
  int a = Socket(family, SOCK_DGRAM), b = Socket(family, SOCK_DGRAM);
  char buffer[32];
  Must("bind", Bind(a, address, kPort + 5));
  Must("bind", Bind(b, address, kPort + 6));
  Must("connect", Connect(a, address, kPort + 6));
  Must("connect", Connect(b, address, kPort + 5));
  See("send", send(a, "to myself", 9, 0));
  SeeData("recv", buffer, recv(b, buffer, sizeof buffer, 0));
  close(b);
  See("send to nobody", send(a, "x", 1, 0));
  Await(a, POLLERR);
  See("refused", recv(a, buffer, 8, 0));
  close(a);
}

static void SelfConnect(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  Must("bind", Bind(fd, SELF4, kPort + 7));
  SeeOk("a socket connects to itself", Connect(fd, SELF4, kPort + 7));
  char buffer[8];
  See("write", write(fd, "me", 2));
  SeeData("read", buffer, read(fd, buffer, 8));
  close(fd);
}

static void Pairs(void) {
  // Non-blocking from both ends in one thread, as event loops do.
  int listener = Listener("127.0.0.1", kPort + 8, 4);
  int a = Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  int result = Connect(a, "127.0.0.1", kPort + 8);
  SeeBool("connect", result == 0 || errno == EINPROGRESS);
  int b = (int)Must("accept", accept(listener, NULL, NULL));
  Await(a, POLLOUT);
  PollOne("both ends writable", b, POLLOUT, 0);
  See("write", write(a, "ping", 4));
  char buffer[8];
  SeeData("read", buffer, read(b, buffer, 8));
  close(a);
  PollOne("the other end closed", b, POLLIN | POLLRDHUP, 2000);
  See("read", read(b, buffer, 8));
  close(b);
  close(listener);
}

int main(void) {
  Itself(SELF4, kPort);
  Itself("127.0.0.1", kPort);
  Itself(SELF6, kPort + 2);
  Itself("::1", kPort + 2);
  Datagrams(SELF4);
  Datagrams("127.0.0.1");
  Datagrams("::1");
  SelfConnect();
  Pairs();
  return 0;
}
