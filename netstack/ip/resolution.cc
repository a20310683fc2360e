// Next hop to link address: what NeighborTable decides is done here, by ARP (RFC 826, RFC 5227) for
// IPv4 and by ndp.cc for IPv6; and what becomes of frames that waited.
#include "netstack/ip/ip.h"

namespace userstack {
namespace {

// RFC 5227 1.1: DEFEND_INTERVAL.
constexpr Duration kDefendInterval = Duration::Seconds(10);

}  // namespace

void Ip::Act(Neighbor* neighbor, NeighborAction action, Instant now) {
  Interface& interface = interfaces_[neighbor->interface];
  const bool v4 = neighbor->address.is_v4();
  switch (action) {
    case NeighborAction::kNone:
      return;
    case NeighborAction::kAskAll:
      if (v4) {
        AskArp(interface, neighbor->address, nullptr);
      } else {
        AskNdp(interface, *neighbor, false);
      }
      return;
    case NeighborAction::kAskOne:
      if (v4) {
        AskArp(interface, neighbor->address, &neighbor->mac);
      } else {
        AskNdp(interface, *neighbor, true);
      }
      return;
    case NeighborAction::kFlush:
      FlushPending(neighbor, interface);
      return;
    case NeighborAction::kFail:
      FailPending(neighbor, now);
      neighbors_.Remove(neighbor);
      return;
  }
}

void Ip::FlushPending(Neighbor* neighbor, Interface& interface) {
  const uint16_t type = neighbor->address.is_v4() ? wire::kEtherTypeIpv4 : wire::kEtherTypeIpv6;
  while (Frame* frame = neighbors_.TakePending(neighbor)) {
    (void)Enqueue(frame, interface, neighbor->mac, type);  // a full queue is counted there
  }
}

// Linux: the frames that waited come back as ICMP errors from ourselves, so that transports hear of
// it as of any other unreachable host (EHOSTUNREACH).
void Ip::FailPending(Neighbor* neighbor, Instant now) {
  core_->counters.Add(Counter::kNeighborFailed);
  while (Frame* frame = neighbors_.TakePending(neighbor)) {
    LoopError(*frame, now);
    core_->frames.Release(frame);
  }
}

void Ip::SendArp(Interface& interface, const wire::ArpPacket& arp, const MacAddress& destination) {
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return;
  wire::WriteArp(frame->Append(wire::kArpBytes), arp);
  core_->counters.Add(Counter::kArpOut);
  (void)Enqueue(frame, interface, destination, wire::kEtherTypeArp);
}

void Ip::AskArp(Interface& interface, const IpAddress& target, const MacAddress* to) {
  const Address* source = SelectSource(target, target, interface.index);
  if (source == nullptr) return;
  SendArp(interface,
          {.operation = wire::ArpOperation::kRequest,
           .sender_mac = interface.device.mac,
           .sender = source->prefix.address,
           .target_mac = {},
           .target = target},
          to == nullptr ? MacAddress::Broadcast() : *to);
}

// True when the packet shows that somebody else uses, or wants to use, an address of ours.
bool Ip::InputArpConflict(const wire::ArpPacket& arp, Interface& interface, Instant now) {
  const bool probe = arp.sender.is_unspecified();
  Address* address = addresses_.Find(probe ? arp.target : arp.sender);
  if (address == nullptr || address->interface != interface.index || !address->usable()) {
    return false;
  }
  if (probe) {
    // RFC 5227 2.1.1: somebody probes for what we are probing for. Once ours, it is answered.
    if (address->state != AddressState::kOptimistic) return false;
    OnDuplicate(address);
    return true;
  }
  if (address->state == AddressState::kOptimistic) {
    OnDuplicate(address);
    return true;
  }
  core_->counters.Add(Counter::kArpConflict);
  if (address->defended == Instant{} || now - address->defended > kDefendInterval) {
    // RFC 5227 2.4 (c): the address is configured by hand, so it is kept and defended.
    address->defended = now;
    Announce(*address);
  }
  return true;
}

void Ip::InputArp(const Packet& packet, Interface& interface, Instant now) {
  core_->counters.Add(Counter::kArpIn);
  wire::ArpPacket arp;
  if (!wire::ParseArp(packet.data(), packet.contiguous(), &arp)) return;
  if (arp.sender_mac.is_multicast() || arp.sender_mac == interface.device.mac) return;
  if (arp.sender.is_multicast() || arp.sender.is_loopback() || arp.sender.is_limited_broadcast()) {
    return;
  }
  if (InputArpConflict(arp, interface, now)) return;
  const bool for_us = IsLocal(arp.target) && !arp.target.is_loopback();
  const bool request = arp.operation == wire::ArpOperation::kRequest;
  if (!arp.sender.is_unspecified()) {
    // Only who asks for us earns a new entry (RFC 826); an answer to nothing does not.
    Neighbor* neighbor = neighbors_.Find(interface.index, arp.sender);
    if (neighbor == nullptr && request && for_us) {
      neighbor = neighbors_.Create(interface.index, arp.sender);
      if (neighbor != nullptr) neighbors_.StartStale(neighbor, arp.sender_mac);
    }
    if (neighbor != nullptr) {
      const bool answer = !request && !packet.link_broadcast;
      Act(neighbor,
          answer ? neighbors_.OnAnswer(neighbor, interface, &arp.sender_mac, true, true, now)
                 : neighbors_.OnHeard(neighbor, arp.sender_mac),
          now);
    }
  }
  if (!request || !for_us) return;
  SendArp(interface,
          {.operation = wire::ArpOperation::kReply,
           .sender_mac = interface.device.mac,
           .sender = arp.target,
           .target_mac = arp.sender_mac,
           .target = arp.sender},
          arp.sender_mac);
}

}  // namespace userstack
