// The sending half of Datagrams: the choice of route and source, and the payload's way into
// buffers.
#include <algorithm>

#include "netstack/datagram/datagram.h"

namespace userstack {
namespace {

enum PathMtuDiscovery : uint8_t { kDont, kWant, kDo, kProbe, kInterface, kOmit };  // IP_PMTUDISC_*
constexpr uint8_t kOriginLocal = 1;  // SO_EE_ORIGIN_LOCAL

// A datagram of up to this many small buffers is spread over them; above it takes a large one.
constexpr uint32_t kSmallBuffersAtMost = 4;

IpAddress SourceOf(const DatagramSocket& socket, Family family) {
  const IpAddress& local = socket.local.address;
  // Bound to a group or a broadcast address: it receives for that, but never sends from it.
  if (local.is_unspecified() || local.is_multicast() || socket.local_is_broadcast) {
    return IpAddress::Any(family);
  }
  return local;
}

uint8_t HopLimit(const SocketOptions& o, bool v4, bool multicast) {
  const int chosen =
      v4 ? (multicast ? o.multicast_ttl : o.ttl) : (multicast ? o.multicast_hops : o.unicast_hops);
  if (chosen >= 0) return static_cast<uint8_t>(chosen);
  return multicast ? 1 : kDefaultHopLimit;
}

}  // namespace

void Datagrams::PlanSize(const DatagramSocket& socket, const Ancillary* ancillary, bool v4,
                         SendPlan* plan) const {
  const SocketOptions& o = socket.options;
  const uint8_t discover = v4 ? o.mtu_discover : o.mtu_discover_v6;
  // Linux: ip_sk_use_pmtu, ip_sk_ignore_df.
  plan->mtu = discover < kProbe ? plan->route.mtu : plan->route.interface_mtu;
  if (!v4 && o.mtu_limit_v6 != 0) plan->mtu = std::min(plan->mtu, o.mtu_limit_v6);
  const bool may_fragment = discover < kDo || discover == kOmit;
  const uint32_t largest = kMaxIpPacket + (v4 ? 0 : 40);
  plan->maximum = may_fragment ? largest : plan->mtu;
  plan->options.dont_fragment = discover == kDo || discover == kProbe;
  plan->options.discover_path_mtu = discover == kWant;
  plan->options.ignore_path_mtu = discover >= kProbe;
  bool dont_fragment_v6 = o.dont_fragment_v6;
  if (ancillary != nullptr && (ancillary->present & Ancillary::kDontFragment) != 0) {
    dont_fragment_v6 = ancillary->dont_fragment;
  }
  if (!v4 && dont_fragment_v6) {
    plan->maximum = plan->mtu;
    plan->options.dont_fragment = true;
  }
  plan->network_header = v4 ? 20 : 40;
}

Status Datagrams::Plan(const DatagramSocket& socket, const Endpoint& destination,
                       const Ancillary* ancillary, SendPlan* plan) const {
  const SocketOptions& o = socket.options;
  const bool v4 = destination.address.is_v4();
  const Family family = destination.address.family();
  if (v4 && socket.family == Family::kIpv6 && o.v6_only) return Status(ENETUNREACH);
  IpAddress source = SourceOf(socket, family);
  uint16_t interface = o.bound_interface;
  if (destination.interface != 0) {
    if (interface != 0 && interface != destination.interface) return Status(EINVAL);
    interface = destination.interface;
  }
  const uint32_t present = ancillary != nullptr ? ancillary->present : 0;
  if ((present & (Ancillary::kPacketInfo | Ancillary::kPacketInfoV4)) != 0) {
    if (ancillary->packet_interface != 0) {
      if (interface != 0 && interface != ancillary->packet_interface) return Status(EINVAL);
      interface = ancillary->packet_interface;
    }
    if (!ancillary->packet_destination.is_unspecified()) source = ancillary->packet_destination;
  }
  if (!v4 && source.is_unspecified()) {  // IPV6_PKTINFO as a socket option
    source = o.sticky_source_v6;
    if (interface == 0) interface = o.sticky_interface_v6;
  }
  const bool multicast = destination.address.is_multicast();
  if (interface == 0 && multicast) {
    interface = v4 ? o.multicast_interface : o.multicast_interface_v6;
    if (v4 && source.is_unspecified()) source = o.multicast_source;
  } else if (interface == 0) {
    interface = v4 ? o.unicast_interface : o.unicast_interface_v6;
  }
  if (source.family() != family) return Status(v4 ? ENETUNREACH : EAFNOSUPPORT);
  // Linux: ip_route_output_key finds no way from a foreign address, ip6_datagram_send_ctl refuses
  // it.
  const bool bound = source == SourceOf(socket, family);
  if (!bound && !source.is_unspecified() && !ip_->IsLocal(source)) {
    return Status(v4 ? ENETUNREACH : EINVAL);
  }
  const Result<Route> route = ip_->FindRoute(source, destination.address, interface);
  if (!route.ok()) return route.status();
  plan->route = *route;
  if (plan->route.broadcast && !o.broadcast) return Status(EACCES);
  plan->destination = destination;
  plan->destination.address = plan->route.destination;
  plan->source = source.is_unspecified() ? plan->route.source : source;
  plan->options.protocol = socket.protocol;
  plan->options.hop_limit = HopLimit(o, v4, multicast);
  plan->options.traffic_class = v4 ? o.tos : o.traffic_class;
  plan->options.multicast_loop = v4 ? o.multicast_loop : o.multicast_loop_v6;
  if ((present & Ancillary::kTtl) != 0) plan->options.hop_limit = ancillary->ttl;
  if ((present & Ancillary::kTrafficClass) != 0) {
    plan->options.traffic_class = ancillary->traffic_class;
  }
  PlanSize(socket, ancillary, v4, plan);
  return Status::Ok();
}

// Linux: sock_alloc_send_pskb. A congested interface counts as a full send buffer, because there is
// no queue discipline below that could drop.
Status Datagrams::CheckSendable(DatagramSocket& socket, uint16_t interface) {
  if (socket.pending_error != 0) return Status(TakeError(socket));
  if (socket.shut_send) return Status(EPIPE);
  if (socket.bytes >= socket.send_limit()) {
    Announce(socket, 0);
    return Status(EAGAIN);
  }
  if (!ip_->IsCongested(interface)) return Status::Ok();
  socket.blocked_node.Unlink();
  blocked_.PushBack(&socket);
  socket.send_blocked = true;
  socket.blocked_interface = interface;
  Announce(socket, 0);
  return Status(EAGAIN);
}

// Makes sure that the frame's last buffer has free bytes behind its slice, or that a new slice has.
bool Datagrams::AddRoom(Frame* frame, uint32_t wanted) {
  if (frame->slice_count == kMaxSlices) return false;
  const bool small = wanted <= kSmallBuffersAtMost * kSmallBufferBytes && frame->slice_count < 8;
  Buffer* buffer = core_->buffers.Allocate(small ? BufferClass::kSmall : BufferClass::kLarge);
  if (buffer == nullptr) {
    buffer = core_->buffers.Allocate(small ? BufferClass::kLarge : BufferClass::kSmall);
  }
  if (buffer == nullptr) return false;
  frame->slices[frame->slice_count++] = {buffer, 0, 0};
  return true;
}

Status Datagrams::AppendPayload(Frame* frame, IoCursor& data, uint32_t bytes, bool may_inline) {
  const uint32_t tail_room = kFrameStorage - frame->end;
  if (may_inline && frame->slice_count == 0 && bytes <= tail_room) {
    data.CopyIn(frame->Append(static_cast<uint16_t>(bytes)), bytes);
    return Status::Ok();
  }
  while (bytes > 0) {
    Slice* last = frame->slice_count > 0 ? &frame->slices[frame->slice_count - 1] : nullptr;
    if (last == nullptr || last->length == last->buffer->capacity) {
      if (!AddRoom(frame, bytes)) return Status(ENOBUFS);
      continue;
    }
    const uint32_t n = std::min(bytes, last->buffer->capacity - last->length);
    data.CopyIn(last->data() + last->length, n);
    last->length += n;
    frame->payload_length += n;
    bytes -= n;
  }
  return Status::Ok();
}

// Linux: ip_local_error, ipv6_local_error.
void Datagrams::ReportTooBig(DatagramSocket& socket, const SendPlan& plan, Instant now) {
  const bool v4 = plan.destination.address.is_v4();
  if (!(v4 ? socket.options.receive_error : socket.options.receive_error_v6)) return;
  DatagramFault fault;
  fault.error = EMSGSIZE;
  fault.origin = kOriginLocal;
  fault.info = plan.mtu;
  QueueError(socket, plan.destination, fault, now);
  Announce(socket, kEventError);
}

}  // namespace userstack
