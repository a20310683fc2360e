// Sequences of TCP calls drawn from a seed, in any state of the socket: what TCP-Fuzz (ATC'21) did
// to find semantic bugs. All calls are non-blocking; after one that the wire has to answer there is
// time for the answer, so that the result does not depend on when it is asked.
#include "observe.h"

enum {
  kPort = 5400,
  kSockets = 5,
  kPeers = 4,
  kSteps = 120,
  kSeeds = 8,
  kSettle = 25000  // microseconds
};

static uint64_t state;
static int fds[kSockets];
static bool peers[kPeers];

static unsigned Pick(unsigned count) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (unsigned)((state * 0x2545f4914f6cdd1dull >> 33) % count);
}

static void Settle(void) { usleep(kSettle); }

static void Report(int step, const char* call, int index, long result) {
  int error = errno;
  char label[64];
  snprintf(label, sizeof label, "%d %s(%d)", step, call, index);
  errno = error;
  See(label, result);
}

static void ReportName(int step, const char* call, int index,
                       int (*function)(int, struct sockaddr*, socklen_t*)) {
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  char label[64];
  snprintf(label, sizeof label, "%d %s(%d)", step, call, index);
  memset(&name, 0, sizeof name);
  long result = function(fds[index], (struct sockaddr*)&name, &length);
  // Linux tells a port that is no longer bound after some failures; no port here.
  if (name.ss_family == AF_INET) ((struct sockaddr_in*)&name)->sin_port = 0;
  SeeAddress(label, &name, result, length, true);
}

static void Receive(int step, int index, int flags) {
  char buffer[512], label[64];
  snprintf(label, sizeof label, "%d recv(%d, %#x)", step, index, (unsigned)flags);
  long got = recv(fds[index], buffer, 1 + Pick(sizeof buffer), flags | MSG_DONTWAIT);
  SeeData(label, buffer, got);
}

static void Poll(int step, int index) {
  char label[64];
  snprintf(label, sizeof label, "%d poll(%d)", step, index);
  PollOne(label, fds[index], POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0);
}

static void MakeSocket(int step, int index) {
  close(fds[index]);
  Settle();
  fds[index] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (Pick(2) == 0) SetInt(fds[index], SOL_SOCKET, SO_REUSEADDR, 1);
  Note("%d new socket(%d)", step, index);
}

static void Accept(int step, int index) {
  int other = (int)Pick(kSockets);
  int fd = accept4(fds[index], NULL, NULL, SOCK_NONBLOCK);
  int error = errno;
  errno = error;
  Report(step, "accept", index, fd < 0 ? -1 : 0);
  if (fd < 0) return;
  close(fds[other]);
  Settle();
  fds[other] = fd;
  Note("%d accepted as %d", step, other);
}

static void PeerCall(int step) {
  int which = (int)Pick(kPeers);
  switch (Pick(peers[which] ? 7 : 2)) {
    case 0:
    case 1:
      if (peers[which]) Peer("close p%d", which);
      if (Pick(3) != 0) {
        const char* answer = Peer("try_accept l p%d", which);
        Note("%d peer accept %d: %s", step, which, answer);
        peers[which] = strcmp(answer, "ok") == 0;
      } else {
        const char* answer = Peer("connect p%d %s %d", which, SELF4, kPort + 1 + (int)Pick(2));
        Note("%d peer connect %d: %s", step, which, answer);
        peers[which] = strcmp(answer, "ok") == 0;
      }
      break;
    case 2:
      Note("%d peer reset %d: %s", step, which, Peer("reset p%d", which));
      peers[which] = false;
      break;
    case 3:
      Note("%d peer shut %d: %s", step, which, Peer("shut p%d wr", which));
      break;
    case 4:
    case 5:
      Note("%d peer text %d: %s", step, which, Peer("text p%d step%d", which, step));
      break;
    case 6:
      Note("%d peer recv %d: %s", step, which, Peer("try_recv p%d", which));
      break;
  }
  Settle();
}

static void Call(int step, int index) {
  int fd = fds[index];
  switch (Pick(17)) {
    case 0:
      MakeSocket(step, index);
      break;
    case 1:
      Report(step, "bind", index, Bind(fd, SELF4, kPort + 1 + (int)Pick(2)));
      break;
    case 2:
      Report(step, "listen", index, listen(fd, 1 + (int)Pick(4)));
      break;
    case 3:
    case 4:
      Report(step, "connect", index, Connect(fd, PEER4, kPort));
      Settle();
      break;
    case 5:
      Report(step, "connect, closed port", index, Connect(fd, PEER4, kPort + 9));
      Settle();
      break;
    case 6:
      Accept(step, index);
      break;
    case 7:
    case 8:
      Report(step, "send", index, send(fd, "0123456789", 1 + Pick(10), MSG_NOSIGNAL));
      Settle();
      break;
    case 9:
      Receive(step, index, 0);
      break;
    case 10:
      Receive(step, index, MSG_PEEK);
      break;
    case 11:
      Report(step, "shutdown", index, shutdown(fd, (int)Pick(3)));
      Settle();
      break;
    case 12:
      ReportName(step, "getsockname", index, getsockname);
      break;
    case 13:
      ReportName(step, "getpeername", index, getpeername);
      break;
    case 14:
      Report(step, "SO_ERROR", index, SocketError(fd));
      break;
    case 15: {
      int count = -1;
      Report(step, "FIONREAD", index, ioctl(fd, FIONREAD, &count));
      Note("%d count %d", step, count);
      break;
    }
    case 16: {
      struct sockaddr none = {.sa_family = AF_UNSPEC};
      if (Pick(3) == 0) Report(step, "disconnect", index, connect(fd, &none, sizeof none));
      Settle();
      break;
    }
  }
  Poll(step, index);
}

static void Run(uint64_t seed) {
  Note("seed %d", (int)seed);
  state = seed * 0x9e3779b97f4a7c15ull + 1;
  for (int i = 0; i < kSockets; ++i) fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  PeerMust("listen l %s %d 64", PEER4, kPort);
  for (int step = 0; step < kSteps; ++step) {
    if (Pick(4) == 0) {
      PeerCall(step);
    } else {
      Call(step, (int)Pick(kSockets));
    }
  }
  for (int i = 0; i < kSockets; ++i) close(fds[i]);
  for (int i = 0; i < kPeers; ++i) {
    if (peers[i]) Peer("close p%d", i);
    peers[i] = false;
  }
  PeerMust("close l");
}

// DIFFERENTIAL_SEED: where to begin, for a longer hunt.
int main(void) {
  const char* first = getenv("DIFFERENTIAL_SEED");
  uint64_t seed = first != NULL ? strtoull(first, NULL, 10) : 1;
  for (int i = 0; i < kSeeds; ++i) Run(seed++);
  return 0;
}
