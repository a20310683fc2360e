// UDP: unconnected, connected, connect again, disconnect, truncation, zero length, errors from
// ICMP, time-outs, large datagrams, shutdown.
#include "observe.h"

enum { kPort = 5200 };

static long SendTo(int fd, const char* address, int port, const char* text) {
  struct sockaddr_storage to;
  socklen_t length = Address(&to, address, port);
  return sendto(fd, text, strlen(text), 0, (struct sockaddr*)&to, length);
}

static void Unconnected(void) {
  int fd = Socket(AF_INET, SOCK_DGRAM);
  struct sockaddr_storage from;
  socklen_t length = sizeof from;
  char buffer[64];
  PollOne("fresh", fd, POLLIN | POLLOUT, 0);
  See("send without destination", send(fd, "x", 1, 0));
  See("write without destination", write(fd, "x", 1));
  See("recv DONTWAIT on a fresh one", recv(fd, buffer, 1, MSG_DONTWAIT));
  PeerMust("udp u %s %d", PEER4, kPort);
  See("sendto", SendTo(fd, PEER4, kPort, "hello"));
  getsockname(fd, (struct sockaddr*)&from, &length);
  SeeAddress("bound by sendto", &from, 0, length, false);
  SeePeer("recvfrom u");
  See("sendto once more", SendTo(fd, PEER4, kPort, "again"));
  SeePeer("reply u answer");
  length = sizeof from;
  long got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr*)&from, &length);
  SeeData("recvfrom", buffer, got);
  SeeAddress("from", &from, 0, length, true);
  length = 8;
  SendTo(fd, PEER4, kPort, "third");
  SeePeer("reply u fourth");
  got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr*)&from, &length);
  SeeData("recvfrom with a short name", buffer, got);
  Note("name length %u", length);
  close(fd);
}

static void Truncation(int fd, int port) {
  char buffer[64];
  struct sockaddr_storage from;
  socklen_t length;
  PeerMust("sendto t %s %d 0123456789", SELF4, port);
  PeerMust("sendto t %s %d abcdefghij", SELF4, port);
  PeerMust("sendto t %s %d ABCDEFGHIJ", SELF4, port);
  Await(fd, POLLIN);
  usleep(50000);
  int count = -1;
  See("FIONREAD", ioctl(fd, FIONREAD, &count));
  Note("FIONREAD: %d", count);
  memset(buffer, '.', sizeof buffer);
  SeeData("peek 4", buffer, recv(fd, buffer, 4, MSG_PEEK));
  See("peek 4 with TRUNC", recv(fd, buffer, 4, MSG_PEEK | MSG_TRUNC));
  SeeData("recv 4", buffer, recv(fd, buffer, 4, 0));
  See("recv 4 with TRUNC", recv(fd, buffer, 4, MSG_TRUNC));
  struct iovec part = {buffer, 3};
  struct msghdr message = {.msg_name = &from, .msg_namelen = 8, .msg_iov = &part, .msg_iovlen = 1};
  SeeData("recvmsg 3", buffer, recvmsg(fd, &message, 0));
  Note("flags %#x name length %u", (unsigned)message.msg_flags, message.msg_namelen);
  See("nothing left", recv(fd, buffer, 4, MSG_DONTWAIT));
  PeerMust("sendbytes t %s %d 0", SELF4, port);
  PollOne("an empty datagram is readable", fd, POLLIN, 5000);
  length = sizeof from;
  See("recv of an empty datagram", recvfrom(fd, buffer, 4, 0, (struct sockaddr*)&from, &length));
  Note("name length %u", length);
  PeerMust("sendto t %s %d zero", SELF4, port);
  Await(fd, POLLIN);
  See("recv into nothing", recv(fd, buffer, 0, 0));
  See("it is gone", recv(fd, buffer, 4, MSG_DONTWAIT));
}

static void ConnectedUdp(void) {
  PeerMust("udp c1 %s %d", PEER4, kPort + 2);
  PeerMust("udp c2 %s %d", PEER4, kPort + 3);
  int fd = Socket(AF_INET, SOCK_DGRAM);
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  char buffer[64];
  Must("bind", Bind(fd, SELF4, kPort + 4));
  See("getpeername before", getpeername(fd, (struct sockaddr*)&name, &length));
  SeeOk("connect", Connect(fd, PEER4, kPort + 2));
  length = sizeof name;
  long result = getpeername(fd, (struct sockaddr*)&name, &length);
  SeeAddress("peer", &name, result, length, true);
  See("send", send(fd, "to one", 6, 0));
  SeePeer("recvfrom c1");
  See("sendto another while connected", SendTo(fd, PEER4, kPort + 3, "to two"));
  SeePeer("recvfrom c2");
  PeerMust("sendto c2 %s %d filtered", SELF4, kPort + 4);
  PeerMust("sendto c1 %s %d wanted", SELF4, kPort + 4);
  SeeData("only the peer's arrive", buffer, recv(fd, buffer, sizeof buffer, 0));
  See("nothing more", recv(fd, buffer, sizeof buffer, MSG_DONTWAIT));
  SeeOk("connect to another", Connect(fd, PEER4, kPort + 3));
  PeerMust("sendto c2 %s %d now me", SELF4, kPort + 4);
  SeeData("from another", buffer, recv(fd, buffer, sizeof buffer, 0));
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  SeeOk("disconnect", connect(fd, &none, sizeof none));
  length = sizeof name;
  See("getpeername after", getpeername(fd, (struct sockaddr*)&name, &length));
  length = sizeof name;
  getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress("name after", &name, 0, length, true);
  See("send after", send(fd, "x", 1, 0));
  close(fd);
  fd = Socket(AF_INET, SOCK_DGRAM);
  Must("connect", Connect(fd, PEER4, kPort + 2));
  length = sizeof name;
  getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress("connect chooses", &name, 0, length, false);
  connect(fd, &none, sizeof none);
  length = sizeof name;
  getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress("disconnect forgets", &name, 0, length, false);
  close(fd);
}

static void Refused(void) {
  int fd = Socket(AF_INET, SOCK_DGRAM);
  char buffer[8];
  Must("connect", Connect(fd, PEER4, kPort + 5));
  See("send to a closed port", send(fd, "x", 1, 0));
  Await(fd, POLLERR);
  PollOne("poll", fd, POLLIN | POLLOUT, 0);
  See("recv", recv(fd, buffer, 8, 0));
  PollOne("poll after", fd, POLLIN | POLLOUT, 0);
  See("recv again", recv(fd, buffer, 8, MSG_DONTWAIT));
  See("send once more", send(fd, "x", 1, 0));
  Await(fd, POLLERR);
  See("send reports it", send(fd, "x", 1, 0));
  See("and sends again", send(fd, "x", 1, 0));
  Await(fd, POLLERR);
  SeeSocketError("refused", fd);
  SeeSocketError("once", fd);
  See("a blocked recv gets it", ({
        Must("send", send(fd, "x", 1, 0));
        recv(fd, buffer, 8, 0);
      }));
  close(fd);
  fd = Socket(AF_INET, SOCK_DGRAM);
  See("unconnected sendto a closed port", SendTo(fd, PEER4, kPort + 5, "x"));
  usleep(100000);
  PollOne("unconnected sockets hear nothing", fd, POLLIN | POLLOUT, 0);
  SeeSocketError("unconnected", fd);
  close(fd);
}

static void Sizes(void) {
  PeerMust("udp s %s %d", PEER4, kPort + 6);
  int fd = Socket(AF_INET, SOCK_DGRAM);
  Must("bind", Bind(fd, SELF4, kPort + 7));
  Must("connect", Connect(fd, PEER4, kPort + 6));
  static char data[70000];
  Fill(data, sizeof data, 0, 0);
  static const int kSizes[] = {0, 1, 1471, 1472, 1473, 9000, 65506, 65507, 65508, 70000};
  for (size_t i = 0; i < sizeof kSizes / sizeof kSizes[0]; ++i) {
    char label[32];
    snprintf(label, sizeof label, "send %d", kSizes[i]);
    if (See(label, send(fd, data, (size_t)kSizes[i], 0)) >= 0) SeePeer("recvfrom s");
  }
  for (size_t i = 1; i < 8; ++i) {
    PeerMust("sendbytes s %s %d %d", SELF4, kPort + 7, kSizes[i]);
    SeeData("recv", data, recv(fd, data, sizeof data, 0));
  }
  See("send MORE", send(fd, "one ", 4, MSG_MORE));
  See("send the rest", send(fd, "two", 3, 0));
  SeePeer("recvfrom s");
  See("UDP_CORK", SetInt(fd, IPPROTO_UDP, 1, 1));
  Must("send", send(fd, "a", 1, 0));
  Must("send", send(fd, "b", 1, 0));
  See("uncork", SetInt(fd, IPPROTO_UDP, 1, 0));
  SeePeer("recvfrom s");
  close(fd);
}

static void Shutdowns(void) {
  char buffer[8];
  int fd = Socket(AF_INET, SOCK_DGRAM);
  See("shutdown unconnected", shutdown(fd, SHUT_RD));
  PollOne("poll", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  Must("connect", Connect(fd, PEER4, kPort + 6));
  See("shutdown connected", shutdown(fd, SHUT_RDWR));
  PollOne("poll", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  See("recv", recv(fd, buffer, 8, 0));
  See("send", send(fd, "x", 1, MSG_NOSIGNAL));
  close(fd);
  fd = Socket(AF_INET, SOCK_DGRAM);
  struct timeval limit = {.tv_usec = 60000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  Must("bind", Bind(fd, SELF4, kPort + 8));
  See("recv with SO_RCVTIMEO", recv(fd, buffer, 8, 0));
  PeerMust("after 100 sendto s %s %d late", SELF4, kPort + 8);
  limit = (struct timeval){0, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  SeeData("recv waits", buffer, recv(fd, buffer, 8, 0));
  close(fd);
}

int main(void) {
  Unconnected();
  int fd = Socket(AF_INET, SOCK_DGRAM);
  Must("bind", Bind(fd, SELF4, kPort + 1));
  PeerMust("udp t %s %d", PEER4, kPort + 1);
  Truncation(fd, kPort + 1);
  close(fd);
  ConnectedUdp();
  Refused();
  Sizes();
  Shutdowns();
  return 0;
}
