// What socket calls cost a program: on a connection to oneself (which the library carries inside
// the stack, and the kernel over its loopback), so that no wire and no other thread takes part. The
// same binary runs with and without the library; bench/calls puts the two beside each other.
//
//   calls_bench ADDRESS [benchmark options]     ADDRESS is one of the machine's or the stack's own
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

in_addr g_address;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::perror(what);
  std::exit(1);
}

sockaddr_in Name(in_port_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr = g_address;
  name.sin_port = port;
  return name;
}

// A socket of its own address, bound to a free port.
int Bound(int type, sockaddr_in* name) {
  const int fd = socket(AF_INET, type, 0);
  Require(fd >= 0, "socket");
  *name = Name(0);
  Require(bind(fd, reinterpret_cast<sockaddr*>(name), sizeof *name) == 0, "bind");
  socklen_t length = sizeof *name;
  Require(getsockname(fd, reinterpret_cast<sockaddr*>(name), &length) == 0, "getsockname");
  return fd;
}

class Connection {
 public:
  explicit Connection(int type) {
    sockaddr_in name;
    const int first = Bound(type, &name);
    if (type == SOCK_STREAM) Require(listen(first, 1) == 0, "listen");
    ends_[1] = socket(AF_INET, type, 0);
    Require(connect(ends_[1], reinterpret_cast<sockaddr*>(&name), sizeof name) == 0, "connect");
    if (type == SOCK_STREAM) {
      ends_[0] = accept(first, nullptr, nullptr);
      Require(ends_[0] >= 0, "accept");
      close(first);
      const int on = 1;
      for (const int end : ends_) setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    } else {
      ends_[0] = first;
    }
  }
  ~Connection() {
    for (const int end : ends_) close(end);
  }
  int operator[](int i) const { return ends_[i]; }

 private:
  int ends_[2];
};

void SendAndReceive(benchmark::State& state, int type) {
  Connection connection(type);
  std::vector<char> bytes(static_cast<size_t>(state.range(0)), 'x');
  for (auto _ : state) {
    const auto sent = send(connection[1], bytes.data(), bytes.size(), 0);
    Require(sent == static_cast<ssize_t>(bytes.size()), "send");
    for (ssize_t got = 0; got < sent;) {
      const ssize_t n = recv(connection[0], bytes.data(), bytes.size(), 0);
      Require(n > 0, "recv");
      got += n;
    }
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
void BM_TcpSendReceive(benchmark::State& state) { SendAndReceive(state, SOCK_STREAM); }
BENCHMARK(BM_TcpSendReceive)->Arg(1)->Arg(1448)->Arg(65536);
void BM_UdpSendReceive(benchmark::State& state) { SendAndReceive(state, SOCK_DGRAM); }
BENCHMARK(BM_UdpSendReceive)->Arg(64)->Arg(1400);

// The least that a call on the stack's descriptor can cost: number, lock, look-up.
void BM_GetSocketType(benchmark::State& state) {
  Connection connection(SOCK_DGRAM);
  for (auto _ : state) {
    int type = 0;
    socklen_t length = sizeof type;
    getsockopt(connection[0], SOL_SOCKET, SO_TYPE, &type, &length);
    benchmark::DoNotOptimize(type);
  }
}
BENCHMARK(BM_GetSocketType);

void BM_ReceiveNothing(benchmark::State& state) {
  Connection connection(SOCK_STREAM);
  char byte;
  for (auto _ : state) benchmark::DoNotOptimize(recv(connection[0], &byte, 1, MSG_DONTWAIT));
}
BENCHMARK(BM_ReceiveNothing);

// epoll_wait that finds one of `range` sockets ready, level-triggered.
void BM_EpollWait(benchmark::State& state) {
  Connection ready(SOCK_DGRAM);
  Require(send(ready[1], "x", 1, 0) == 1, "send");
  const int epoll = epoll_create1(0);
  std::vector<int> watched;
  epoll_event event{};
  event.events = EPOLLIN;
  for (int64_t i = 1; i < state.range(0); ++i) {
    watched.push_back(socket(AF_INET, SOCK_DGRAM, 0));
    Require(watched.back() >= 0, "socket");
    Require(epoll_ctl(epoll, EPOLL_CTL_ADD, watched.back(), &event) == 0, "epoll_ctl");
  }
  Require(epoll_ctl(epoll, EPOLL_CTL_ADD, ready[0], &event) == 0, "epoll_ctl");
  epoll_event events[16];
  for (auto _ : state) Require(epoll_wait(epoll, events, 16, -1) == 1, "epoll_wait");
  close(epoll);
  for (const int fd : watched) close(fd);
}
BENCHMARK(BM_EpollWait)->Arg(1)->Arg(100)->Arg(10'000);

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || inet_aton(argv[1], &g_address) == 0) {
    std::fprintf(stderr, "usage: calls_bench ADDRESS [benchmark options]\n");
    return 2;
  }
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  for (int i = 1; i + 1 < argc; ++i) argv[i] = argv[i + 1];
  --argc;
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
