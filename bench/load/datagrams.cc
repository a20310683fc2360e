// UDP packets per second: a flood as fast as one thread can, and a sink that counts what arrives.

#include <netinet/in.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <vector>

#include "bench/load/load.h"

namespace userstack::load {
namespace {

constexpr size_t kDefaultSize = 64;

size_t SizeOf(const Options& options) { return options.size != 0 ? options.size : kDefaultSize; }

// As many messages of one slice each as a batch has.
struct Messages {
  Messages(const Options& options, const Address* to)
      : bytes(SizeOf(options) * static_cast<size_t>(options.batch), 'x'),
        slices(static_cast<size_t>(options.batch)),
        headers(static_cast<size_t>(options.batch)) {
    for (size_t i = 0; i < headers.size(); ++i) {
      slices[i] = {bytes.data() + i * SizeOf(options), SizeOf(options)};
      headers[i].msg_hdr.msg_iov = &slices[i];
      headers[i].msg_hdr.msg_iovlen = 1;
      if (to != nullptr) {
        headers[i].msg_hdr.msg_name = const_cast<sockaddr*>(to->get());
        headers[i].msg_hdr.msg_namelen = to->length;
      }
    }
  }
  std::vector<char> bytes;
  std::vector<iovec> slices;
  std::vector<mmsghdr> headers;
};

}  // namespace

int UdpFlood(const Options& options) {
  const Address address = Resolve(options.address, options.port);
  const int fd = MakeSocket(options, address, SOCK_DGRAM);
  Messages messages(options, &address);
  const int64_t began = Now();
  const int64_t end = began + Nanoseconds(options.warmup + options.seconds);
  uint64_t sent = 0, refused = 0;
  int64_t now = began;
  for (; now < end; now = Now()) {
    // A clock read for every 32 datagrams at the most.
    for (int i = 0; i < 32; i += options.batch) {
      const int count = options.batch > 1 ? sendmmsg(fd, messages.headers.data(),
                                                     static_cast<unsigned>(options.batch), 0)
                        : sendto(fd, messages.bytes.data(), messages.bytes.size(), 0, address.get(),
                                 address.length) >= 0
                            ? 1
                            : -1;
      if (count > 0) {
        sent += static_cast<uint64_t>(count);
      } else if (errno == ENOBUFS || errno == EAGAIN) {
        ++refused;
      } else {
        Fail("send");
      }
    }
  }
  const double took = static_cast<double>(now - began) / 1e9;
  std::printf(
      "{\"mode\": \"udp-flood\", \"size\": %zu, \"batch\": %d, \"sent_per_second\": %.0f, "
      "\"refused\": %lu}\n",
      SizeOf(options), options.batch, static_cast<double>(sent) / took, refused);
  return 0;
}

int UdpSink(const Options& options) {
  const Address address = Resolve(options.address, options.port);
  const int fd = MakeSocket(options, address, SOCK_DGRAM);
  if (bind(fd, address.get(), address.length) != 0) Fail("bind");
  std::puts("ready");
  std::fflush(stdout);
  const timeval timeout{0, 100'000};  // so that the end comes also when nothing arrives any more
  Messages messages(options, nullptr);
  uint64_t received = 0;
  int64_t begin = 0, end = 0, began = 0, now = 0;
  double busy = 0;
  while (now == 0 || now < end) {
    const int count = options.batch > 1
                          ? recvmmsg(fd, messages.headers.data(),
                                     static_cast<unsigned>(options.batch), MSG_WAITFORONE, nullptr)
                      : recv(fd, messages.bytes.data(), messages.bytes.size(), 0) >= 0 ? 1
                                                                                       : -1;
    if (count < 0 && errno != EAGAIN && errno != EINTR) Fail("recv");
    now = Now();
    if (end == 0 && count > 0) {  // the first datagram starts the clock
      begin = now + Nanoseconds(options.warmup);
      end = begin + Nanoseconds(options.seconds);
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    }
    if (now < begin) continue;
    if (began == 0) {
      busy = MachineBusySeconds();
      began = Now();
    } else if (count > 0) {
      received += static_cast<uint64_t>(count);
    }
  }
  const double took = static_cast<double>(now - began) / 1e9;
  busy = MachineBusySeconds() - busy;
  std::printf(
      "{\"mode\": \"udp-sink\", \"size\": %zu, \"batch\": %d, \"per_second\": %.0f, "
      "\"busy_cores\": %.3f, \"cpu_us_per_packet\": %.4f}\n",
      SizeOf(options), options.batch, static_cast<double>(received) / took, busy / took,
      received != 0 ? busy * 1e6 / static_cast<double>(received) : 0.0);
  return 0;
}

}  // namespace userstack::load
