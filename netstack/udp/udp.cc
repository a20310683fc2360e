#include "netstack/udp/udp.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "netstack/base/check.h"

namespace userstack {

UdpEndpoint::UdpEndpoint(Family f, Pollable* p) : DatagramSocket(FrameOwnerKind::kUdp, f, p) {
  protocol = IPPROTO_UDP;
}

bool Udp::Initialize(Core* core, Ip* ip, Datagrams* datagrams) {
  core_ = core;
  ip_ = ip;
  datagrams_ = datagrams;
  const uint64_t size = core->arena->size();
  const uint64_t endpoints = std::clamp<uint64_t>(size / 16 / sizeof(UdpEndpoint), 64, 65536);
  pool_.Initialize(core->arena, static_cast<uint32_t>(endpoints), 16);
  const size_t buckets = std::bit_ceil(std::clamp<size_t>(endpoints / 2, 64, 16384));
  return ports_.Initialize(core->arena, buckets) && connected_.Initialize(core->arena, buckets) &&
         open_.Initialize(core->arena, buckets);
}

Result<UdpEndpoint*> Udp::Create(Family family, Pollable* pollable) {
  UdpEndpoint* endpoint = pool_.New(family, pollable);
  if (endpoint == nullptr) return Result<UdpEndpoint*>::Error(ENOBUFS);
  all_.PushBack(endpoint);
  datagrams_->Announce(*endpoint, 0);
  return endpoint;
}

void Udp::Close(UdpEndpoint* endpoint, Instant now) {
  FlushBurst(now);
  DropPending(*endpoint);
  Unlink(*endpoint);
  datagrams_->Discard(*endpoint, now);
  ++closing_;
  OnFrameLeft(endpoint);
}

void Udp::OnFrameLeft(UdpEndpoint* endpoint) {
  if (!datagrams_->OnFrameLeft(*endpoint)) return;
  endpoint->node.Unlink();
  --closing_;
  pool_.Delete(endpoint);
}

Status Udp::Receive(UdpEndpoint& endpoint, const IoVector& data, int flags,
                    ReceivedMessage* message) {
  if ((flags & MSG_ERRQUEUE) != 0) return datagrams_->TakeQueuedError(endpoint, data, message);
  const Result<Packet*> next = datagrams_->Next(endpoint, flags);
  if (!next.ok()) return next.status();
  Packet* packet = *next;
  if (packet == nullptr) {
    message->has_source = false;
    return Status::Ok();
  }
  const IpInfo& ip = packet->ip;
  message->source.address = ip.source;
  message->source.port = ip.source_port;
  message->source.interface = ip.source.is_v6() && ip.source.is_link_local() ? ip.interface : 0;
  datagrams_->Take(endpoint, packet, data, flags, message);
  return Status::Ok();
}

Status Udp::Shutdown(UdpEndpoint& endpoint, int how) { return datagrams_->Shutdown(endpoint, how); }

Status Udp::SetOption(UdpEndpoint& endpoint, int name, const void* value, uint32_t length,
                      Instant now) {
  if (length < sizeof(int)) return Status(EINVAL);
  int v = 0;
  std::memcpy(&v, value, sizeof v);
  switch (name) {
    case UDP_CORK:
      endpoint.cork = v != 0;
      if (!endpoint.cork && endpoint.pending != nullptr) (void)Flush(endpoint, now);
      return Status::Ok();
    case UDP_NO_CHECK6_TX:
      endpoint.send_zero_checksum_v6 = v != 0;
      return Status::Ok();
    case UDP_NO_CHECK6_RX:
      endpoint.accept_zero_checksum_v6 = v != 0;
      return Status::Ok();
    case UDP_SEGMENT:
      if (v < 0 || v > 0xffff) return Status(EINVAL);
      endpoint.segment_size = static_cast<uint16_t>(v);
      return Status::Ok();
    case UDP_GRO:
      endpoint.takes_merged = v != 0;
      return Status::Ok();
  }
  return Status(ENOPROTOOPT);
}

Status Udp::GetOption(UdpEndpoint& endpoint, int name, void* value, uint32_t* length) {
  int v = 0;
  switch (name) {
    case UDP_CORK:
      v = endpoint.cork;
      break;
    case UDP_NO_CHECK6_TX:
      v = endpoint.send_zero_checksum_v6;
      break;
    case UDP_NO_CHECK6_RX:
      v = endpoint.accept_zero_checksum_v6;
      break;
    case UDP_SEGMENT:
      v = endpoint.segment_size;
      break;
    case UDP_GRO:
      v = endpoint.takes_merged;
      break;
    case UDP_ENCAP:
      break;
    default:
      return Status(ENOPROTOOPT);
  }
  *length = std::min<uint32_t>(*length, sizeof v);
  std::memcpy(value, &v, *length);
  return Status::Ok();
}

void Udp::Mend() {
  // A burst may hold half a datagram: it is lost, as what had not left.
  if (burst_ != nullptr) burst_->pending = nullptr;
  burst_ = nullptr;
  ports_.Clear();
  connected_.Clear();
  open_.Clear();
  closing_ = 0;
  for (UdpEndpoint* e = all_.front(); e != nullptr;) {
    UdpEndpoint* const next = all_.Next(e);
    e->port_node = {};
    e->demux_node = {};
    if (e->connected && e->local.port == 0) datagrams_->ForgetRemote(*e);
    if (e->closed() && e->bytes == 0) {
      e->node.Unlink();  // it was on its way out: lost to its pool
    } else {
      if (e->closed()) ++closing_;
      if (!e->closed() && e->local.port != 0) Link(*e);
      datagrams_->Mend(*e);
    }
    e = next;
  }
}

void Udp::CheckInvariants() const {
  size_t bound = 0;
  uint32_t closing = 0;
  if (burst_ != nullptr) {
    Check(burst_->pending != nullptr && !burst_->closed(), "udp: a burst without a frame");
    const uint32_t payload = burst_->pending->payload_length;
    const uint32_t whole = uint32_t{burst_->pending_segment} * burst_count_;
    Check(payload == whole, "udp: a burst of unequal datagrams");
  }
  for (const UdpEndpoint* e = all_.front(); e != nullptr; e = all_.Next(e)) {
    Check(e->port_node.linked == (e->local.port != 0 && !e->closed()), "udp: port table");
    Check(e->demux_node.linked == e->port_node.linked, "udp: demultiplexing table");
    Check(!e->closed() || e->bytes > 0, "udp: a closed endpoint without frames");
    Check(!e->connected || e->local.port != 0, "udp: connected without a port");
    bound += e->port_node.linked ? 1 : 0;
    closing += e->closed() ? 1 : 0;
    datagrams_->CheckInvariants(*e);
  }
  Check(bound == ports_.size() && bound == connected_.size() + open_.size(), "udp: table sizes");
  Check(closing == closing_, "udp: closing endpoints");
}

}  // namespace userstack
