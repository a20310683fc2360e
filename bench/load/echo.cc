// The echo server, and the two clients that know one connection at a time or open one for each
// request: ping-pong and connect/request/response/close.

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "bench/load/histogram.h"
#include "bench/load/load.h"

namespace userstack::load {
namespace {

constexpr size_t kBuffer = 64 * 1024;

void EchoBlocking(int fd, std::vector<char>& buffer, bool close_after_reply) {
  SetNoDelay(fd);
  while (true) {
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0 || !WriteAll(fd, buffer.data(), static_cast<size_t>(count))) break;
    if (close_after_reply) break;
  }
  close(fd);
}

void EchoInThread(int fd) {
  std::vector<char> buffer(kBuffer);
  EchoBlocking(fd, buffer, false);
}

int AcceptBlocking(const Options& options, int listener) {
  // One for all: clearing it costs more than some of the calls that are measured.
  std::vector<char> buffer(kBuffer);
  while (true) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) Fail("accept");
    if (options.close_after_reply) {
      EchoBlocking(fd, buffer, true);
    } else {
      std::thread(EchoInThread, fd).detach();
    }
  }
}

// Echoes what is there; false when the connection is to be closed. A reply that the socket does not
// take whole is waited for: the clients keep few bytes outstanding.
bool EchoReady(int fd, std::vector<char>& buffer, bool close_after_reply) {
  const ssize_t count = read(fd, buffer.data(), buffer.size());
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  size_t done = 0;
  while (done < static_cast<size_t>(count)) {
    const ssize_t written = write(fd, buffer.data() + done, static_cast<size_t>(count) - done);
    if (written > 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EAGAIN && errno != EINTR) {
      return false;
    }
  }
  return !close_after_reply;
}

void AcceptReady(const Options& options, int listener, int epoll, std::vector<char>& buffer) {
  while (true) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == ECONNABORTED) return;
      Fail("accept4");
    }
    SetNoDelay(fd);
    if (!EchoReady(fd, buffer, options.close_after_reply)) {
      close(fd);
      continue;
    }
    epoll_event event{EPOLLIN, {.u64 = static_cast<uint64_t>(fd)}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) Fail("epoll_ctl");
  }
}

}  // namespace

int EchoServer(const Options& options) {
  if (options.blocking) return AcceptBlocking(options, Listen(options, options.port, true));
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) Fail("epoll_create1");
  constexpr uint64_t kListener = uint64_t{1} << 32;
  for (int i = 0; i < options.ports; ++i) {
    const int listener = Listen(options, options.port + i, i + 1 == options.ports);
    SetNonBlocking(listener);
    epoll_event event{EPOLLIN, {.u64 = kListener | static_cast<uint64_t>(listener)}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) Fail("epoll_ctl");
  }
  std::vector<char> buffer(kBuffer);
  std::vector<epoll_event> events(256);
  while (true) {
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno != EINTR) Fail("epoll_wait");
    for (int i = 0; i < count; ++i) {
      const uint64_t tag = events[static_cast<size_t>(i)].data.u64;
      const int fd = static_cast<int>(tag & 0xffffffff);
      if ((tag & kListener) != 0) {
        AcceptReady(options, fd, epoll, buffer);
      } else if (!EchoReady(fd, buffer, options.close_after_reply)) {
        close(fd);
      }
    }
  }
}

int PingPong(const Options& options) {
  std::vector<char> buffer(options.size != 0 ? options.size : 1, 'x');
  const int fd = Connect(options, options.port);
  SetNoDelay(fd);
  Histogram histogram;
  double busy = 0;
  bool counting = false;
  int64_t now = Now(), began = now;
  const int64_t begin = now + Nanoseconds(options.warmup);
  const int64_t end = begin + Nanoseconds(options.seconds);
  while (now < end || histogram.total() == 0) {  // a stall of the whole time is one slow request
    if (!counting && now >= begin) {
      counting = true;
      busy = MachineBusySeconds();
      began = now = Now();
    }
    if (!WriteAll(fd, buffer.data(), buffer.size())) Fail("write");
    if (!ReadAll(fd, buffer.data(), buffer.size())) Fail("read");
    const int64_t after = Now();
    if (counting) histogram.Add(after - now);
    now = after;
  }
  const double took = static_cast<double>(now - began) / 1e9;
  busy = MachineBusySeconds() - busy;
  const auto total = static_cast<double>(histogram.total());
  std::printf(
      "{\"mode\": \"pingpong\", \"size\": %zu, \"per_second\": %.0f, \"p50_us\": %.2f, "
      "\"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, \"busy_cores\": %.3f, "
      "\"cpu_us_per_request\": %.3f}\n",
      buffer.size(), total / took, histogram.Quantile(0.5) / 1e3, histogram.Quantile(0.99) / 1e3,
      histogram.Quantile(0.999) / 1e3, static_cast<double>(histogram.maximum()) / 1e3, busy / took,
      busy * 1e6 / total);
  return 0;
}

}  // namespace userstack::load
