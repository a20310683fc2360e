// Bulk transfer: one thread a connection at both ends, blocking calls. The receiver counts, over
// the time that the client's request names: bytes that arrived, not bytes that a send buffer took.

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <thread>
#include <vector>

#include "bench/load/load.h"

namespace userstack::load {
namespace {

constexpr size_t kDefaultSize = 128 * 1024;

// What the client sends first, in the machine's byte order.
struct Request {
  uint64_t server_sends;
  uint64_t warmup;   // nanoseconds
  uint64_t measure;  // nanoseconds
  uint64_t size;     // of the server's calls
};

struct Count {
  uint64_t bytes;
  uint64_t nanoseconds;
};

// Reads until the end of the stream, or (`stop_after`) until the time has passed.
Count Receive(int fd, const Request& request, bool stop_after) {
  std::vector<char> buffer(request.size);
  const int64_t begin = Now() + static_cast<int64_t>(request.warmup);
  const int64_t end = begin + static_cast<int64_t>(request.measure);
  int64_t first = 0, last = 0, now = 0;
  uint64_t bytes = 0;
  while (true) {
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    now = Now();
    if (now < begin) continue;
    if (first == 0) {  // the bytes of this call came before the count began
      first = last = now;
      continue;
    }
    if (last < end || bytes == 0) {  // a stall of the whole time is a slow stack, not none
      bytes += static_cast<uint64_t>(count);
      last = now;
    } else if (stop_after) {
      break;
    }
  }
  return {bytes, static_cast<uint64_t>(last - first)};
}

void Send(int fd, const Request& request, int64_t until) {
  std::vector<char> buffer(request.size, 'x');
  while (until == 0 || Now() < until) {
    if (!WriteAll(fd, buffer.data(), buffer.size())) return;
  }
}

void Serve(int fd) {
  Request request;
  if (ReadAll(fd, &request, sizeof request) && request.size > 0 && request.size <= 64 << 20) {
    if (request.server_sends != 0) {
      Send(fd, request, 0);
    } else {
      const Count count = Receive(fd, request, false);
      WriteAll(fd, &count, sizeof count);
    }
  }
  close(fd);
}

Count RunStream(const Options& options) {
  Request request{options.receive, static_cast<uint64_t>(Nanoseconds(options.warmup)),
                  static_cast<uint64_t>(Nanoseconds(options.seconds)),
                  options.size != 0 ? options.size : kDefaultSize};
  const int fd = Connect(options, options.port);
  if (!WriteAll(fd, &request, sizeof request)) Fail("request");
  Count count{};
  if (options.receive) {
    count = Receive(fd, request, true);
  } else {
    // A little longer than counted, so that the receiver's time is full of data.
    Send(fd, request, Now() + Nanoseconds(options.warmup + options.seconds + 0.05));
    shutdown(fd, SHUT_WR);
    if (!ReadAll(fd, &count, sizeof count)) Fail("count");
  }
  close(fd);
  return count;
}

}  // namespace

int BulkServer(const Options& options) {
  const int listener = Listen(options, options.port, true);
  while (true) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) Fail("accept");
    std::thread(Serve, fd).detach();
  }
}

int Bulk(const Options& options) {
  std::vector<Count> counts(static_cast<size_t>(options.streams));
  std::vector<std::thread> threads;
  for (Count& count : counts) {
    threads.emplace_back([&options, &count] { count = RunStream(options); });
  }
  std::this_thread::sleep_for(std::chrono::nanoseconds(Nanoseconds(options.warmup)));
  const double busy_before = MachineBusySeconds();
  const int64_t began = Now();
  std::this_thread::sleep_for(std::chrono::nanoseconds(Nanoseconds(options.seconds)));
  const double busy = MachineBusySeconds() - busy_before;
  const double took = static_cast<double>(Now() - began) / 1e9;
  for (std::thread& thread : threads) thread.join();

  double rate = 0, bytes = 0;
  for (const Count& count : counts) {
    if (count.nanoseconds == 0) {
      errno = EPIPE;
      Fail("a stream ended early");
    }
    bytes += static_cast<double>(count.bytes);
    rate += static_cast<double>(count.bytes) * 8e9 / static_cast<double>(count.nanoseconds);
  }
  std::printf(
      "{\"mode\": \"bulk\", \"direction\": \"%s\", \"streams\": %d, \"bits_per_second\": %.0f, "
      "\"bytes\": %.0f, \"busy_cores\": %.3f, \"cpu_ns_per_byte\": %.4f}\n",
      options.receive ? "receive" : "send", options.streams, rate, bytes, busy / took,
      busy / took / (rate / 8) * 1e9);
  return 0;
}

}  // namespace userstack::load
