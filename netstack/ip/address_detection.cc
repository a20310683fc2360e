// Duplicate address detection and announcement (RFC 4862 5.4 and RFC 4429 for IPv6, RFC 5227 for
// IPv4), and the lifetimes of advertised addresses. An address may be used while it is probed: a
// program that lives for half a second could otherwise not speak at all.
#include <algorithm>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

constexpr uint8_t kArpProbes = 3;         // RFC 5227 1.1: PROBE_NUM
constexpr uint8_t kArpAnnouncements = 2;  // ANNOUNCE_NUM
constexpr Duration kAnnounceInterval = Duration::Seconds(2);
constexpr uint8_t kNeighborSolicitations = 1;  // RFC 4862 5.1: DupAddrDetectTransmits

}  // namespace

void Ip::StartDetection(Address* address, Instant now) {
  address->state = AddressState::kOptimistic;
  address->probes_left = address->prefix.address.is_v4() ? kArpProbes : kNeighborSolicitations;
  core_->timers.Arm(&address->timer, now);
}

void Ip::Probe(const Address& address) {
  Interface& interface = interfaces_[address.interface];
  if (address.prefix.address.is_v6()) {
    SolicitNeighbor(interface, address.prefix.address, nullptr, IpAddress::Any(Family::kIpv6));
    return;
  }
  SendArp(interface,
          {.operation = wire::ArpOperation::kRequest,
           .sender_mac = interface.device.mac,
           .sender = IpAddress::Any(Family::kIpv4),
           .target_mac = {},
           .target = address.prefix.address},
          MacAddress::Broadcast());
}

void Ip::OnAddressTimer(Address* address, Instant now) {
  const bool v4 = address->prefix.address.is_v4();
  if (address->state == AddressState::kOptimistic) {
    if (address->probes_left > 0) {
      --address->probes_left;
      Probe(*address);
      // RFC 5227 2.1.1: one to two seconds between probes. RFC 4862: RetransTimer.
      Duration wait = interfaces_[address->interface].retransmit_time;
      if (v4) wait = wait + Duration::Milliseconds(static_cast<int64_t>(core_->random.Below(1000)));
      core_->timers.Arm(&address->timer, now + wait);
      return;
    }
    address->state = AddressState::kPreferred;
    address->announcements_left = v4 ? kArpAnnouncements : 0;
  }
  if (address->announcements_left > 0) {
    --address->announcements_left;
    Announce(*address);
    if (address->announcements_left > 0) {
      core_->timers.Arm(&address->timer, now + kAnnounceInterval);
      return;
    }
  }
  CheckLifetime(address, now);
}

// Gratuitous ARP (RFC 5227 2.3), or an unsolicited advertisement.
void Ip::Announce(const Address& address) {
  Interface& interface = interfaces_[address.interface];
  if (address.prefix.address.is_v6()) {
    SendAdvertisement(interface, address, wire::AllNodesGroup(), false, nullptr);
    return;
  }
  SendArp(interface,
          {.operation = wire::ArpOperation::kRequest,
           .sender_mac = interface.device.mac,
           .sender = address.prefix.address,
           .target_mac = {},
           .target = address.prefix.address},
          MacAddress::Broadcast());
}

void Ip::OnDuplicate(Address* address) {
  core_->counters.Add(Counter::kArpConflict);
  core_->timers.Disarm(&address->timer);
  address->state = AddressState::kDuplicate;
  ++route_generation_;
  ++local_generation_;
}

void Ip::CheckLifetime(Address* address, Instant now) {
  if (now >= address->valid_until) {
    DropAddress(address, now);
    return;
  }
  const bool deprecated = now >= address->preferred_until;
  if (deprecated != (address->state == AddressState::kDeprecated)) {
    address->state = deprecated ? AddressState::kDeprecated : AddressState::kPreferred;
    ++route_generation_;
  }
  const Instant next =
      deprecated ? address->valid_until : std::min(address->preferred_until, address->valid_until);
  core_->timers.Arm(&address->timer, next);
}

}  // namespace userstack
