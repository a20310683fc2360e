// Raw input: who wants a copy of a packet, and whom an ICMP error concerns.
#include <netinet/in.h>

#include <cstring>

#include "netstack/base/checksum.h"
#include "netstack/raw/raw.h"
#include "netstack/wire/icmp.h"

namespace userstack {
namespace {

bool AddressesFit(const RawEndpoint& e, const IpAddress& local, const IpAddress& remote,
                  uint16_t interface) {
  if (e.closed() || e.family != local.family()) return false;
  if (!e.local.address.is_unspecified() && e.local.address != local) return false;
  if (e.connected && e.remote.address != remote) return false;
  const uint16_t bound = e.options.bound_interface;
  return bound == 0 || interface == 0 || bound == interface;
}

}  // namespace

bool Raw::PassesFilter(const RawEndpoint& endpoint, const Packet& packet) const {
  if (packet.contiguous() < 1) return true;
  const uint8_t type = packet.data()[0];
  if (endpoint.protocol == IPPROTO_ICMP) {
    return type >= 32 || (endpoint.icmp_filter >> type & 1) == 0;
  }
  if (endpoint.protocol == IPPROTO_ICMPV6) {
    return (endpoint.icmp_v6_filter[type >> 5] >> (type & 31) & 1) == 0;
  }
  return true;
}

bool Raw::Wants(const RawEndpoint& endpoint, const Packet& packet) const {
  const IpInfo& ip = packet.ip;
  if (endpoint.protocol != ip.protocol) return false;
  if (!AddressesFit(endpoint, ip.destination, ip.source, ip.interface)) return false;
  if (ip.is_multicast && !datagrams_->WantsGroup(endpoint, ip)) return false;
  if (!endpoint.ping) return PassesFilter(endpoint, packet);
  // Linux: ping_rcv hears replies alone.
  wire::IcmpHeader header;
  if (!wire::ParseIcmpHeader(packet.data(), packet.contiguous(), &header)) return false;
  const uint8_t reply =
      ip.destination.is_v4() ? uint8_t{wire::kIcmpEchoReply} : uint8_t{wire::kIcmpV6EchoReply};
  return header.type == reply && header.rest >> 16 == endpoint.local.port &&
         endpoint.local.port != 0;
}

void Raw::DeliverCopy(RawEndpoint& endpoint, const Packet& packet) {
  // A checksum of the socket's own (IPV6_CHECKSUM); ICMPv6's was verified below.
  if (endpoint.checksum_offset >= 0 && endpoint.protocol != IPPROTO_ICMPV6 && !packet.looped) {
    ChecksumAccumulator sum;
    sum.AddPseudoHeader(packet.ip.source, packet.ip.destination, packet.ip.protocol, packet.length);
    for (unsigned i = 0; i < packet.slice_count; ++i) {
      sum.Add(packet.slices[i].data(), packet.slices[i].length);
    }
    if (sum.Checksum() != 0) return;
  }
  Packet* copy = core_->packets.Clone(packet);
  if (copy == nullptr) return;
  // IPv4 raw sockets see the network header (raw(7)), where it still lies in front.
  const uint32_t header = packet.ip.header_length;
  const bool in_front = packet.slices[0].offset == packet.network_offset + header;
  if (!endpoint.ping && endpoint.family == Family::kIpv4 && in_front) copy->Push(header);
  copy->offload.segmentation = SegmentationType::kNone;
  datagrams_->Deliver(endpoint, copy);
}

bool Raw::Input(const Packet& packet) {
  bool known = false;
  for (RawEndpoint* e = all_.front(); e != nullptr; e = all_.Next(e)) {
    if (!e->ping && !e->closed() && e->protocol == packet.ip.protocol) known = true;
    if (Wants(*e, packet)) DeliverCopy(*e, packet);
  }
  return known;
}

// Linux: raw_err, ping_err.
void Raw::OnIcmpError(const IcmpError& error, Instant now) {
  DatagramFault fault;
  fault.error = error.error;
  fault.hard = error.hard || error.error == EMSGSIZE;
  fault.origin = error.origin;
  fault.type = error.type;
  fault.code = error.code;
  fault.info = error.info;
  fault.offender = error.offender;
  fault.payload = error.embedded;
  fault.payload_length = error.embedded_length;
  const bool echo =
      error.embedded_length >= wire::kIcmpHeaderBytes &&
      (error.embedded[0] == wire::kIcmpEcho || error.embedded[0] == wire::kIcmpV6Echo);
  const uint16_t identifier = echo ? Load16(error.embedded + 4) : 0;
  bool told = false;
  for (RawEndpoint* e = all_.front(); e != nullptr; e = all_.Next(e)) {
    if (e->protocol != error.protocol) continue;
    if (!AddressesFit(*e, error.local, error.remote, 0)) continue;
    if (e->ping && (!echo || identifier != e->local.port)) continue;
    told = true;
    datagrams_->ReportFault(*e, {error.remote, 0, 0}, fault, now);
  }
  if (told && error.error == EMSGSIZE) ip_->UpdatePathMtu(error.remote, error.mtu, now);
}

}  // namespace userstack
