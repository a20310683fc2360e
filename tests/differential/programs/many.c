// Many connections at once and one after the other, backlog overflow, many datagram sockets.
#include <sys/resource.h>

#include "observe.h"

enum { kPort = 5350, kCount = 300 };

static void AtOnce(void) {
  int listener = Listener(SELF4, kPort, kCount);
  int fds[kCount];
  PeerMust("connect_many a %d %s %d", kCount, SELF4, kPort);
  for (int i = 0; i < kCount; ++i) fds[i] = (int)Must("accept", accept(listener, NULL, NULL));
  int good = 0;
  for (int i = 0; i < kCount; ++i) {
    char text[16];
    int length = snprintf(text, sizeof text, "%d", i);
    if (write(fds[i], text, (size_t)length) == length) ++good;
  }
  Note("written: %d", good);
  good = 0;
  bool seen[kCount] = {false};
  for (int i = 0; i < kCount; ++i) {
    // The order of acceptance is the order of connection.
    char expected[32];
    int length = snprintf(expected, sizeof expected, "%d", i);
    const char* answer = Peer("recv a%d %d", i, length);
    int number = -1;
    if (sscanf(answer, "%*d '%d'", &number) == 1 && number >= 0 && number < kCount &&
        !seen[number]) {
      seen[number] = true;
      ++good;
    }
  }
  Note("distinct answers: %d", good);
  PeerMust("close_many a %d", kCount);
  good = 0;
  for (int i = 0; i < kCount; ++i) {
    char byte;
    if (read(fds[i], &byte, 1) == 0) ++good;
    close(fds[i]);
  }
  Note("ends: %d", good);
  close(listener);
}

static void Outgoing(void) {
  PeerMust("listen l %s %d", PEER4, kPort + 1);
  int good = 0;
  for (int i = 0; i < kCount; ++i) {
    int fd = Socket(AF_INET, SOCK_STREAM);
    if (Connect(fd, PEER4, kPort + 1) == 0) {
      Peer("accept l b");
      char buffer[4];
      if (write(fd, "hi", 2) == 2 && strcmp(Peer("recv b 2"), "2 'hi'") == 0 &&
          strcmp(Peer("text b yo"), "ok") == 0 && ReadAll(fd, buffer, 2) == 2) {
        ++good;
      }
      Peer("close b");
    }
    close(fd);
  }
  Note("one after the other: %d", good);
  int fds[100];
  for (int i = 0; i < 100; ++i) {
    fds[i] = Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    Connect(fds[i], PEER4, kPort + 1);
  }
  good = 0;
  for (int i = 0; i < 100; ++i) {
    struct pollfd entry = {fds[i], POLLOUT, 0};
    if (poll(&entry, 1, 5000) == 1 && SocketError(fds[i]) == 0) ++good;
  }
  Note("a hundred non-blocking connects: %d", good);
  for (int i = 0; i < 100; ++i) close(fds[i]);
}

static void Datagrams(void) {
  int fds[100], good = 0;
  PeerMust("udp u %s %d", PEER4, kPort + 2);
  for (int i = 0; i < 100; ++i) {
    fds[i] = Socket(AF_INET, SOCK_DGRAM);
    Must("bind", Bind(fds[i], SELF4, kPort + 100 + i));
    PeerMust("sendto u %s %d %d", SELF4, kPort + 100 + i, i);
  }
  for (int i = 0; i < 100; ++i) {
    char buffer[8] = "";
    if (recv(fds[i], buffer, sizeof buffer - 1, 0) > 0 && atoi(buffer) == i) ++good;
    close(fds[i]);
  }
  Note("datagrams to a hundred sockets: %d", good);
}

static void Backlog(void) {
  int listener = Listener(SELF4, kPort + 3, 1);
  // backlog + 1 come through; what goes beyond waits, and is served when there is room.
  PeerMust("connect x0 %s %d", SELF4, kPort + 3);
  PeerMust("connect x1 %s %d", SELF4, kPort + 3);
  SeePeer("pause 50");
  int good = 0;
  for (int i = 0; i < 2; ++i) {
    int fd = (int)Must("accept", accept(listener, NULL, NULL));
    if (write(fd, "served", 6) == 6) ++good;
    close(fd);
  }
  Note("served: %d", good);
  SeePeer("recv x0 6");
  SeePeer("recv x1 6");
  close(listener);
}

int main(void) {
  AtOnce();
  Outgoing();
  Datagrams();
  Backlog();
  return 0;
}
