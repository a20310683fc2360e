// UDP input: validation, demultiplexing, delivery, and ICMP errors.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "netstack/base/checksum.h"
#include "netstack/udp/udp.h"
#include "netstack/wire/udp.h"

namespace userstack {
namespace {

constexpr int kNoMatch = -1;

bool InterfaceFits(const UdpEndpoint& endpoint, uint16_t interface) {
  const uint16_t bound = endpoint.options.bound_interface;
  return bound == 0 || interface == 0 || bound == interface;
}

// Linux: compute_score, for endpoints that are not connected. More particular ones win.
int Score(const UdpEndpoint& endpoint, const IpAddress& local, uint16_t interface) {
  if (!endpoint.Accepts(local.family()) || !InterfaceFits(endpoint, interface)) return kNoMatch;
  const bool wildcard = endpoint.local.address.is_unspecified();
  if (!wildcard && endpoint.local.address != local) return kNoMatch;
  int score = endpoint.family == local.family() ? 1 : 0;
  if (!wildcard) score += 8;
  if (endpoint.options.bound_interface != 0) score += 4;
  return score;
}

}  // namespace

// Among sockets that share a port by SO_REUSEPORT, the four-tuple decides.
UdpEndpoint* Udp::Spread(const Endpoint& local, const Endpoint& remote, uint16_t interface,
                         int score, UdpEndpoint* first) const {
  if (!first->options.reuse_port) return first;
  uint64_t candidates = 0;
  const auto is_candidate = [&](const UdpEndpoint& e) {
    return e.options.reuse_port && Score(e, local.address, interface) == score;
  };
  open_.ForEachWithHash(local.port,
                        [&](const UdpEndpoint& e) { candidates += is_candidate(e) ? 1 : 0; });
  uint64_t chosen = TupleHash(local, remote) % candidates;
  UdpEndpoint* result = first;
  open_.ForEachWithHash(local.port, [&](UdpEndpoint& e) {
    if (is_candidate(e) && chosen-- == 0) result = &e;
  });
  return result;
}

UdpEndpoint* Udp::Find(const Endpoint& local, const Endpoint& remote, uint16_t interface) const {
  if (connected_.size() > 0) {
    UdpEndpoint* exact = connected_.Find(TupleHash(local, remote), [&](const UdpEndpoint& e) {
      return e.local.port == local.port && e.remote.port == remote.port &&
             e.local.address == local.address && e.remote.address == remote.address &&
             InterfaceFits(e, interface);
    });
    if (exact != nullptr) return exact;
  }
  UdpEndpoint* best = nullptr;
  int best_score = kNoMatch;
  open_.ForEachWithHash(local.port, [&](UdpEndpoint& e) {
    const int score = Score(e, local.address, interface);
    if (score <= best_score) return;
    best = &e;
    best_score = score;
  });
  return best == nullptr ? nullptr : Spread(local, remote, interface, best_score, best);
}

bool Udp::HasEndpoint(const Endpoint& local) const {
  bool found = false;
  ports_.ForEachWithHash(local.port, [&](const UdpEndpoint& e) {
    const IpAddress& own = e.local.address;
    found |= e.Accepts(local.address.family()) && InterfaceFits(e, kLoopbackInterface) &&
             (own.is_unspecified() || own == local.address);
  });
  return found;
}

// Broadcast and multicast: a copy for everyone who listens (Linux: __udp4_lib_mcast_deliver).
void Udp::DeliverToAll(Packet* packet) {
  const IpInfo& ip = packet->ip;
  UdpEndpoint* last = nullptr;
  ports_.ForEachWithHash(ip.destination_port, [&](UdpEndpoint& e) {
    if (!e.Accepts(ip.destination.family()) || !InterfaceFits(e, ip.interface)) return;
    // Connect fixes the local address too, so a connected socket hears no groups but the one that
    // it is bound to (Linux compares inet_rcv_saddr).
    if (!e.local.address.is_unspecified() && e.local.address != ip.destination) return;
    if (e.connected && (e.remote.address != ip.source || e.remote.port != ip.source_port)) {
      return;
    }
    if (ip.is_multicast && !datagrams_->WantsGroup(e, ip)) return;
    if (last != nullptr) {
      Packet* copy = core_->packets.Clone(*packet);
      if (copy != nullptr) datagrams_->Deliver(*last, copy);
    }
    last = &e;
  });
  if (last == nullptr) {
    core_->packets.Release(packet);
    return;
  }
  core_->counters.Add(Counter::kUdpInDatagrams);
  datagrams_->Deliver(*last, packet);
}

bool Udp::VerifyChecksum(const Packet& packet, uint16_t checksum) const {
  const Offload& offload = packet.offload;
  // What came through memory only, or was checked by the device, needs no sum.
  if (packet.looped || offload.checksum_verified || offload.checksum_needed) return true;
  if (checksum == 0) return true;  // IPv4: none was sent; IPv6: the caller looks at the socket
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(packet.ip.source, packet.ip.destination, IPPROTO_UDP, packet.length);
  for (unsigned i = 0; i < packet.slice_count; ++i) {
    sum.Add(packet.slices[i].data(), packet.slices[i].length);
  }
  return sum.Checksum() == 0;
}

Udp::InputResult Udp::Input(Packet* packet) {
  wire::UdpHeader header;
  if (!wire::ParseUdpHeader(packet->data(), packet->contiguous(), packet->length, &header)) {
    core_->counters.Add(Counter::kUdpInErrors);
    core_->packets.Release(packet);
    return InputResult::kTaken;
  }
  core_->packets.Trim(packet, header.length);
  if (!VerifyChecksum(*packet, header.checksum)) {
    core_->counters.Add(Counter::kUdpChecksumErrors);
    core_->counters.Add(Counter::kUdpInErrors);
    core_->packets.Release(packet);
    return InputResult::kTaken;
  }
  IpInfo& ip = packet->ip;
  ip.source_port = header.source_port;
  ip.destination_port = header.destination_port;
  if (ip.is_broadcast || ip.is_multicast) {
    packet->Pull(wire::kUdpHeaderBytes);
    DeliverToAll(packet);
    return InputResult::kTaken;
  }
  UdpEndpoint* endpoint =
      Find({ip.destination, ip.destination_port, 0}, {ip.source, ip.source_port, 0}, ip.interface);
  // RFC 8200 8.1: no UDP over IPv6 without a checksum, but for sockets that ask (RFC 6935).
  const bool unsummed = ip.destination.is_v6() && header.checksum == 0 && !packet->looped;
  if (unsummed && (endpoint == nullptr || !endpoint->accept_zero_checksum_v6)) {
    core_->counters.Add(Counter::kUdpChecksumErrors);
    core_->counters.Add(Counter::kUdpInErrors);
    core_->packets.Release(packet);
    return InputResult::kTaken;
  }
  if (endpoint == nullptr) {
    core_->counters.Add(Counter::kUdpNoPorts);
    return InputResult::kNoPort;
  }
  packet->Pull(wire::kUdpHeaderBytes);
  const bool taken = datagrams_->Deliver(*endpoint, packet);
  core_->counters.Add(taken ? Counter::kUdpInDatagrams : Counter::kUdpReceiveBufferErrors);
  if (!taken) core_->counters.Add(Counter::kUdpInErrors);
  return InputResult::kTaken;
}

// Linux: __udp4_lib_err, __udp6_lib_err.
void Udp::OnIcmpError(const IcmpError& error, Instant now) {
  if (error.embedded_length < wire::kUdpHeaderBytes) return;
  const Endpoint local{error.local, Load16(error.embedded), 0};
  const Endpoint remote{error.remote, Load16(error.embedded + 2), 0};
  UdpEndpoint* endpoint = Find(local, remote, 0);
  if (endpoint == nullptr) return;
  DatagramFault fault;
  fault.error = error.error;
  fault.hard = error.hard;
  if (error.error == EMSGSIZE) {
    const uint8_t discover =
        error.remote.is_v4() ? endpoint->options.mtu_discover : endpoint->options.mtu_discover_v6;
    constexpr uint8_t kInterface = 4;  // IP_PMTUDISC_INTERFACE and _OMIT believe no one
    if (discover >= kInterface) return;
    ip_->UpdatePathMtu(error.remote, error.mtu, now);
    if (discover == 0) return;
    fault.hard = true;
  }
  fault.origin = error.origin;
  fault.type = error.type;
  fault.code = error.code;
  fault.info = error.info;
  fault.offender = error.offender;
  fault.payload = error.embedded + wire::kUdpHeaderBytes;
  fault.payload_length = error.embedded_length - wire::kUdpHeaderBytes;
  datagrams_->ReportFault(*endpoint, remote, fault, now);
}

}  // namespace userstack
