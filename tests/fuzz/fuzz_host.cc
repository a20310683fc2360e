#include "tests/fuzz/fuzz_host.h"

#include <netinet/in.h>

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"

namespace userstack::testing {
namespace {

IpAddress V6(uint8_t last) {
  const uint8_t bytes[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last};
  return IpAddress::V6FromBytes(bytes);
}

}  // namespace

IpAddress HostV6() { return V6(1); }
IpAddress PeerV6() { return V6(2); }

FuzzHost::FuzzHost(const DeviceCapabilities* device) : buffer_(65536) {
  HostOptions options;
  options.name = "fuzzed";
  options.arena_bytes = size_t{32} << 20;
  options.stack.seed = 42;
  if (device != nullptr) options.device = *device;
  std::copy(kHostMac, kHostMac + 6, options.device.mac.bytes.begin());
  options.addresses = {{IpAddress::V4(kHostV4), 24}, {HostV6(), 64}};
  options.gateways = {IpAddress::V4(0x0a0000fe)};
  host_ = std::make_unique<Host>(options, 42, now_);
  Pass(Duration::Seconds(5));  // address detection
  // Both know each other's link address, so that answers leave at once.
  Input(ArpFrame(1, kPeerV4, kHostV4));
  Bytes solicitation(32, 0);
  solicitation[0] = 135;
  CopyAddress(HostV6(), &solicitation[8]);
  solicitation[24] = 1, solicitation[25] = 1;
  std::copy(kPeerMac, kPeerMac + 6, &solicitation[26]);
  Input(ToHostV6(58, solicitation, 255));
  sent_.clear();
}

FuzzHost::~FuzzHost() { host_->stack().CheckInvariants(); }

void FuzzHost::OpenEverything() {
  for (const int domain : {AF_INET, AF_INET6}) {
    const Family family = domain == AF_INET ? Family::kIpv4 : Family::kIpv6;
    SimSocket* listener = host_->Open(domain, SOCK_STREAM, this);
    Check(listener != nullptr, "fuzz: socket");
    const auto port = static_cast<uint16_t>(kHostPort + (domain == AF_INET ? 0 : 1));
    Check(host_->Bind(*listener, {IpAddress::Any(family), port, 0}).ok(), "fuzz: bind");
    Check(host_->Listen(*listener, 4).ok(), "fuzz: listen");
    host_->SetInterest(*listener, kEventIn, kWatchEdge);
    SimSocket* udp = host_->Open(domain, SOCK_DGRAM, this);
    Check(udp != nullptr, "fuzz: socket");
    const auto udp_port = static_cast<uint16_t>(kUdpPort + (domain == AF_INET ? 0 : 1));
    Check(host_->Bind(*udp, {IpAddress::Any(family), udp_port, 0}).ok(), "fuzz: bind");
    host_->SetInterest(*udp, kEventIn, kWatchEdge);
  }
}

void FuzzHost::OnEvents(SimSocket& socket, EventMask events) {
  (void)events;
  if (socket.socket->kind == SocketKind::kTcp) {
    int error = 0;
    while (SimSocket* accepted = host_->Accept(socket, this, &error)) {
      accepted_.push_back(accepted);
      host_->SetInterest(*accepted, kEventIn, kWatchEdge);
    }
    if (error == EAGAIN) return;
  }
  ReceivedMessage message;
  while (true) {
    const auto got = host_->Receive(socket, buffer_.data(), buffer_.size(), 0, &message);
    if (!got.ok()) return;
    if (socket.socket->kind == SocketKind::kTcp) {
      if (*got == 0) return;
      (void)host_->Send(socket, buffer_.data(), *got, MSG_NOSIGNAL);
    } else {
      if (on_datagram != nullptr) on_datagram(buffer_.data(), *got);
      (void)host_->SendTo(socket, buffer_.data(), *got, message.source);
    }
  }
}

void FuzzHost::Turn() {
  host_->Run(now_);
  while (Frame* frame = host_->NextFrame()) {
    sent_.push_back(Serialize(*frame));
    host_->core().frames.Release(frame);
  }
}

void FuzzHost::Input(Bytes frame, const Offload& offload) {
  host_->Enqueue({std::move(frame), offload});
  Turn();
}

void FuzzHost::Pass(Duration duration) {
  const Instant until = now_ + duration;
  for (int turns = 0; host_->stack().NextDeadline() <= until; ++turns) {
    now_ = std::max(now_, host_->stack().NextDeadline());
    Turn();
    Check(turns < 200'000, "fuzz: timer storm");
  }
  now_ = until;
  Turn();
}

Bytes EthernetFrame(const uint8_t* to, const uint8_t* from, uint16_t type, const Bytes& body) {
  Bytes out(14);
  std::copy(to, to + 6, out.begin());
  std::copy(from, from + 6, out.begin() + 6);
  Store16(&out[12], type);
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

Bytes Ipv4Packet(uint32_t from, uint32_t to, uint8_t protocol, const Bytes& body, uint16_t fragment,
                 uint16_t id) {
  Bytes out(20);
  out[0] = 0x45;
  Store16(&out[2], static_cast<uint16_t>(20 + body.size()));
  Store16(&out[4], id);
  Store16(&out[6], fragment);
  out[8] = 64;
  out[9] = protocol;
  Store32(&out[12], from);
  Store32(&out[16], to);
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

Bytes Ipv6Packet(const IpAddress& from, const IpAddress& to, uint8_t next, const Bytes& body,
                 uint8_t hop_limit) {
  Bytes out(40);
  out[0] = 0x60;
  Store16(&out[4], static_cast<uint16_t>(body.size()));
  out[6] = next;
  out[7] = hop_limit;
  std::copy(from.v6_bytes(), from.v6_bytes() + 16, &out[8]);
  std::copy(to.v6_bytes(), to.v6_bytes() + 16, &out[24]);
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

Bytes TcpSegment(uint16_t from, uint16_t to, uint32_t sequence, uint32_t acknowledgment,
                 uint8_t flags, uint16_t window, const Bytes& options, const Bytes& payload,
                 uint16_t urgent) {
  Bytes out(20);
  Store16(&out[0], from);
  Store16(&out[2], to);
  Store32(&out[4], sequence);
  Store32(&out[8], acknowledgment);
  Bytes padded = options;
  if (padded.size() > 40) padded.resize(40);
  while (padded.size() % 4 != 0) padded.push_back(1);
  out[12] = static_cast<uint8_t>((5 + padded.size() / 4) << 4);
  out[13] = flags;
  Store16(&out[14], window);
  Store16(&out[18], urgent);
  out.insert(out.end(), padded.begin(), padded.end());
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

Bytes UdpDatagram(uint16_t from, uint16_t to, const Bytes& payload) {
  Bytes out(8);
  Store16(&out[0], from);
  Store16(&out[2], to);
  Store16(&out[4], static_cast<uint16_t>(8 + payload.size()));
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

Bytes ToHostV4(uint8_t protocol, const Bytes& body) {
  Bytes out =
      EthernetFrame(kHostMac, kPeerMac, 0x0800, Ipv4Packet(kPeerV4, kHostV4, protocol, body));
  FixChecksums(&out);
  return out;
}

Bytes ToHostV6(uint8_t next, const Bytes& body, uint8_t hop_limit) {
  Bytes out = EthernetFrame(kHostMac, kPeerMac, 0x86dd,
                            Ipv6Packet(PeerV6(), HostV6(), next, body, hop_limit));
  FixChecksums(&out);
  return out;
}

Bytes ArpFrame(uint16_t operation, uint32_t sender, uint32_t target) {
  Bytes body(28);
  Store16(&body[0], 1);
  Store16(&body[2], 0x0800);
  body[4] = 6, body[5] = 4;
  Store16(&body[6], operation);
  std::copy(kPeerMac, kPeerMac + 6, &body[8]);
  Store32(&body[14], sender);
  if (operation == 2) std::copy(kHostMac, kHostMac + 6, &body[18]);
  Store32(&body[24], target);
  return EthernetFrame(kHostMac, kPeerMac, 0x0806, body);
}

Bytes Concat(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

}  // namespace userstack::testing
