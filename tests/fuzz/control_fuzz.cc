// Control messages of sendmsg: decoded, and what they ask for tried on a socket; then encoded into
// whatever room a recvmsg left. Input: {kind, domain, room (2 bytes), control bytes}. Every copy is
// exactly as long as it says, so that a sanitizer sees what is read or written beyond.
#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "netstack/base/check.h"
#include "shim/dispatch/control.h"
#include "tests/fuzz/fuzz_host.h"

namespace userstack::testing {
namespace {

constexpr int kUdpSegment = 103;  // linux/udp.h

void SendWith(const Ancillary& ancillary, Family domain, SocketKind kind) {
  FuzzHost fuzzed;
  Host& host = fuzzed.host();
  const int family = domain == Family::kIpv4 ? AF_INET : AF_INET6;
  const int type = kind == SocketKind::kTcp   ? SOCK_STREAM
                   : kind == SocketKind::kUdp ? SOCK_DGRAM
                                              : SOCK_RAW;
  Result<Socket*> socket = host.stack().CreateSocket(family, type, type == SOCK_RAW ? 200 : 0);
  Check(socket.ok(), "fuzz: socket");
  uint8_t payload[1000] = {};
  const iovec part{payload, sizeof payload};
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(9);
  v4.sin_addr.s_addr = htonl(kPeerV4);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(type == SOCK_RAW ? 0 : 9);
  CopyAddress(PeerV6(), v6.sin6_addr.s6_addr);
  const auto* to = domain == Family::kIpv4 ? reinterpret_cast<const sockaddr*>(&v4)
                                           : reinterpret_cast<const sockaddr*>(&v6);
  const socklen_t length = domain == Family::kIpv4 ? sizeof v4 : sizeof v6;
  (void)host.stack().Send(**socket, IoVector(&part, 1), MSG_DONTWAIT, to, length, &ancillary,
                          fuzzed.now());
  fuzzed.Turn();
  fuzzed.Pass(Duration::Seconds(5));
  host.stack().DestroySocket(*socket, fuzzed.now());
  fuzzed.Turn();
  host.stack().CheckInvariants();
}

void Encode(const Ancillary& ancillary, Family domain, uint16_t room) {
  const auto exact = std::make_unique<uint8_t[]>(room);
  msghdr message{};
  message.msg_control = exact.get();
  message.msg_controllen = room;
  shim::ControlStyle style;
  style.domain = domain;
  style.v4_packet = domain == Family::kIpv4 || (room & 1) != 0;
  style.timestamp_ns = (room & 2) != 0;
  const int flags = shim::EncodeControl(ancillary, style, &message);
  Check((flags & ~MSG_CTRUNC) == 0, "control: other flags");
  Check(message.msg_controllen <= room, "control: more than there was room for");
}

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  Input input(data, size);
  static constexpr SocketKind kKinds[] = {SocketKind::kTcp, SocketKind::kUdp, SocketKind::kRaw};
  const SocketKind kind = kKinds[input.U8() % 3];
  const Family domain = (input.U8() & 1) != 0 ? Family::kIpv6 : Family::kIpv4;
  const uint16_t room = input.U16() % 512;
  const Bytes control = input.Take(input.left());
  const auto exact = std::make_unique<uint8_t[]>(control.size());
  std::copy(control.begin(), control.end(), exact.get());
  msghdr message{};
  message.msg_control = exact.get();
  message.msg_controllen = control.size();
  Ancillary ancillary;
  const long result = shim::DecodeControl(message, kind, domain, &ancillary);
  Check(result == 0 || result == -EINVAL, "control: neither taken nor EINVAL");
  if (result == 0) SendWith(ancillary, domain, kind);
  ancillary.present |= room;
  Encode(ancillary, domain, room);
}

std::vector<Bytes> FuzzSeeds() {
  const auto item = [](int level, int type, const Bytes& value) {
    cmsghdr header{};
    header.cmsg_level = level;
    header.cmsg_type = type;
    header.cmsg_len = CMSG_LEN(value.size());
    Bytes out(CMSG_SPACE(value.size()));
    std::memcpy(out.data(), &header, sizeof header);
    std::copy(value.begin(), value.end(), out.begin() + CMSG_LEN(0));
    return out;
  };
  const Bytes word = {7, 0, 0, 0}, one = {0x28};
  Bytes info4(sizeof(in_pktinfo)), info6(sizeof(in6_pktinfo));
  info4[0] = info6[16] = 1;
  const Bytes room = {0, 255};
  return {
      Concat({{1, 0}, room, item(SOL_IP, IP_PKTINFO, info4), item(SOL_IP, IP_TTL, word)}),
      Concat({{1, 0}, room, item(SOL_IP, IP_TOS, one), item(SOL_UDP, kUdpSegment, {100, 0})}),
      Concat({{1, 1}, room, item(SOL_IPV6, IPV6_PKTINFO, info6)}),
      Concat(
          {{1, 1}, room, item(SOL_IPV6, IPV6_HOPLIMIT, word), item(SOL_IPV6, IPV6_TCLASS, word)}),
      Concat({{2, 0}, room, item(SOL_IP, IP_TTL, word), item(SOL_SOCKET, SO_MARK, word)}),
      Concat({{0, 0}, room, item(SOL_SOCKET, SCM_RIGHTS, word)}),
  };
}

}  // namespace userstack::testing
