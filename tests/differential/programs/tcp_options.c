// IPPROTO_TCP options: defaults, set and get, errors; TCP_INFO's state; TCP_CONGESTION; cork.
#include "observe.h"

enum { kPort = 5050 };

static void GetSet(int fd, const char* name, int option, const int* values, size_t count) {
  int value = -1;
  socklen_t length = sizeof value;
  if (getsockopt(fd, IPPROTO_TCP, option, &value, &length) < 0) {
    Note("%s default: -1 %s", name, ErrnoName(errno));
  } else {
    Note("%s default: %d length %u", name, value, length);
  }
  for (size_t i = 0; i < count; ++i) {
    int result = setsockopt(fd, IPPROTO_TCP, option, &values[i], sizeof values[i]);
    int error = errno;
    value = -1;
    length = sizeof value;
    if (getsockopt(fd, IPPROTO_TCP, option, &value, &length) < 0) value = -errno;
    Note("%s set %d: %s, get %d", name, values[i], result < 0 ? ErrnoName(error) : "0", value);
  }
}

static void Values(void) {
  static const int kBoolean[] = {1, 0, 3, 0};
  static const int kTimes[] = {1, 60, 32767, 32768, 0, -1};
  static const int kCounts[] = {1, 127, 128, 0, -1};
  static const int kSegments[] = {88, 536, 1460, 40000, 10, -1};
  static const int kUser[] = {0, 1000, 30000, -1};
  static const int kLinger[] = {5, 0, 60, 100000, -1};
  static const int kDefer[] = {1, 0, 5, 0};
  int fd = Socket(AF_INET, SOCK_STREAM);
  GetSet(fd, "TCP_NODELAY", TCP_NODELAY, kBoolean, 4);
  GetSet(fd, "TCP_CORK", TCP_CORK, kBoolean, 4);
  GetSet(fd, "TCP_QUICKACK", TCP_QUICKACK, kBoolean, 2);
  GetSet(fd, "TCP_KEEPIDLE", TCP_KEEPIDLE, kTimes, 6);
  GetSet(fd, "TCP_KEEPINTVL", TCP_KEEPINTVL, kTimes, 6);
  GetSet(fd, "TCP_KEEPCNT", TCP_KEEPCNT, kCounts, 5);
  GetSet(fd, "TCP_SYNCNT", TCP_SYNCNT, kCounts, 5);
  GetSet(fd, "TCP_MAXSEG", TCP_MAXSEG, kSegments, 6);
  GetSet(fd, "TCP_USER_TIMEOUT", TCP_USER_TIMEOUT, kUser, 4);
  GetSet(fd, "TCP_LINGER2", TCP_LINGER2, kLinger, 5);
  GetSet(fd, "TCP_DEFER_ACCEPT", TCP_DEFER_ACCEPT, kDefer, 4);
  GetSet(fd, "TCP_WINDOW_CLAMP", TCP_WINDOW_CLAMP, kUser, 3);
  GetSet(fd, "TCP_NOTSENT_LOWAT", TCP_NOTSENT_LOWAT, kUser, 3);
  close(fd);
}

static void Congestion(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  char name[32];
  socklen_t length;
  static const char* const kNames[] = {"reno", "cubic", "no-such-thing", ""};
  for (size_t i = 0; i < 4; ++i) {
    SeeOk(kNames[i], setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kNames[i], strlen(kNames[i])));
    memset(name, 0, sizeof name);
    length = sizeof name;
    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length);
    Note("congestion control: '%s' length %u", name, length);
  }
  memset(name, 0, sizeof name);
  length = 3;
  See("get short", getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length));
  Note("short: '%.3s' length %u", name, length);
  close(fd);
}

static int State(int fd) {
  struct tcp_info info;
  memset(&info, 0, sizeof info);
  socklen_t length = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) return -errno;
  return info.tcpi_state;
}

static void States(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  See("state fresh", State(fd));
  Must("bind", Bind(fd, SELF4, kPort));
  listen(fd, 3);
  See("state listening", State(fd));
  close(fd);
  fd = Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  Connect(fd, "10.78.0.1", 9);
  See("state connecting", State(fd));
  close(fd);
  fd = Connected("a", kPort + 1);
  See("state connected", State(fd));
  struct tcp_info info;
  memset(&info, 0, sizeof info);
  socklen_t length = sizeof info;
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
  Note("options timestamps %d sack %d window scale %d", (info.tcpi_options & 1) != 0,
       (info.tcpi_options & 2) != 0, (info.tcpi_options & 4) != 0);
  Note("mss %u, advertised %u, path %u", info.tcpi_snd_mss, info.tcpi_advmss, info.tcpi_pmtu);
  SeeBool("a round trip was measured", info.tcpi_rtt > 0);
  int segment = 0;
  length = sizeof segment;
  getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, &length);
  See("TCP_MAXSEG connected", segment);
  shutdown(fd, SHUT_WR);
  usleep(50000);
  See("state half closed", State(fd));
  PeerMust("close a");
  Await(fd, POLLHUP);
  See("state after both", State(fd));
  close(fd);
  fd = Connected("b", kPort + 2);
  PeerMust("shut b wr");
  Await(fd, POLLRDHUP);
  See("state when the peer closed", State(fd));
  close(fd);
  length = 8;
  fd = Socket(AF_INET, SOCK_STREAM);
  See("TCP_INFO short", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
  Note("length: %u", length);
  close(fd);
}

static void Cork(void) {
  int fd = Connected("c", kPort + 3);
  int queued = -1;
  See("TCP_CORK", SetInt(fd, IPPROTO_TCP, TCP_CORK, 1));
  See("write", write(fd, "held ", 5));
  usleep(50000);
  ioctl(fd, TIOCOUTQ, &queued);
  See("TIOCOUTQ when corked", queued);
  See("write", write(fd, "back", 4));
  See("uncork", SetInt(fd, IPPROTO_TCP, TCP_CORK, 0));
  SeePeer("recv c 9");
  usleep(100000);
  ioctl(fd, TIOCOUTQ, &queued);
  See("TIOCOUTQ when acknowledged", queued);
  See("send MSG_MORE", send(fd, "more ", 5, MSG_MORE));
  usleep(50000);
  ioctl(fd, TIOCOUTQ, &queued);
  See("TIOCOUTQ after MSG_MORE", queued);
  See("send", send(fd, "less", 4, 0));
  SeePeer("recv c 9");
  See("TCP_NODELAY", SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1));
  for (int i = 0; i < 5; ++i) Must("send", send(fd, "z", 1, 0));
  SeePeer("recv c 5");
  close(fd);
}

static void UserTimeout(void) {
  // A peer that reads nothing and then disappears is out of reach here; a SYN without answer is
  // not.
  int fd = Socket(AF_INET, SOCK_STREAM);
  See("TCP_USER_TIMEOUT", SetInt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1500));
  int64_t start = Milliseconds();
  SeeOk("connect to nowhere", Connect(fd, "10.78.0.1", 9));
  int64_t took = Milliseconds() - start;
  SeeBool("within the time-out's order", took > 1000 && took < 4000);
  close(fd);
}

int main(void) {
  Values();
  Congestion();
  States();
  Cork();
  UserTimeout();
  return 0;
}
