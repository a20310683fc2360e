// bind: EADDRINUSE, EADDRNOTAVAIL, REUSEADDR, REUSEPORT, port 0; getsockname and getpeername in all
// states with short buffers.
#include "observe.h"

enum { kPort = 5260 };

static void SeeBind(const char* what, int type, const char* first, const char* second, int option,
                    bool listening) {
  int a = Socket(strchr(first, ':') ? AF_INET6 : AF_INET, type);
  int b = Socket(strchr(second, ':') ? AF_INET6 : AF_INET, type);
  if (option != 0) {
    SetInt(a, SOL_SOCKET, option, 1);
    SetInt(b, SOL_SOCKET, option, 1);
  }
  Must("first bind", Bind(a, first, kPort));
  if (listening) Must("listen", listen(a, 4));
  if (See(what, Bind(b, second, kPort)) == 0 && listening) See("  listen", listen(b, 4));
  close(a);
  close(b);
}

static void Conflicts(void) {
  static const int kOptions[] = {0, SO_REUSEADDR, SO_REUSEPORT};
  static const char* const kNames[] = {"plain", "REUSEADDR", "REUSEPORT"};
  char label[96];
  for (int i = 0; i < 3; ++i) {
    for (int kind = 0; kind < 3; ++kind) {
      int type = kind == 0 ? SOCK_DGRAM : SOCK_STREAM;
      const char* name = kind == 0 ? "UDP" : kind == 1 ? "TCP" : "TCP listening";
      static const char* const kPairs[][2] = {
          {SELF4, SELF4},    {SELF4, "0.0.0.0"}, {"0.0.0.0", SELF4}, {SELF6, SELF6},
          {"::", "0.0.0.0"}, {"0.0.0.0", "::"},  {SELF6, SELF4}};
      for (size_t pair = 0; pair < sizeof kPairs / sizeof kPairs[0]; ++pair) {
        snprintf(label, sizeof label, "%s %s, %s then %s", name, kNames[i], kPairs[pair][0],
                 kPairs[pair][1]);
        SeeBind(label, type, kPairs[pair][0], kPairs[pair][1], kOptions[i], kind == 2);
      }
    }
  }
}

static void Errors(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  struct sockaddr_storage name;
  socklen_t length = Address(&name, SELF4, kPort + 1);
  See("a foreign address", Bind(fd, "10.77.0.77", kPort + 1));
  See("the peer's address", Bind(fd, PEER4, kPort + 1));
  See("subnet broadcast", Bind(fd, "10.77.0.255", kPort + 1));
  See("short", bind(fd, (struct sockaddr*)&name, 8));
  See("length 0", bind(fd, (struct sockaddr*)&name, 0));
  name.ss_family = AF_INET6;
  See("wrong family", bind(fd, (struct sockaddr*)&name, sizeof(struct sockaddr_in6)));
  name.ss_family = AF_UNIX;
  See("AF_UNIX", bind(fd, (struct sockaddr*)&name, length));
  name.ss_family = AF_UNSPEC;
  See("AF_UNSPEC with an address", bind(fd, (struct sockaddr*)&name, length));
  See("bind", Bind(fd, SELF4, kPort + 1));
  See("bind twice", Bind(fd, SELF4, kPort + 2));
  close(fd);
  fd = Socket(AF_INET, SOCK_STREAM);
  See("TCP to a group", Bind(fd, "239.1.1.1", kPort + 1));
  close(fd);
  int udp = Socket(AF_INET, SOCK_DGRAM);
  See("UDP to a group", Bind(udp, "239.1.1.1", kPort + 1));
  close(udp);
  udp = Socket(AF_INET, SOCK_DGRAM);
  See("UDP to broadcast", Bind(udp, "10.77.0.255", kPort + 1));
  close(udp);
  int six = Socket(AF_INET6, SOCK_STREAM);
  See("IPv6, an IPv4 name", Bind(six, SELF4, kPort + 1));
  See("IPv6, a foreign address", Bind(six, "fd77::77", kPort + 1));
  See("bind to a free address", ({
        int on = 1;
        See("IP_FREEBIND",
            setsockopt(fd = Socket(AF_INET, SOCK_STREAM), IPPROTO_IP, 15, &on, sizeof on));
        long result = Bind(fd, "10.66.0.1", kPort + 3);
        close(fd);
        result;
      }));
  close(six);
}

static void Ephemeral(void) {
  bool distinct = true;
  int ports[32], fds[32];
  for (int i = 0; i < 32; ++i) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    fds[i] = Socket(AF_INET, SOCK_STREAM);
    Must("bind 0", Bind(fds[i], "0.0.0.0", 0));
    getsockname(fds[i], (struct sockaddr*)&name, &length);
    ports[i] = ntohs(name.sin_port);
    if (ports[i] < 32768 || ports[i] > 60999) distinct = false;
    for (int j = 0; j < i; ++j) distinct = distinct && ports[j] != ports[i];
  }
  SeeBool("32 ephemeral ports are distinct and in range", distinct);
  for (int i = 0; i < 32; ++i) close(fds[i]);
  PeerMust("listen l %s %d", PEER4, kPort + 4);
  int fd = Socket(AF_INET, SOCK_STREAM);
  Must("bind", Bind(fd, SELF4, kPort + 5));
  SeeOk("connect from a bound port", Connect(fd, PEER4, kPort + 4));
  int second = Socket(AF_INET, SOCK_STREAM);
  SeeOk("bind to a connected port", Bind(second, SELF4, kPort + 5));
  SetInt(second, SOL_SOCKET, SO_REUSEADDR, 1);
  SeeOk("with REUSEADDR", Bind(second, SELF4, kPort + 5));
  close(second);
  close(fd);
  PeerMust("close l");
}

static void TimeWait(void) {
  int listener = Socket(AF_INET, SOCK_STREAM);
  SetInt(listener, SOL_SOCKET, SO_REUSEADDR, 1);  // the TIME_WAIT inherits it
  Must("bind", Bind(listener, SELF4, kPort + 6));
  Must("listen", listen(listener, 4));
  int fd = Accepted(listener, "t", kPort + 6);
  close(fd);  // we close first: TIME_WAIT is ours
  SeePeer("drain t");
  PeerMust("close t");
  usleep(100000);
  close(listener);
  listener = Socket(AF_INET, SOCK_STREAM);
  See("bind in TIME_WAIT", Bind(listener, SELF4, kPort + 6));
  SetInt(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  See("with REUSEADDR", Bind(listener, SELF4, kPort + 6));
  See("listen", listen(listener, 4));
  fd = Accepted(listener, "u", kPort + 6);
  SeeOk("accept", fd);
  close(fd);
  close(listener);
}

static void Names(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  long result = getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress("fresh", &name, result, length, true);
  length = sizeof name;
  See("peer of a fresh one", getpeername(fd, (struct sockaddr*)&name, &length));
  close(fd);
  fd = Connected("n", kPort + 7);
  length = sizeof name;
  result = getpeername(fd, (struct sockaddr*)&name, &length);
  SeeAddress("peer", &name, result, length, true);
  length = sizeof name;
  result = getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress("name", &name, result, length, false);
  unsigned char bytes[32];
  for (socklen_t size = 0; size < 10; size += 3) {
    memset(bytes, 0xee, sizeof bytes);
    length = size;
    See("getpeername short", getpeername(fd, (struct sockaddr*)bytes, &length));
    Note("length %u, bytes %02x%02x %02x%02x %02x%02x%02x%02x %02x", length, bytes[0], bytes[1],
         bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], bytes[8]);
  }
  length = (socklen_t)-1;
  See("getsockname length -1", getsockname(fd, (struct sockaddr*)bytes, &length));
  See("getsockname of a bad number", getsockname(4444, (struct sockaddr*)bytes, &length));
  See("getpeername of stdin", getpeername(0, (struct sockaddr*)bytes, &length));
  close(fd);
  int six = Socket(AF_INET6, SOCK_STREAM);
  length = sizeof name;
  result = getsockname(six, (struct sockaddr*)&name, &length);
  SeeAddress("fresh IPv6", &name, result, length, true);
  close(six);
}

int main(void) {
  Conflicts();
  Errors();
  Ephemeral();
  TimeWait();
  Names();
  return 0;
}
