// Clients with many connections in one epoll loop: request/response, memcached's text protocol, and
// connect/request/response/close. Every answer has a length that is known beforehand.

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/load/histogram.h"
#include "bench/load/load.h"

namespace userstack::load {
namespace {

// Time in three parts: warm-up, what counts, the end. The results of the part that counts.
class Meter {
 public:
  explicit Meter(const Options& options)
      : now_(Now()),
        begin_(now_ + Nanoseconds(options.warmup)),
        end_(begin_ + Nanoseconds(options.seconds)) {}

  // To be called once a turn of the loop; false at the end, which comes not before the first
  // answer.
  bool Tick() {
    now_ = Now();
    if (!counting_ && now_ >= begin_) {
      counting_ = true;
      busy_ = MachineBusySeconds();
      now_ = began_ = Now();
    }
    return now_ < end_ || done_ == 0;
  }
  int64_t now() const { return now_; }
  void Add(int64_t since) {
    if (counting_ && since >= began_) histogram_.Add(Now() - since);
    if (counting_) ++done_;
  }
  void Print(const std::string& mode, const Options& options) {
    const double took = static_cast<double>(Now() - began_) / 1e9;
    const double busy = MachineBusySeconds() - busy_;
    const auto done = static_cast<double>(done_);
    std::printf(
        "{\"mode\": \"%s\", \"in_flight\": %d, \"pipeline\": %d, \"per_second\": %.0f, "
        "\"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"busy_cores\": %.3f, "
        "\"cpu_us_per_request\": %.3f}\n",
        mode.c_str(), options.in_flight, options.pipeline, done / took,
        histogram_.Quantile(0.5) / 1e3, histogram_.Quantile(0.99) / 1e3,
        histogram_.Quantile(0.999) / 1e3, busy / took, busy * 1e6 / done);
  }

 private:
  int64_t now_, begin_, end_, began_ = 0;
  bool counting_ = false;
  double busy_ = 0;
  uint64_t done_ = 0;
  Histogram histogram_;
};

struct Connection {
  int fd = -1;
  int64_t since = 0;   // when the requests that are outstanding were sent
  size_t missing = 0;  // bytes of answers that are outstanding
  bool sent = false;   // crr: the request is out
};

int MakeEpoll() {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) Fail("epoll_create1");
  return epoll;
}

// Request/response on `in_flight` connections, each with `pipeline` requests outstanding; the next
// ones are sent when all are answered, as redis-benchmark does it.
int Rounds(const Options& options, const std::string& request, size_t response) {
  std::string batch;
  for (int i = 0; i < options.pipeline; ++i) batch += request;
  const size_t expected = response * static_cast<size_t>(options.pipeline);
  const int epoll = MakeEpoll();
  std::vector<Connection> connections(static_cast<size_t>(options.in_flight));
  for (Connection& connection : connections) {
    connection.fd = Connect(options, options.port);
    SetNoDelay(connection.fd);
    epoll_event event{EPOLLIN, {.ptr = &connection}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection.fd, &event) != 0) Fail("epoll_ctl");
  }
  Meter meter(options);
  const auto send = [&](Connection& connection) {
    connection.since = Now();
    connection.missing = expected;
    if (!WriteAll(connection.fd, batch.data(), batch.size())) Fail("write");
  };
  for (Connection& connection : connections) send(connection);
  std::vector<char> buffer(256 * 1024);
  std::vector<epoll_event> events(256);
  while (meter.Tick()) {
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 1000);
    if (count < 0 && errno != EINTR) Fail("epoll_wait");
    for (int i = 0; i < count; ++i) {
      auto& connection = *static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
      const ssize_t got = read(connection.fd, buffer.data(), buffer.size());
      if (got <= 0) Fail("read");
      if (static_cast<size_t>(got) > connection.missing) {
        errno = EPROTO;
        Fail("more bytes than were asked for");
      }
      connection.missing -= static_cast<size_t>(got);
      if (connection.missing != 0) continue;
      for (int n = 0; n < options.pipeline; ++n) meter.Add(connection.since);
      send(connection);
    }
  }
  meter.Print(options.mode, options);
  return 0;
}

void Open(const Options& options, const Address& address, int epoll, Connection& connection) {
  connection.since = Now();
  connection.sent = false;
  connection.fd = MakeSocket(options, address, SOCK_STREAM | SOCK_NONBLOCK);
  SetNoDelay(connection.fd);
  if (connect(connection.fd, address.get(), address.length) != 0 && errno != EINPROGRESS) {
    Fail("connect");
  }
  epoll_event event{EPOLLOUT, {.ptr = &connection}};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection.fd, &event) != 0) Fail("epoll_ctl");
}

// One step of a crr connection; true when it has ended, with the server's end of file.
bool Step(int epoll, Connection& connection, std::vector<char>& request,
          std::vector<char>& buffer) {
  if (!connection.sent) {
    if (!WriteAll(connection.fd, request.data(), request.size())) Fail("connect");
    connection.sent = true;
    connection.missing = request.size();
    epoll_event event{EPOLLIN, {.ptr = &connection}};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection.fd, &event) != 0) Fail("epoll_ctl");
    return false;
  }
  while (true) {
    const ssize_t got = read(connection.fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0) Fail("read");
    if (got == 0) break;
    connection.missing -= static_cast<size_t>(got);
  }
  if (connection.missing != 0) {
    errno = EPROTO;
    Fail("the answer was cut short");
  }
  return true;
}

// One at a time, with blocking calls.
void OneByOne(const Options& options, std::vector<char>& request, Meter& meter) {
  std::vector<char> buffer(request.size() + 1);
  for (int turn = 0; meter.Tick(); ++turn) {
    const int fd = Connect(options, options.port + turn % options.ports);
    SetNoDelay(fd);
    if (!WriteAll(fd, request.data(), request.size())) Fail("write");
    if (!ReadAll(fd, buffer.data(), request.size())) Fail("read");
    if (read(fd, buffer.data(), 1) != 0) Fail("end of file");
    close(fd);
    meter.Add(meter.now());
  }
}

}  // namespace

int RequestResponse(const Options& options) {
  const size_t size = options.size != 0 ? options.size : 1;
  return Rounds(options, std::string(size, 'x'), options.response != 0 ? options.response : size);
}

int Memcached(const Options& options) {
  const size_t size = options.size != 0 ? options.size : 100;
  const std::string value(size, 'v');
  const std::string store = "set key 0 0 " + std::to_string(size) + "\r\n" + value + "\r\n";
  const std::string stored = "STORED\r\n";
  const int fd = Connect(options, options.port);
  std::string answer(stored.size(), ' ');
  if (!WriteAll(fd, store.data(), store.size()) || !ReadAll(fd, answer.data(), answer.size()) ||
      answer != stored) {
    Fail("memcached: set");
  }
  close(fd);
  if (options.set) return Rounds(options, store, stored.size());
  const std::string hit = "VALUE key 0 " + std::to_string(size) + "\r\n" + value + "\r\nEND\r\n";
  return Rounds(options, "get key\r\n", hit.size());
}

int ConnectRequestResponse(const Options& options) {
  std::vector<char> request(options.size != 0 ? options.size : 1, 'x');
  Meter meter(options);
  if (options.in_flight == 1) {
    OneByOne(options, request, meter);
    meter.Print(options.mode, options);
    return 0;
  }
  const int epoll = MakeEpoll();
  std::vector<Address> addresses;
  for (int i = 0; i < options.ports; ++i) {
    addresses.push_back(Resolve(options.address, options.port + i));
  }
  size_t turn = 0;
  const auto next = [&]() -> const Address& { return addresses[turn++ % addresses.size()]; };
  std::vector<Connection> connections(static_cast<size_t>(options.in_flight));
  for (Connection& connection : connections) Open(options, next(), epoll, connection);
  std::vector<char> buffer(64 * 1024);
  std::vector<epoll_event> events(256);
  while (meter.Tick()) {
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 1000);
    if (count < 0 && errno != EINTR) Fail("epoll_wait");
    for (int i = 0; i < count; ++i) {
      auto& connection = *static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
      if (!Step(epoll, connection, request, buffer)) continue;
      close(connection.fd);
      meter.Add(connection.since);
      Open(options, next(), epoll, connection);
    }
  }
  meter.Print(options.mode, options);
  return 0;
}

}  // namespace userstack::load
