// What a program says to its sockets: options, names and requests, any level, any length. Input:
// steps {call, socket, level, name (2 bytes), length, value}. Values lie in memory of exactly their
// length.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <memory>

#include "netstack/base/check.h"
#include "tests/fuzz/fuzz_host.h"

namespace userstack::testing {
namespace {

class Program {
 public:
  Program() {
    static constexpr struct {
      int family, type, protocol;
    } kSockets[] = {{AF_INET, SOCK_STREAM, 0},        {AF_INET6, SOCK_STREAM, 0},
                    {AF_INET, SOCK_DGRAM, 0},         {AF_INET6, SOCK_DGRAM, 0},
                    {AF_INET, SOCK_RAW, 200},         {AF_INET6, SOCK_RAW, IPPROTO_ICMPV6},
                    {AF_INET, SOCK_RAW, IPPROTO_ICMP}};
    for (const auto& one : kSockets) {
      const auto socket = stack().CreateSocket(one.family, one.type, one.protocol);
      Check(socket.ok(), "fuzz: socket");
      sockets_.push_back(*socket);
    }
  }
  ~Program() {
    for (Socket* socket : sockets_) stack().DestroySocket(socket, fuzzed_.now());
    fuzzed_.Turn();
    fuzzed_.Pass(Duration::Seconds(200));
    const Usage left = fuzzed_.host().usage();
    Check(left.packets == 0 && left.frames == 0, "fuzz: memory is left");
  }

  void Step(Input* input) {
    const uint8_t call = input->U8();
    Socket& socket = *sockets_[input->U8() % sockets_.size()];
    static constexpr int kLevels[] = {SOL_SOCKET,  IPPROTO_IP,     IPPROTO_IPV6, IPPROTO_TCP,
                                      IPPROTO_UDP, IPPROTO_ICMPV6, IPPROTO_RAW,  255};
    const int level = kLevels[input->U8() % 8];
    const int name = input->U16();
    const Bytes value = input->Take(input->U8());
    const auto exact = std::make_unique<uint8_t[]>(value.size());
    std::copy(value.begin(), value.end(), exact.get());
    Do(call % 8, socket, level, name, exact.get(), static_cast<socklen_t>(value.size()));
    stack().CheckInvariants();
  }

 private:
  Stack& stack() { return fuzzed_.host().stack(); }

  void Do(uint8_t call, Socket& socket, int level, int name, uint8_t* value, socklen_t length) {
    const Instant now = fuzzed_.now();
    const auto* address = reinterpret_cast<const sockaddr*>(value);
    switch (call) {
      case 0:
      case 1:
        (void)stack().SetOption(socket, level, name, value, length, now);
        return;
      case 2: {
        socklen_t room = length;
        (void)stack().GetOption(socket, level, name, value, &room, now);
        Check(room <= length, "option: more than there was room for");
        return;
      }
      case 3:
        (void)stack().Bind(socket, address, length);
        return;
      case 4:
        (void)stack().Connect(socket, address, length, now);
        return;
      case 5: {
        uint8_t payload[100] = {};
        const iovec part{payload, sizeof payload};
        (void)stack().Send(socket, IoVector(&part, 1), MSG_DONTWAIT | (name & 0xffff), address,
                           length, nullptr, now);
        return;
      }
      case 6:
        (void)stack().Ioctl(socket, 0x5400u + static_cast<unsigned long>(name), now);
        return;
      default:
        fuzzed_.Turn();
        fuzzed_.Pass(Duration::Milliseconds(name));
        return;
    }
  }

  FuzzHost fuzzed_;
  std::vector<Socket*> sockets_;
};

Bytes Step(uint8_t call, uint8_t socket, uint8_t level, int name, const Bytes& value) {
  return Concat({{call, socket, level, static_cast<uint8_t>(name >> 8), static_cast<uint8_t>(name),
                  static_cast<uint8_t>(value.size())},
                 value});
}

template <typename T>
Bytes BytesOf(const T& value) {
  Bytes out(sizeof value);
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  Program program;
  Input input(data, size);
  for (int steps = 0; !input.empty() && steps < 64; ++steps) program.Step(&input);
}

std::vector<Bytes> FuzzSeeds() {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(9);
  v4.sin_addr.s_addr = htonl(kPeerV4);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(9);
  CopyAddress(PeerV6(), v6.sin6_addr.s6_addr);
  const Bytes yes = BytesOf(1), four = BytesOf(v4), six = BytesOf(v6);
  const ip_mreqn group{{htonl(0xe0000105)}, {0}, 1};
  ipv6_mreq group6{};
  group6.ipv6mr_multiaddr.s6_addr[0] = 0xff;
  group6.ipv6mr_multiaddr.s6_addr[1] = 2;
  group6.ipv6mr_multiaddr.s6_addr[15] = 9;
  group6.ipv6mr_interface = 1;
  const Bytes eth = {'e', 't', 'h', '0'};
  return {
      Concat({Step(0, 0, 0, SO_KEEPALIVE, yes), Step(0, 0, 3, TCP_KEEPIDLE, yes),
              Step(4, 0, 0, 0, four), Step(7, 0, 0, 1000, {}),
              Step(2, 0, 3, TCP_INFO, Bytes(232))}),
      Concat({Step(0, 0, 3, TCP_CONGESTION, {'r', 'e', 'n', 'o'}), Step(3, 0, 0, 0, four),
              Step(0, 0, 0, SO_LINGER, BytesOf(linger{1, 0})), Step(2, 0, 0, SO_LINGER, Bytes(8))}),
      Concat({Step(0, 2, 1, IP_ADD_MEMBERSHIP, BytesOf(group)), Step(5, 2, 0, 0, four),
              Step(0, 2, 1, IP_MULTICAST_TTL, {3}), Step(0, 2, 1, IP_RECVERR, yes)}),
      Concat({Step(0, 3, 2, IPV6_JOIN_GROUP, BytesOf(group6)), Step(5, 3, 0, 0, six),
              Step(0, 3, 2, IPV6_UNICAST_HOPS, yes), Step(2, 3, 2, IPV6_MTU, Bytes(4))}),
      Concat({Step(0, 2, 0, SO_BINDTODEVICE, eth), Step(2, 2, 0, SO_BINDTODEVICE, Bytes(16)),
              Step(6, 2, 0, 0x1b, {}), Step(4, 2, 0, 0, four), Step(4, 2, 0, 0, {0, 0})}),
      Concat({Step(0, 5, 5, 1, Bytes(32)), Step(0, 6, 6, 1, yes), Step(0, 4, 1, IP_HDRINCL, yes),
              Step(5, 4, 0, 0, four)}),
      Concat({Step(0, 0, 0, SO_RCVBUF, yes), Step(0, 1, 2, IPV6_V6ONLY, yes), Step(3, 1, 0, 0, six),
              Step(0, 2, 1, IP_PKTINFO, yes), Step(0, 2, 0, SO_SNDBUF, BytesOf(1 << 20))}),
  };
}

}  // namespace userstack::testing
