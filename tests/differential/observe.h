// What every differential program uses: it prints one observation a line, and it talks to its peer.
//
// A program runs twice: natively, and with libuserstack.so preloaded. Both times it has the address
// 10.77.0.2 (fd77::2) on eth0 and a peer on the kernel at 10.77.0.1 (fd77::1). What it prints must
// be equal, so nothing that depends on time, on buffer sizes or on chance is printed.
//
// The peer is a process of the runner (peer.py) that obeys commands over an AF_UNIX socket, which
// the program has as descriptor kPeerDescriptor: kernel business in both runs, and out of the way
// of the lowest free numbers.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wunused-function"

enum { kPeerDescriptor = 100 };
#define SELF4 "10.77.0.2"
#define PEER4 "10.77.0.1"
#define SELF6 "fd77::2"
#define PEER6 "fd77::1"

static const char* ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name != NULL ? name : "?";
}

static void Note(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

// Prints the result as it is; for calls whose number is part of the contract. Returns it; errno is
// kept.
static long See(const char* what, long result) {
  int error = errno;
  if (result == -1) {
    Note("%s: -1 %s", what, ErrnoName(error));
  } else {
    Note("%s: %ld", what, result);
  }
  errno = error;
  return result;
}

// Prints "ok" for success; for calls whose number is nobody's business.
static long SeeOk(const char* what, long result) {
  int error = errno;
  if (result < 0) {
    Note("%s: -1 %s", what, ErrnoName(error));
  } else {
    Note("%s: ok", what);
  }
  errno = error;
  return result;
}

static void SeeBool(const char* what, bool value) { Note("%s: %s", what, value ? "yes" : "no"); }

// Ends the program when what it stands on is missing.
static long Must(const char* what, long result) {
  if (result < 0) {
    Note("MUST %s: %s", what, ErrnoName(errno));
    exit(3);
  }
  return result;
}

// --- data ---
// Byte i of a pattern; peer.py has the same.
static void Fill(void* buffer, size_t length, size_t offset, unsigned seed) {
  unsigned char* bytes = buffer;
  for (size_t i = 0; i < length; ++i) bytes[i] = (unsigned char)(((offset + i) * 31 + seed) % 251);
}

static uint32_t Crc32(uint32_t crc, const void* buffer, size_t length) {
  static uint32_t table[256];
  if (table[1] == 0) {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0xedb88320u : 0);
      table[i] = value;
    }
  }
  const unsigned char* bytes = buffer;
  crc = ~crc;
  for (size_t i = 0; i < length; ++i) crc = table[(crc ^ bytes[i]) & 255] ^ (crc >> 8);
  return ~crc;
}

// A received buffer: its length, and its text or hash.
static void SeeData(const char* what, const void* buffer, long length) {
  int error = errno;
  if (length < 0) {
    Note("%s: -1 %s", what, ErrnoName(error));
    return;
  }
  const unsigned char* bytes = buffer;
  bool text = length <= 64;
  for (long i = 0; i < length && text; ++i) text = bytes[i] >= 32 && bytes[i] < 127;
  if (text) {
    Note("%s: %ld '%.*s'", what, length, (int)length, (const char*)buffer);
  } else {
    Note("%s: %ld crc %08x", what, length, Crc32(0, buffer, (size_t)length));
  }
}

// --- readiness ---
static void SeeBits(const char* what, long result, uint32_t bits) {
  static const struct {
    uint32_t bit;
    const char* name;
  } kNames[] = {{EPOLLIN, "IN"},         {EPOLLPRI, "PRI"},       {EPOLLOUT, "OUT"},
                {EPOLLERR, "ERR"},       {EPOLLHUP, "HUP"},       {EPOLLRDHUP, "RDHUP"},
                {EPOLLRDNORM, "RDNORM"}, {EPOLLRDBAND, "RDBAND"}, {EPOLLWRNORM, "WRNORM"},
                {EPOLLWRBAND, "WRBAND"}, {POLLNVAL, "NVAL"}};
  char text[128] = "";
  for (size_t i = 0; i < sizeof kNames / sizeof kNames[0]; ++i) {
    if (bits & kNames[i].bit) {
      if (text[0] != 0) strcat(text, "|");
      strcat(text, kNames[i].name);
    }
  }
  Note("%s: %ld [%s]", what, result, text);
}

// epoll_wait() for up to 16 events, printed in the order of their data, because the order in the
// ready list is chance when several arrive from the wire.
static int EpollSee(const char* what, int epoll, int timeout) {
  struct epoll_event events[16];
  int count = epoll_wait(epoll, events, 16, timeout);
  if (count <= 0) {
    See(what, count);
    return count;
  }
  for (int i = 0; i < count; ++i) {
    int least = i;
    for (int j = i + 1; j < count; ++j) {
      if (events[j].data.u64 < events[least].data.u64) least = j;
    }
    struct epoll_event chosen = events[least];
    events[least] = events[i];
    char label[128];
    snprintf(label, sizeof label, "%s: data %llu, of", what, (unsigned long long)chosen.data.u64);
    SeeBits(label, count, chosen.events);
  }
  return count;
}

static int EpollControl(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  return epoll_ctl(epoll, operation, fd, &event);
}

// poll() of one descriptor. Events that are asked for may take a moment to arrive: `timeout`.
static short PollOne(const char* what, int fd, short events, int timeout) {
  struct pollfd entry = {.fd = fd, .events = events};
  int result = poll(&entry, 1, timeout);
  SeeBits(what, result, (uint32_t)(unsigned short)entry.revents);
  return entry.revents;
}

// Waits quietly until all `events` hold at once; for what needs the wire to settle.
static void Await(int fd, short events) {
  for (int i = 0; i < 800; ++i) {
    struct pollfd entry = {.fd = fd, .events = events};
    if (poll(&entry, 1, 0) == 1 && (entry.revents & events) == events) return;
    usleep(10000);
  }
  Note("AWAIT gave up");
}

static int64_t Milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// --- addresses ---
static socklen_t Address(struct sockaddr_storage* out, const char* text, int port) {
  memset(out, 0, sizeof *out);
  struct sockaddr_in* four = (struct sockaddr_in*)out;
  struct sockaddr_in6* six = (struct sockaddr_in6*)out;
  if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)port);
    return sizeof *four;
  }
  memset(out, 0, sizeof *out);
  if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1) abort();
  six->sin6_family = AF_INET6;
  six->sin6_port = htons((uint16_t)port);
  return sizeof *six;
}

static void SeeAddress(const char* what, const void* address, long result, socklen_t length,
                       bool with_port) {
  int error = errno;
  if (result < 0) {
    Note("%s: -1 %s", what, ErrnoName(error));
    return;
  }
  char text[INET6_ADDRSTRLEN] = "?";
  const struct sockaddr* any = address;
  unsigned port = 0;
  if (any->sa_family == AF_INET) {
    const struct sockaddr_in* four = address;
    inet_ntop(AF_INET, &four->sin_addr, text, sizeof text);
    port = ntohs(four->sin_port);
  } else if (any->sa_family == AF_INET6) {
    const struct sockaddr_in6* six = address;
    inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text);
    port = ntohs(six->sin6_port);
  }
  if (with_port) {
    Note("%s: family %d %s port %u length %u", what, any->sa_family, text, port, length);
  } else {
    Note("%s: family %d %s port %s length %u", what, any->sa_family, text, port ? "some" : "none",
         length);
  }
}

static int Socket(int domain, int type) { return (int)Must("socket", socket(domain, type, 0)); }

static int Connect(int fd, const char* address, int port) {
  struct sockaddr_storage name;
  socklen_t length = Address(&name, address, port);
  return connect(fd, (struct sockaddr*)&name, length);
}

static int Bind(int fd, const char* address, int port) {
  struct sockaddr_storage name;
  socklen_t length = Address(&name, address, port);
  return bind(fd, (struct sockaddr*)&name, length);
}

static int SetInt(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value);
}

static int SocketError(int fd) {
  int error = -1;
  socklen_t length = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return -1;
  return error;
}

static void SeeSocketError(const char* what, int fd) {
  int error = SocketError(fd);
  Note("%s: SO_ERROR %s", what, error == 0 ? "0" : ErrnoName(error));
}

static void SetNonblocking(int fd) {
  Must("O_NONBLOCK", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
}

// --- the peer ---
// Sends one command, returns the peer's answer (valid until the next).
static const char* PeerV(const char* format, va_list arguments) {
  static char answer[4096];
  char command[1024];
  int length = vsnprintf(command, sizeof command, format, arguments);
  ssize_t got;
  if (write(kPeerDescriptor, command, (size_t)length) != length) {
    Note("MUST peer write: %s", ErrnoName(errno));
    exit(3);
  }
  do {
    got = read(kPeerDescriptor, answer, sizeof answer - 1);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) {
    Note("MUST peer answer to '%s'", command);
    exit(3);
  }
  answer[got] = 0;
  return answer;
}

static const char* Peer(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const char* answer = PeerV(format, arguments);
  va_end(arguments);
  return answer;
}

// What the peer saw is an observation too.
static void SeePeer(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char command[1024];
  vsnprintf(command, sizeof command, format, arguments);
  va_end(arguments);
  Note("peer %s: %s", command, Peer("%s", command));
}

static void PeerMust(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char command[1024];
  vsnprintf(command, sizeof command, format, arguments);
  va_end(arguments);
  const char* answer = Peer("%s", command);
  if (strncmp(answer, "ok", 2) != 0) {
    Note("MUST peer %s: %s", command, answer);
    exit(3);
  }
}

// A connection that the program opened; the peer calls its end `name`.
static int ConnectedTo(const char* name, const char* address, int port) {
  PeerMust("listen %s.listener %s %d", name, address, port);
  int fd = Socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM);
  Must("connect", Connect(fd, address, port));
  PeerMust("accept %s.listener %s", name, name);
  PeerMust("close %s.listener", name);
  return fd;
}

static int Connected(const char* name, int port) { return ConnectedTo(name, PEER4, port); }

static int Listener(const char* address, int port, int backlog) {
  int fd = Socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM);
  Must("SO_REUSEADDR", SetInt(fd, SOL_SOCKET, SO_REUSEADDR, 1));
  Must("bind", Bind(fd, address, port));
  Must("listen", listen(fd, backlog));
  return fd;
}

// A connection that the peer opened to `listener`.
static int Accepted(int listener, const char* name, int port) {
  PeerMust("connect %s %s %d", name, SELF4, port);
  return (int)Must("accept", accept(listener, NULL, NULL));
}

static ssize_t ReadAll(int fd, void* buffer, size_t length) {
  size_t done = 0;
  while (done < length) {
    ssize_t got = read(fd, (char*)buffer + done, length - done);
    if (got <= 0) return done > 0 ? (ssize_t)done : got;
    done += (size_t)got;
  }
  return (ssize_t)done;
}

static ssize_t WriteAll(int fd, const void* buffer, size_t length) {
  size_t done = 0;
  while (done < length) {
    ssize_t put = write(fd, (const char*)buffer + done, length - done);
    if (put < 0) return -1;
    done += (size_t)put;
  }
  return (ssize_t)done;
}
