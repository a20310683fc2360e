// IPv6: TCP and UDP, dual stack, IPv4-mapped addresses, V6ONLY, scope identifiers, options.
#include "observe.h"

enum { kPort = 5240 };

static void SeeNames(int fd) {
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  long result = getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress("  name", &name, result, length, false);
  length = sizeof name;
  result = getpeername(fd, (struct sockaddr*)&name, &length);
  SeeAddress("  peer", &name, result, length, false);
}

static void Tcp(void) {
  int fd = ConnectedTo("a", PEER6, kPort);
  char buffer[16];
  SeeNames(fd);
  See("write", write(fd, "six", 3));
  SeePeer("recv a 3");
  PeerMust("text a back");
  SeeData("read", buffer, read(fd, buffer, sizeof buffer));
  close(fd);
  SeePeer("drain a");
  fd = Socket(AF_INET6, SOCK_STREAM);
  SeeOk("refused", Connect(fd, PEER6, kPort + 1));
  close(fd);
  int listener = Listener(SELF6, kPort + 2, 4);
  PeerMust("connect b %s %d", SELF6, kPort + 2);
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  fd = accept(listener, (struct sockaddr*)&name, &length);
  SeeAddress("accept", &name, fd, length, false);
  SeeNames(fd);
  close(fd);
  close(listener);
}

static void DualStack(void) {
  int listener = Listener("::", kPort + 3, 8);
  PeerMust("connect c %s %d", SELF4, kPort + 3);
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  int fd = accept(listener, (struct sockaddr*)&name, &length);
  SeeAddress("accept of IPv4 on ::", &name, fd, length, false);
  SeeNames(fd);
  See("write", write(fd, "mapped", 6));
  SeePeer("recv c 6");
  close(fd);
  PeerMust("connect d %s %d", SELF6, kPort + 3);
  fd = accept(listener, (struct sockaddr*)&name, &length);
  SeeAddress("accept of IPv6 on ::", &name, fd, length, false);
  close(fd);
  close(listener);
  int only = Socket(AF_INET6, SOCK_STREAM);
  See("V6ONLY", SetInt(only, IPPROTO_IPV6, IPV6_V6ONLY, 1));
  SetInt(only, SOL_SOCKET, SO_REUSEADDR, 1);
  Must("bind", Bind(only, "::", kPort + 4));
  Must("listen", listen(only, 4));
  See("V6ONLY after bind", SetInt(only, IPPROTO_IPV6, IPV6_V6ONLY, 0));
  SeePeer("connect e %s %d", SELF4, kPort + 4);
  int four = Socket(AF_INET, SOCK_STREAM);
  See("IPv4 beside it", Bind(four, "0.0.0.0", kPort + 4));
  close(four);
  close(only);
  PeerMust("listen f.l %s %d", PEER4, kPort + 5);
  fd = Socket(AF_INET6, SOCK_STREAM);
  SeeOk("connect to a mapped address", Connect(fd, "::ffff:" PEER4, kPort + 5));
  SeeNames(fd);
  close(fd);
  fd = Socket(AF_INET6, SOCK_STREAM);
  SetInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  SeeOk("mapped with V6ONLY", Connect(fd, "::ffff:" PEER4, kPort + 5));
  close(fd);
  fd = Socket(AF_INET6, SOCK_STREAM);
  SeeOk("bind mapped", Bind(fd, "::ffff:" SELF4, 0));
  SeeOk("connect IPv6 when bound mapped", Connect(fd, PEER6, kPort + 5));
  close(fd);
  fd = Socket(AF_INET6, SOCK_STREAM);
  SeeOk("bind IPv6", Bind(fd, SELF6, 0));
  SeeOk("connect mapped when bound IPv6", Connect(fd, "::ffff:" PEER4, kPort + 5));
  close(fd);
  fd = Socket(AF_INET6, SOCK_DGRAM);
  SeeOk("bind mapped, UDP", Bind(fd, "::ffff:" SELF4, 0));
  SeeOk("connect IPv6 when bound mapped, UDP", Connect(fd, PEER6, kPort + 5));
  close(fd);
  fd = Socket(AF_INET6, SOCK_DGRAM);
  SeeOk("bind IPv6, UDP", Bind(fd, SELF6, 0));
  SeeOk("connect mapped when bound IPv6, UDP", Connect(fd, "::ffff:" PEER4, kPort + 5));
  close(fd);
  fd = Socket(AF_INET6, SOCK_STREAM);
  SeeOk("bind to an IPv6 group", Bind(fd, "ff15::9", 0));
  close(fd);
  fd = Socket(AF_INET6, SOCK_STREAM);
  SeeOk("connect with an IPv4 address", Connect(fd, PEER4, kPort + 5));
  close(fd);
  fd = Socket(AF_INET, SOCK_STREAM);
  SeeOk("IPv4 socket with an IPv6 address", Connect(fd, PEER6, kPort + 5));
  close(fd);
}

static void Udp(void) {
  int fd = Socket(AF_INET6, SOCK_DGRAM);
  Must("bind", Bind(fd, "::", kPort + 6));
  PeerMust("udp g %s %d", PEER4, kPort + 6);
  PeerMust("udp h %s %d", PEER6, kPort + 7);
  PeerMust("sendto g %s %d four", SELF4, kPort + 6);
  char buffer[32];
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  long got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr*)&name, &length);
  SeeData("from IPv4", buffer, got);
  SeeAddress("from", &name, 0, length, true);
  See("answer", sendto(fd, "to four", 7, 0, (struct sockaddr*)&name, length));
  SeePeer("recvfrom g");
  PeerMust("sendto h %s %d six", SELF6, kPort + 6);
  length = sizeof name;
  got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr*)&name, &length);
  SeeData("from IPv6", buffer, got);
  SeeAddress("from", &name, 0, length, true);
  length = Address(&name, PEER4, kPort + 6);
  See("sendto a plain IPv4 name", sendto(fd, "plain", 5, 0, (struct sockaddr*)&name, length));
  close(fd);
  fd = Socket(AF_INET6, SOCK_DGRAM);
  Must("connect", Connect(fd, PEER6, kPort + 8));
  See("send to a closed port", send(fd, "x", 1, 0));
  Await(fd, POLLERR);
  See("refused", recv(fd, buffer, 8, 0));
  close(fd);
}

static void Options(void) {
  int fd = Socket(AF_INET6, SOCK_STREAM);
  static const struct {
    const char* name;
    int option, first, second;
  } kOptions[] = {{"IPV6_V6ONLY", IPV6_V6ONLY, 1, 0},
                  {"IPV6_UNICAST_HOPS", IPV6_UNICAST_HOPS, 7, -1},
                  {"IPV6_MULTICAST_HOPS", IPV6_MULTICAST_HOPS, 9, -1},
                  {"IPV6_MULTICAST_LOOP", IPV6_MULTICAST_LOOP, 0, 1},
                  {"IPV6_TCLASS", IPV6_TCLASS, 32, 256},
                  {"IPV6_RECVPKTINFO", IPV6_RECVPKTINFO, 1, 0},
                  {"IPV6_MTU_DISCOVER", IPV6_MTU_DISCOVER, 2, 9},
                  {"IPV6_RECVERR", IPV6_RECVERR, 1, 0},
                  {"IPV6_MTU", IPV6_MTU, 1280, 100},
                  {"option 999", 999, 1, 0}};
  for (size_t i = 0; i < sizeof kOptions / sizeof kOptions[0]; ++i) {
    int before = -99, middle = -99, after = -99;
    socklen_t length = sizeof before;
    if (getsockopt(fd, IPPROTO_IPV6, kOptions[i].option, &before, &length) < 0) before = -errno;
    int first = SetInt(fd, IPPROTO_IPV6, kOptions[i].option, kOptions[i].first) < 0 ? errno : 0;
    length = sizeof before;
    if (getsockopt(fd, IPPROTO_IPV6, kOptions[i].option, &middle, &length) < 0) middle = -errno;
    int second = SetInt(fd, IPPROTO_IPV6, kOptions[i].option, kOptions[i].second) < 0 ? errno : 0;
    length = sizeof before;
    if (getsockopt(fd, IPPROTO_IPV6, kOptions[i].option, &after, &length) < 0) after = -errno;
    Note("%s: %d, set %d: %d get %d, set %d: %d get %d", kOptions[i].name, before,
         kOptions[i].first, first, middle, kOptions[i].second, second, after);
  }
  int value = -1;
  socklen_t length = sizeof value;
  See("IP_TTL on IPv6", getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &length));
  close(fd);
}

static void Scopes(void) {
  struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(kPort + 9)};
  inet_pton(AF_INET6, "fe80::ff:fe77:1", &name.sin6_addr);  // the peer's, from its MAC address
  int fd = Socket(AF_INET6, SOCK_STREAM);
  SeeOk("link-local without scope", connect(fd, (struct sockaddr*)&name, sizeof name));
  name.sin6_scope_id = if_nametoindex("eth0");
  SeeOk("link-local with scope, closed port", connect(fd, (struct sockaddr*)&name, sizeof name));
  close(fd);
  See("short IPv6 name", ({
        int again = Socket(AF_INET6, SOCK_STREAM);
        int result = connect(again, (struct sockaddr*)&name, 16);
        close(again);
        result;
      }));
}

int main(void) {
  Tcp();
  DualStack();
  Udp();
  Options();
  Scopes();
  return 0;
}
