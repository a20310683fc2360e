// Bulk data read by a thread that waits first: select, poll and epoll, reads of all kinds, with one
// stream on the wire and with two. Every byte comes once, and none beyond the memory that was given.
#include <sys/select.h>

#include "observe.h"

enum { kPort = 5060, kSize = 8 << 20, kLongest = 400000, kGuard = 4096 };

typedef enum { kSelect, kPoll, kEpoll, kEpollEdge } Waiter;
static const char* const kWaiterNames[] = {"select", "poll", "epoll", "epoll, edges"};

typedef struct {
  int fd;
  unsigned seed;
  size_t done;
  bool ended;
  bool wrong;
} Stream;

static unsigned char* g_memory;    // kLongest, and the guard behind it
static unsigned char* g_expected;  // a period of the pattern more than the longest read

static unsigned Next(void) {
  static unsigned state = 12345;
  state = state * 1103515245 + 12345;
  return state >> 16;
}

static void Check(Stream* s, const unsigned char* bytes, size_t length) {
  Fill(g_expected, 251, 0, s->seed);
  for (size_t at = 251; at < kLongest + 251; at += at) {
    memcpy(g_expected + at, g_expected, at < kLongest + 251 - at ? at : kLongest + 251 - at);
  }
  if (memcmp(bytes, g_expected + s->done % 251, length) != 0) s->wrong = true;
}

static ssize_t ReadVector(int fd, size_t size) {
  struct iovec parts[3] = {{g_memory, size / 3 * 2},
                           {g_memory + size / 3 * 2, 10},
                           {g_memory + size / 3 * 2 + 10, size - size / 3 * 2 - 10}};
  return readv(fd, parts, 3);
}

// One read of a kind and size that differ from time to time. False: there was nothing.
static bool ReadOnce(Stream* s, size_t size) {
  memset(g_memory + size, 0x5a, kGuard);
  ssize_t got;
  switch (Next() % 8) {
    case 0: {
      got = recv(s->fd, g_memory, size, MSG_PEEK);
      if (got > 0) Check(s, g_memory, (size_t)got);
      const ssize_t again = recv(s->fd, g_memory, size, 0);
      if (got > 0 && again < got) s->wrong = true;
      got = again;
      break;
    }
    case 1:
      got = ReadVector(s->fd, size);
      break;
    case 2:
      got = recv(s->fd, g_memory, size, MSG_DONTWAIT);
      break;
    default:
      got = read(s->fd, g_memory, size);
      break;
  }
  if (got < 0 && errno == EAGAIN) return false;
  if (got <= 0) {
    s->ended = true;
    return true;
  }
  for (size_t i = 0; i < kGuard; ++i) s->wrong = s->wrong || g_memory[size + i] != 0x5a;
  Check(s, g_memory, (size_t)got);
  s->done += (size_t)got;
  return true;
}

// Which of the streams are ready, as bits; what has ended is not asked.
static unsigned Wait(Waiter waiter, int epoll, const Stream* streams, int count) {
  unsigned ready = 0;
  if (waiter == kSelect) {
    fd_set set;
    FD_ZERO(&set);
    for (int i = 0; i < count; ++i) {
      if (!streams[i].ended) FD_SET(streams[i].fd, &set);
    }
    struct timeval limit = {10, 0};
    if (select(1024, &set, NULL, NULL, &limit) <= 0) return 0;
    for (int i = 0; i < count; ++i) ready |= (unsigned)FD_ISSET(streams[i].fd, &set) << i;
  } else if (waiter == kPoll) {
    struct pollfd entries[2];
    for (int i = 0; i < count; ++i) {
      entries[i] = (struct pollfd){streams[i].ended ? -1 : streams[i].fd, POLLIN, 0};
    }
    if (poll(entries, (nfds_t)count, 10000) <= 0) return 0;
    for (int i = 0; i < count; ++i) ready |= (unsigned)(entries[i].revents != 0) << i;
  } else {
    struct epoll_event events[2];
    const int got = epoll_wait(epoll, events, 2, 10000);
    for (int i = 0; i < got; ++i) ready |= 1u << events[i].data.u32;
  }
  return ready;
}

static void ReadReady(Waiter waiter, Stream* s, int epoll) {
  const size_t kSizes[] = {131072, 65536, 200000, 20000, 131072, 300000, 131072, kLongest};
  const size_t size = kSizes[Next() % 8];
  if (waiter == kEpollEdge) {
    while (!s->ended && ReadOnce(s, size)) {
    }
  } else if (!ReadOnce(s, size)) {
    return;
  } else if (Next() % 3 == 0 && !s->ended && s->done < kSize) {
    // What a program does that wants a whole block: the rest of it, and that may block.
    ReadOnce(s, 131072);
  }
  if (s->ended && epoll >= 0) EpollControl(epoll, EPOLL_CTL_DEL, s->fd, 0, 0);
}

static void Transfer(Waiter waiter, int count, int port) {
  Stream streams[2] = {{0}};
  const char* const names[] = {"a", "b"};
  int epoll = waiter >= kEpoll ? epoll_create1(0) : -1;
  for (int i = 0; i < count; ++i) {
    streams[i].fd = Connected(names[i], port + i);
    streams[i].seed = (unsigned)(7 + i);
    if (waiter == kEpollEdge) SetNonblocking(streams[i].fd);
    const uint32_t edge = waiter == kEpollEdge ? EPOLLET : 0;
    if (epoll >= 0) EpollControl(epoll, EPOLL_CTL_ADD, streams[i].fd, EPOLLIN | edge, (uint64_t)i);
  }
  for (int i = 0; i < count; ++i) PeerMust("after 0 send %s %d %u", names[i], kSize, streams[i].seed);
  bool all = false;
  while (!all) {
    const unsigned ready = Wait(waiter, epoll, streams, count);
    if (ready == 0) break;
    all = true;
    for (int i = 0; i < count; ++i) {
      if (ready & (1u << i)) ReadReady(waiter, &streams[i], epoll);
      all = all && streams[i].done >= kSize;
    }
  }
  PeerMust("wait");
  for (int i = 0; i < count; ++i) {
    PeerMust("close %s", names[i]);
    if (waiter == kEpollEdge) fcntl(streams[i].fd, F_SETFL, 0);
    See("end", read(streams[i].fd, g_memory, kLongest));
    Note("%s, %d streams: %zu bytes, %s", kWaiterNames[waiter], count, streams[i].done,
         streams[i].wrong ? "WRONG" : "right");
    close(streams[i].fd);
  }
  if (epoll >= 0) close(epoll);
}

// A reset behind text that is read after a wait: the text first, and then the error, once.
static void Reset(void) {
  int fd = Connected("r", kPort + 90);
  PeerMust("after 0 send r %d 5", kSize);
  Stream s = {.fd = fd, .seed = 5};
  while (s.done < kSize && Wait(kPoll, -1, &s, 1) != 0) {
    if (kSize - s.done < 300000) break;
    ReadOnce(&s, 131072);
  }
  PeerMust("wait");
  while (s.done < kSize && Wait(kPoll, -1, &s, 1) != 0) ReadOnce(&s, 131072);
  PeerMust("reset r");
  PollOne("poll", fd, POLLIN, 5000);
  See("read", read(fd, g_memory, kLongest));
  See("read again", read(fd, g_memory, kLongest));
  Note("reset: %zu bytes, %s", s.done, s.wrong ? "WRONG" : "right");
  close(fd);
}

// What SO_RCVLOWAT says holds when the stream has been long.
static void LowWater(void) {
  int fd = Connected("l", kPort + 91);
  PeerMust("after 0 send l %d 5", kSize);
  Stream s = {.fd = fd, .seed = 5};
  while (s.done < kSize && Wait(kSelect, -1, &s, 1) != 0) ReadOnce(&s, 131072);
  PeerMust("wait");
  SetInt(fd, SOL_SOCKET, SO_RCVLOWAT, 100);
  PeerMust("text l short");
  PollOne("less than the low water", fd, POLLIN, 100);
  PeerMust("send l 1000 5");
  PollOne("more", fd, POLLIN, 5000);
  Note("low water: %zu bytes, %s", s.done, s.wrong ? "WRONG" : "right");
  close(fd);
}

int main(void) {
  g_memory = malloc(kLongest + kGuard);
  g_expected = malloc(kLongest + 2 * 251);
  for (int waiter = kSelect; waiter <= kEpollEdge; ++waiter) {
    Transfer((Waiter)waiter, 1, kPort + 10 * waiter);
    Transfer((Waiter)waiter, 2, kPort + 10 * waiter + 5);
  }
  Reset();
  LowWater();
  return 0;
}
