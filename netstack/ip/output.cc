// Output: network header, fragments where they are needed, link address, link header, queue. The
// fast path is Send -> PrependIpv4/6 -> Transmit -> TransmitTo -> Enqueue without a hash look-up.
#include <algorithm>
#include <bit>
#include <utility>

#include "netstack/ip/ip.h"
#include "netstack/wire/udp.h"

namespace userstack {
namespace {

constexpr uint32_t kRouterAlertV4 = 0x94040000;  // RFC 2113
// Hop-by-hop header with the router alert option (RFC 2711) and two bytes of padding.
constexpr uint8_t kRouterAlertV6[6] = {5, 2, 0, 0, 1, 0};

uint16_t EtherTypeOf(const Frame& frame) {
  return frame.header()[0] >> 4 == 4 ? wire::kEtherTypeIpv4 : wire::kEtherTypeIpv6;
}

uint32_t NetworkHeaderBytes(bool v4, const SendOptions& options) {
  if (v4) return wire::kIpv4HeaderBytes + (options.router_alert ? 4 : 0);
  return wire::kIpv6HeaderBytes + (options.router_alert ? 8 : 0);
}

}  // namespace

Status Ip::Send(Frame* frame, const Route& route, const IpAddress& source,
                const IpAddress& destination, const SendOptions& options, Instant now) {
  core_->counters.Add(Counter::kIpOutRequests);
  Interface* interface = InterfaceAt(route.interface);
  if (interface == nullptr) return Refuse(frame, ENETDOWN);
  const bool v4 = destination.is_v4();
  const uint32_t header = NetworkHeaderBytes(v4, options);
  // The length fields: IPv4 counts its header, IPv6 does not (RFC 8200 3).
  const uint32_t counted =
      v4 ? frame->length() + header : frame->length() + header - wire::kIpv6HeaderBytes;
  if (counted > kMaxIpPacket && (frame->offload.segmentation != SegmentationType::kTcpV4 ||
                                 counted > LargestForHost(route))) {
    return Refuse(frame, EMSGSIZE);
  }
  const uint32_t mtu = options.ignore_path_mtu ? route.interface_mtu : route.mtu;
  // Segments of a large frame fit: that is the transport's part.
  const bool fits =
      frame->offload.segmentation != SegmentationType::kNone || frame->length() + header <= mtu;
  if (!fits) {
    if (options.dont_fragment && !route.mtu_locked) {
      core_->counters.Add(Counter::kIpFragmentsFails);
      return Refuse(frame, EMSGSIZE);
    }
    if (!LeaveFragmentsToDevice(frame, route, *interface, options, mtu)) {
      return SendFragments(frame, route, source, destination, options, mtu, now);
    }
  }
  if (v4) {
    const bool dont_fragment =
        (options.dont_fragment || (options.discover_path_mtu && fits)) && !route.mtu_locked;
    PrependIpv4(frame, source, destination, options, {.dont_fragment = dont_fragment});
  } else {
    PrependIpv6(frame, source, destination, options, nullptr);
  }
  return Transmit(frame, route, destination, options, now);
}

// UFO: one datagram goes to the device whole, which makes IP fragments of it.
bool Ip::LeaveFragmentsToDevice(Frame* frame, const Route& route, const Interface& interface,
                                const SendOptions& options, uint32_t mtu) {
  if (!interface.device.udp_fragmentation || options.protocol != wire::kProtocolUdp) return false;
  if (!frame->offload.checksum_needed || route.loopback || route.multicast || route.broadcast) {
    return false;
  }
  const uint32_t overhead = route.destination.is_v4()
                                ? wire::kIpv4HeaderBytes
                                : wire::kIpv6HeaderBytes + wire::kIpv6FragmentHeaderBytes;
  frame->offload.segmentation = SegmentationType::kUdpFragment;
  frame->offload.segment_size = static_cast<uint16_t>((mtu - overhead) & ~7u);
  frame->offload.header_length = wire::kUdpHeaderBytes;
  return true;
}

Status Ip::Refuse(Frame* frame, int error) {
  core_->counters.Add(Counter::kIpOutDiscards);
  core_->frames.Release(frame);
  return Status(error);
}

// Identification values (RFC 6864, RFC 7739): one counter for each keyed hash of the conversation,
// so that they do not repeat soon and one conversation tells nothing of another.
uint32_t Ip::NextIdentification(const IpAddress& source, const IpAddress& destination,
                                uint8_t protocol) {
  uint8_t key[33];
  std::memcpy(key, source.v6_bytes(), 16);
  std::memcpy(key + 16, destination.v6_bytes(), 16);
  key[32] = protocol;
  const uint64_t hash = SipHash(core_->hash_key, key, sizeof key);
  return identifications_[hash % kIdentificationSlots]++ + static_cast<uint32_t>(hash >> 32);
}

void Ip::PrependIpv4(Frame* frame, const IpAddress& source, const IpAddress& destination,
                     const SendOptions& options, const FragmentField& fragment) {
  const auto length = static_cast<uint8_t>(NetworkHeaderBytes(true, options));
  wire::Ipv4Header header;
  header.header_length = length;
  header.tos = options.traffic_class;
  // Linux: iph_set_totlen. A packet beyond the field's range says 0, and is as long as its frame.
  const uint32_t total = frame->length() + length;
  header.total_length = static_cast<uint16_t>(total <= kMaxIpPacket ? total : 0);
  header.dont_fragment = fragment.dont_fragment;
  header.more_fragments = fragment.more;
  header.fragment_offset = fragment.offset;
  // RFC 6864 4.1: an atomic datagram's identification means nothing.
  header.identification =
      fragment.dont_fragment ? 0
      : fragment.has_identification
          ? static_cast<uint16_t>(fragment.identification)
          : static_cast<uint16_t>(NextIdentification(source, destination, options.protocol));
  header.ttl = options.hop_limit;
  header.protocol = options.protocol;
  header.source = source;
  header.destination = destination;
  uint8_t* to = frame->Prepend(length);
  wire::WriteIpv4Header(to, header);
  if (options.router_alert) Store32(to + wire::kIpv4HeaderBytes, kRouterAlertV4);
  ChecksumAccumulator sum;
  sum.Add(to, length);
  Store16(to + 10, sum.Checksum());
  frame->offload.checksum_start = static_cast<uint16_t>(frame->offload.checksum_start + length);
  frame->offload.header_length = static_cast<uint16_t>(frame->offload.header_length + length);
}

void Ip::PrependIpv6(Frame* frame, const IpAddress& source, const IpAddress& destination,
                     const SendOptions& options, const wire::Ipv6FragmentHeader* fragment) {
  wire::Ipv6Header header;
  header.traffic_class = options.traffic_class;
  header.flow_label = options.flow_label;
  header.next_header = options.protocol;
  header.hop_limit = options.hop_limit;
  header.source = source;
  header.destination = destination;
  uint16_t added = wire::kIpv6HeaderBytes;
  if (fragment != nullptr) {
    wire::WriteIpv6FragmentHeader(frame->Prepend(wire::kIpv6FragmentHeaderBytes), *fragment);
    header.next_header = wire::kProtocolFragment;
    added += wire::kIpv6FragmentHeaderBytes;
  }
  if (options.router_alert) {
    uint8_t* hop_by_hop = frame->Prepend(8);
    hop_by_hop[0] = header.next_header;
    hop_by_hop[1] = 0;
    std::copy_n(kRouterAlertV6, sizeof kRouterAlertV6, hop_by_hop + 2);
    header.next_header = wire::kProtocolHopByHop;
    added += 8;
  }
  header.payload_length = static_cast<uint16_t>(frame->length());
  wire::WriteIpv6Header(frame->Prepend(wire::kIpv6HeaderBytes), header);
  frame->offload.checksum_start = static_cast<uint16_t>(frame->offload.checksum_start + added);
  frame->offload.header_length = static_cast<uint16_t>(frame->offload.header_length + added);
}

// `frame` begins with its network header.
Status Ip::Transmit(Frame* frame, const Route& route, const IpAddress& destination,
                    const SendOptions& options, Instant now) {
  Interface& interface = interfaces_[route.interface];
  if (route.loopback || interface.loopback) return Loop(frame, kLoopbackInterface, now);
  if (!route.multicast && !route.broadcast) {
    return TransmitTo(frame, interface, route.next_hop, now);
  }
  // Broadcasts come back to the sender, and groups to their members, as on Linux.
  const bool loops =
      route.broadcast || (options.multicast_loop && groups_.Contains(interface.index, destination));
  if (loops) LoopCopy(*frame, interface.index, now);
  if (route.multicast && options.hop_limit == 0) {
    core_->frames.Release(frame);  // RFC 1112 6.1: not beyond this host
    return Status::Ok();
  }
  return Enqueue(frame, interface,
                 route.broadcast ? MacAddress::Broadcast() : wire::MulticastMac(destination),
                 EtherTypeOf(*frame));
}

Status Ip::TransmitTo(Frame* frame, Interface& interface, const IpAddress& next_hop, Instant now) {
  Neighbor* neighbor = neighbors_.Find(interface.index, next_hop);
  if (neighbor != nullptr && NeighborTable::IsFresh(*neighbor, now)) [[likely]] {
    return Enqueue(frame, interface, neighbor->mac, EtherTypeOf(*frame));
  }
  if (neighbor == nullptr) {
    neighbor = neighbors_.Create(interface.index, next_hop);
    if (neighbor == nullptr) return Refuse(frame, ENOBUFS);
    neighbors_.Begin(neighbor, interface, now);
    neighbors_.Pend(neighbor, frame);
    Act(neighbor, NeighborAction::kAskAll, now);
    return Status::Ok();
  }
  if (neighbor->state == NeighborState::kIncomplete) {
    neighbors_.Pend(neighbor, frame);
    return Status::Ok();
  }
  neighbors_.Used(neighbor, now);
  return Enqueue(frame, interface, neighbor->mac, EtherTypeOf(*frame));
}

Status Ip::Enqueue(Frame* frame, Interface& interface, const MacAddress& destination,
                   uint16_t ether_type) {
  if (frame->offload.segmentation != SegmentationType::kNone && NeedsCutting(*frame, interface)) {
    return EnqueueSegments(frame, interface, destination, ether_type);
  }
  wire::WriteEthernetHeader(frame->Prepend(wire::kEthernetHeaderBytes),
                            {destination, interface.device.mac, ether_type});
  Offload& offload = frame->offload;
  offload.checksum_start =
      static_cast<uint16_t>(offload.checksum_start + wire::kEthernetHeaderBytes);
  offload.header_length = static_cast<uint16_t>(offload.header_length + wire::kEthernetHeaderBytes);
  if (offload.checksum_needed && !interface.device.transmit_checksum) FinishChecksum(*frame);
  frame->interface = interface.index;
  if (!interface.output.Push(frame)) {
    core_->counters.Add(Counter::kDeviceOutRefused);
    return Refuse(frame, ENOBUFS);
  }
  return Status::Ok();
}

bool Ip::IsCongested(uint16_t index) const {
  if (index == kLoopbackInterface) return looped_count_ >= kLoopedCongested;
  const Interface* i = interface(index);
  return i != nullptr && i->output.congested();
}

Frame* Ip::NextFrame(uint16_t index) {
  Interface* interface = InterfaceAt(index);
  if (interface == nullptr) return nullptr;
  Frame* frame = interface->output.Pop();
  if (frame == nullptr) return nullptr;
  if (interface->output.drained()) drained_interfaces_ |= 1u << index;
  core_->counters.Add(Counter::kDeviceOutFrames);
  core_->counters.Add(Counter::kDeviceOutBytes, frame->length());
  return frame;
}

void Ip::ReturnFrame(Frame* frame) {
  core_->counters.Subtract(Counter::kDeviceOutFrames, 1);
  core_->counters.Subtract(Counter::kDeviceOutBytes, frame->length());
  interfaces_[frame->interface].output.Return(frame);
}

uint32_t Ip::TakeDrained() {
  uint32_t drained = 0;
  for (uint32_t left = std::exchange(drained_interfaces_, 0); left != 0; left &= left - 1) {
    Interface& interface = interfaces_[std::countr_zero(left)];
    if (interface.index != 0 && interface.output.TakeDrained()) drained |= 1u << interface.index;
  }
  if (looped_drained_) drained |= 1u << kLoopbackInterface;
  looped_drained_ = false;
  return drained;
}

bool Ip::HasQueuedOutput() const {
  for (const Interface& interface : interfaces_) {
    if (!interface.output.empty()) return true;
  }
  return looped_count_ > 0;
}

}  // namespace userstack
