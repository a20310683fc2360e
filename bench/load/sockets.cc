// Sockets and clocks for the modes of the load program.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "bench/load/load.h"

namespace userstack::load {

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

int64_t Nanoseconds(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

double MachineBusySeconds() {
  std::FILE* file = std::fopen("/proc/stat", "r");
  if (file == nullptr) Fail("/proc/stat");
  long user, nice, system, idle, iowait, irq, softirq;
  if (std::fscanf(file, "cpu %ld %ld %ld %ld %ld %ld %ld", &user, &nice, &system, &idle, &iowait,
                  &irq, &softirq) != 7) {
    Fail("/proc/stat");
  }
  std::fclose(file);
  return static_cast<double>(user + nice + system + irq + softirq) /
         static_cast<double>(sysconf(_SC_CLK_TCK));
}

void Fail(const char* what) {
  std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

Address Resolve(const std::string& address, int port) {
  Address result;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
  if (inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    result.length = sizeof *v4;
  } else if (inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    result.length = sizeof *v6;
  } else {
    errno = EINVAL;
    Fail(address.c_str());
  }
  return result;
}

int MakeSocket(const Options& options, const Address& address, int type) {
  const int fd = socket(address.storage.ss_family, type | SOCK_CLOEXEC, 0);
  if (fd < 0) Fail("socket");
  if (options.mss > 0 &&
      setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &options.mss, sizeof options.mss) != 0) {
    Fail("TCP_MAXSEG");
  }
  return fd;
}

int Listen(const Options& options, int port, bool announce) {
  const Address address = Resolve(options.address, port);
  const int fd = MakeSocket(options, address, SOCK_STREAM);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, address.get(), address.length) != 0) Fail("bind");
  if (listen(fd, 1024) != 0) Fail("listen");
  if (announce) {
    std::puts("ready");
    std::fflush(stdout);
  }
  return fd;
}

int Connect(const Options& options, int port) {
  const Address address = Resolve(options.address, port);
  const int fd = MakeSocket(options, address, SOCK_STREAM);
  if (connect(fd, address.get(), address.length) != 0) Fail("connect");
  return fd;
}

void SetNoDelay(int fd) {
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) Fail("TCP_NODELAY");
}

void SetNonBlocking(int fd) {
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) Fail("fcntl");
}

bool ReadAll(int fd, void* data, size_t size) {
  auto* at = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t count = read(fd, at, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    at += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

bool WriteAll(int fd, const void* data, size_t size) {
  const auto* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = write(fd, at, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    at += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

}  // namespace userstack::load
