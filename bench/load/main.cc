// The command line of the load program. `load MODE [--option value]...`; the result is one line of
// JSON on stdout. A server says "ready" when it listens, and serves until it is killed.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "bench/load/load.h"

namespace userstack::load {
namespace {

constexpr char kUsage[] =
    "usage: load MODE [options]\n"
    "servers (until killed):\n"
    "  echo-server  [--blocking] [--close] [--ports N]   epoll, or a thread a connection\n"
    "  bulk-server                                       a thread a connection\n"
    "clients (one line of JSON):\n"
    "  pingpong     [--size 1]                           latency of one request at a time\n"
    "  bulk         [--receive] [--streams N] [--size B] [--mss M]\n"
    "  crr          [--in-flight N] [--ports N] [--size B]  connect, request, response, close\n"
    "  rr           [--in-flight N] [--pipeline N] [--size B] [--response B]\n"
    "  memcached    [--in-flight N] [--pipeline N] [--size B] [--set]\n"
    "  udp-flood    [--size 64] [--batch N]\n"
    "  udp-sink     [--size 64] [--batch N]              ends by itself\n"
    "all: --address A (IPv4 or IPv6) --port P --seconds S --warmup S\n";

[[noreturn]] void Usage() {
  std::fputs(kUsage, stderr);
  std::exit(2);
}

bool Flag(Options& options, std::string_view name) {
  if (name == "--receive") return options.receive = true;
  if (name == "--blocking") return options.blocking = true;
  if (name == "--close") return options.close_after_reply = true;
  if (name == "--set") return options.set = true;
  return false;
}

bool Number(Options& options, std::string_view name, const char* text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (*text == '\0' || *end != '\0' || value < 0) return false;
  const int whole = static_cast<int>(value);
  if (name == "--seconds") return options.seconds = value, true;
  if (name == "--warmup") return options.warmup = value, true;
  if (name == "--size") return options.size = static_cast<size_t>(whole), true;
  if (name == "--response") return options.response = static_cast<size_t>(whole), true;
  if (name == "--mss") return options.mss = whole, true;
  if (whole < 1) return false;
  if (name == "--port") return options.port = whole, true;
  if (name == "--ports") return options.ports = whole, true;
  if (name == "--streams") return options.streams = whole, true;
  if (name == "--in-flight") return options.in_flight = whole, true;
  if (name == "--pipeline") return options.pipeline = whole, true;
  if (name == "--batch") return options.batch = whole, true;
  return false;
}

Options Parse(int argc, char** argv) {
  Options options;
  if (argc < 2) Usage();
  options.mode = argv[1];
  for (int i = 2; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (Flag(options, name)) continue;
    if (++i == argc) Usage();
    if (name == "--address") {
      options.address = argv[i];
    } else if (!Number(options, name, argv[i])) {
      Usage();
    }
  }
  return options;
}

int Run(const Options& options) {
  const std::string_view mode = options.mode;
  if (mode == "echo-server") return EchoServer(options);
  if (mode == "bulk-server") return BulkServer(options);
  if (mode == "pingpong") return PingPong(options);
  if (mode == "bulk") return Bulk(options);
  if (mode == "crr") return ConnectRequestResponse(options);
  if (mode == "rr") return RequestResponse(options);
  if (mode == "memcached") return Memcached(options);
  if (mode == "udp-flood") return UdpFlood(options);
  if (mode == "udp-sink") return UdpSink(options);
  Usage();
}

}  // namespace
}  // namespace userstack::load

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  return userstack::load::Run(userstack::load::Parse(argc, argv));
}
