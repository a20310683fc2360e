// SOL_SOCKET options on TCP and UDP: defaults, what set then get gives, lengths and errors.
#include <asm/socket.h>

#include "observe.h"

static void GetSet(int fd, const char* kind, const char* name, int level, int option,
                   const int* values, size_t count) {
  int value = -1;
  socklen_t length = sizeof value;
  int result = getsockopt(fd, level, option, &value, &length);
  if (result < 0) {
    Note("%s %s default: -1 %s", kind, name, ErrnoName(errno));
  } else {
    Note("%s %s default: %d length %u", kind, name, value, length);
  }
  for (size_t i = 0; i < count; ++i) {
    result = setsockopt(fd, level, option, &values[i], sizeof values[i]);
    int error = errno;
    value = -1;
    length = sizeof value;
    if (getsockopt(fd, level, option, &value, &length) < 0) value = -errno;
    Note("%s %s set %d: %s, get %d", kind, name, values[i], result < 0 ? ErrnoName(error) : "0",
         value);
  }
}

static const int kBoolean[] = {1, 0, 5, -1, 0};
static const int kSizes[] = {0, 1, 1000, 4096, 65536, 100000};
static const int kSmall[] = {0, 1, 6, 7, 100, 0};

static void General(int type, const char* kind) {
  int fd = Socket(AF_INET, type);
  static const struct {
    const char* name;
    int option;
    const int* values;
    size_t count;
  } kOptions[] = {
      {"SO_REUSEADDR", SO_REUSEADDR, kBoolean, 5},
      {"SO_REUSEPORT", SO_REUSEPORT, kBoolean, 5},
      {"SO_KEEPALIVE", SO_KEEPALIVE, kBoolean, 5},
      {"SO_BROADCAST", SO_BROADCAST, kBoolean, 5},
      {"SO_OOBINLINE", SO_OOBINLINE, kBoolean, 5},
      {"SO_DONTROUTE", SO_DONTROUTE, kBoolean, 5},
      {"SO_TIMESTAMP", SO_TIMESTAMP, kBoolean, 5},
      {"SO_TIMESTAMPNS", SO_TIMESTAMPNS, kBoolean, 5},
      {"SO_RCVBUF", SO_RCVBUF, kSizes, 6},
      {"SO_SNDBUF", SO_SNDBUF, kSizes, 6},
      {"SO_RCVLOWAT", SO_RCVLOWAT, kSmall, 6},
      {"SO_PRIORITY", SO_PRIORITY, kSmall, 4},
      {"SO_TYPE", SO_TYPE, kSmall, 1},
      {"SO_DOMAIN", SO_DOMAIN, kSmall, 1},
      {"SO_PROTOCOL", SO_PROTOCOL, kSmall, 1},
      {"SO_ERROR", SO_ERROR, kSmall, 1},
      {"SO_ACCEPTCONN", SO_ACCEPTCONN, kSmall, 1},
      {"SO_SNDLOWAT", SO_SNDLOWAT, kSmall, 2},
      {"SO_MARK", SO_MARK, kSmall, 2},
      {"SO_NO_CHECK", SO_NO_CHECK, kBoolean, 2},
      {"option 9999", 9999, kSmall, 1},
  };
  for (size_t i = 0; i < sizeof kOptions / sizeof kOptions[0]; ++i) {
    GetSet(fd, kind, kOptions[i].name, SOL_SOCKET, kOptions[i].option, kOptions[i].values,
           kOptions[i].count);
  }
  close(fd);
}

static void Structures(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  struct linger linger = {9, 9};
  socklen_t length = sizeof linger;
  See("get SO_LINGER", getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length));
  Note("SO_LINGER: %d %d length %u", linger.l_onoff, linger.l_linger, length);
  linger = (struct linger){1, 30};
  See("set SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
  See("set SO_LINGER short", setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, 4));
  memset(&linger, 0, sizeof linger);
  length = 4;
  See("get SO_LINGER short", getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length));
  Note("SO_LINGER short: %d %d length %u", linger.l_onoff, linger.l_linger, length);
  linger = (struct linger){0, 30};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  length = sizeof linger;
  getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length);
  Note("SO_LINGER off: %d %d", linger.l_onoff, linger.l_linger);

  static const struct timeval kTimes[] = {{1, 500000}, {0, 1},       {0, 0},
                                          {-1, 0},     {5, 1000000}, {0, 4000}};
  for (size_t i = 0; i < sizeof kTimes / sizeof kTimes[0]; ++i) {
    int result = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kTimes[i], sizeof kTimes[i]);
    int error = errno;
    struct timeval back = {-7, -7};
    length = sizeof back;
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &back, &length);
    Note("SO_RCVTIMEO %ld.%06ld: %s, seconds back %ld some %d length %u", (long)kTimes[i].tv_sec,
         (long)kTimes[i].tv_usec, result < 0 ? ErrnoName(error) : "0", (long)back.tv_sec,
         back.tv_usec != 0, length);
  }
  See("SO_SNDTIMEO short", setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kTimes[0], 4));

  char name[32] = "eth0";
  length = sizeof name;
  See("set SO_BINDTODEVICE", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5));
  memset(name, 0, sizeof name);
  See("get SO_BINDTODEVICE", getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &length));
  Note("SO_BINDTODEVICE: '%s' length %u", name, length);
  See("SO_BINDTODEVICE nowhere", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "nope9", 6));
  See("SO_BINDTODEVICE off", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
  close(fd);
}

static void Lengths(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  int one = 1;
  unsigned char narrow = 1;
  See("set with length 0", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, 0));
  See("set with length 1", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &narrow, 1));
  See("set with length 8", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, (long[]){1}, 8));
  int value = -1;
  socklen_t length = 2;
  See("get with length 2", getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
  Note("length: %u value %x", length, (unsigned)value);
  long wide = -1;
  length = sizeof wide;
  See("get with length 8", getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &wide, &length));
  Note("length: %u", length);
  length = (socklen_t)-1;
  See("get with length -1", getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
  length = 0;
  See("get with length 0", getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
  length = sizeof value;
  See("get at an unknown level", getsockopt(fd, 777, 1, &value, &length));
  See("set at an unknown level", SetInt(fd, 777, 1, 1));
  See("UDP option on TCP", SetInt(fd, IPPROTO_UDP, 1, 1));
  See("TCP option unknown", SetInt(fd, IPPROTO_TCP, 9999, 1));
  See("IP option unknown", SetInt(fd, IPPROTO_IP, 9999, 1));
  See("IPv6 option on IPv4", SetInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
  close(fd);
  fd = Socket(AF_INET, SOCK_DGRAM);
  See("TCP option on UDP", SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1));
  close(fd);
  int pipes[2];
  Must("pipe", pipe(pipes));
  See("set on a pipe", SetInt(pipes[0], SOL_SOCKET, SO_KEEPALIVE, 1));
  length = sizeof value;
  See("get on a bad number", getsockopt(4444, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
  close(pipes[0]);
  close(pipes[1]);
}

int main(void) {
  General(SOCK_STREAM, "TCP");
  General(SOCK_DGRAM, "UDP");
  Structures();
  Lengths();
  return 0;
}
