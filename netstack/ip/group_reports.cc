// What the stack says of its multicast groups: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), falling back
// to the older versions while a querier of theirs is on the link. Sources are not filtered: a
// member wants a group from everybody (EXCLUDE {}).
#include <algorithm>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

constexpr uint8_t kRobustness = 2;  // reports of one change
constexpr Duration kUnsolicitedInterval = Duration::Seconds(1);
// Older version querier present timeout: robustness * query interval + response interval.
constexpr Duration kOlderQuerierPresent = Duration::Seconds(2 * 125 + 10);
constexpr Duration kIgmpV1Response = Duration::Seconds(10);
constexpr uint8_t kInternetControl = 0xc0;  // RFC 3376 4: precedence of control traffic
constexpr uint8_t kReportHopLimit = 1;
constexpr uint32_t kIgmpRouters = 0xe0000016;   // 224.0.0.22
constexpr uint32_t kAllRoutersV4 = 0xe0000002;  // 224.0.0.2
constexpr uint32_t kIgmpV3ReportBytes = 16;     // with one record
constexpr uint32_t kMld2ReportBytes = 28;

IpAddress Mld2Routers() {  // ff02::16
  const uint8_t bytes[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16};
  return IpAddress::V6FromBytes(bytes);
}

bool IsReported(const IpAddress& group) {
  if (group.is_v4()) return group.v4() != 0xe0000001;
  // RFC 3810 6: not for all-nodes, nor for reserved and interface-local scope.
  return (group.v6_bytes()[1] & 0xf) > 1 && !(group == wire::AllNodesGroup());
}

// The floating form of RFC 3376 4.1.1 and RFC 3810 5.1.3, with `bits` of mantissa.
uint32_t DecodeInterval(uint32_t code, unsigned bits) {
  const uint32_t flag = 1u << (bits + 3);
  if (code < flag) return code;
  const uint32_t mantissa = (code & ((1u << bits) - 1)) | 1u << bits;
  return mantissa << (((code >> bits) & 7) + 3);
}

void LowerVersion(uint8_t heard, uint8_t newest, uint8_t* version, Instant* until, Instant now) {
  if (now >= *until) *version = newest;
  if (heard >= newest || heard > *version) return;
  *version = heard;
  *until = now + kOlderQuerierPresent;
}

}  // namespace

Status Ip::JoinGroup(uint16_t interface, const IpAddress& group, Instant now) {
  if (!group.is_multicast()) return Status(EINVAL);
  if (interface == 0) {
    const Result<Route> route = RouteToGroup(IpAddress::Any(group.family()), group, 0);
    if (!route.ok()) return Status(ENODEV);
    interface = route.value().interface;
  }
  if (InterfaceAt(interface) == nullptr) return Status(ENODEV);
  GroupMember* member = groups_.Find(interface, group);
  if (member == nullptr) {
    member = groups_.Add(interface, group);
    if (member == nullptr) return Status(ENOBUFS);
    member->silent = interfaces_[interface].loopback || !IsReported(group);
  }
  if (member->joins++ == 0) {
    ++local_generation_;
    StartReports(member, now);
  }
  return Status::Ok();
}

Status Ip::LeaveGroup(uint16_t interface, const IpAddress& group, Instant now) {
  if (interface == 0) {
    const Result<Route> route = RouteToGroup(IpAddress::Any(group.family()), group, 0);
    if (!route.ok()) return Status(EADDRNOTAVAIL);
    interface = route.value().interface;
  }
  GroupMember* member = groups_.Find(interface, group);
  if (member == nullptr || member->joins == 0) return Status(EADDRNOTAVAIL);
  if (--member->joins > 0) return Status::Ok();
  ++local_generation_;
  if (member->silent) {
    groups_.Remove(member);
  } else {
    StartReports(member, now);
  }
  return Status::Ok();
}

void Ip::StartReports(GroupMember* member, Instant now) {
  if (member->silent) return;
  member->reports_left = kRobustness;
  member->answer_pending = false;
  core_->timers.Arm(&member->timer, now);
}

void Ip::OnReportTimer(GroupMember* member, Instant now) {
  if (member->reports_left > 0) {
    --member->reports_left;
    SendReport(*member, true, now);
  } else if (member->answer_pending) {
    SendReport(*member, false, now);
  }
  member->answer_pending = false;
  if (member->reports_left > 0) {
    const auto limit = static_cast<uint64_t>(kUnsolicitedInterval.nanoseconds);
    core_->timers.Arm(&member->timer,
                      now + Duration{static_cast<int64_t>(core_->random.Below(limit))});
  } else if (member->joins == 0) {
    groups_.Remove(member);
  }
}

void Ip::SendReport(const GroupMember& member, bool change, Instant now) {
  Interface& interface = interfaces_[member.interface];
  if (member.group.is_v4()) {
    LowerVersion(3, 3, &interface.igmp_version, &interface.igmp_version_until, now);
    SendIgmp(interface, member, change);
  } else {
    LowerVersion(2, 2, &interface.mld_version, &interface.mld_version_until, now);
    SendMld(interface, member, change);
  }
}

void Ip::SendIgmp(Interface& interface, const GroupMember& member, bool change) {
  const bool leaving = member.joins == 0;
  if (leaving && interface.igmp_version == 1) return;  // RFC 1112 has no word for it
  const Address* source = SelectSource(member.group, member.group, interface.index);
  Frame* frame = source == nullptr ? nullptr : core_->frames.Allocate();
  if (frame == nullptr) return;
  IpAddress destination = member.group;
  if (interface.igmp_version == 3) {
    destination = IpAddress::V4(kIgmpRouters);
    uint8_t* report = frame->Append(kIgmpV3ReportBytes);
    wire::WriteIcmpHeader(report, {wire::kIgmpV3Report, 0, 0, 1});
    report[8] = leaving  ? wire::kChangeToInclude
                : change ? wire::kChangeToExclude
                         : wire::kModeIsExclude;
    std::fill_n(report + 9, 3, uint8_t{0});
    std::memcpy(report + 12, member.group.v4_bytes(), 4);
  } else {
    if (leaving) destination = IpAddress::V4(kAllRoutersV4);
    const uint8_t type = leaving                       ? wire::kIgmpV2Leave
                         : interface.igmp_version == 2 ? wire::kIgmpV2Report
                                                       : wire::kIgmpV1Report;
    wire::WriteIcmpHeader(frame->Append(wire::kIgmpBytes), {type, 0, 0, member.group.v4()});
  }
  const IpAddress& from = source->prefix.address;
  FinishIcmp(frame, from, destination);
  SendOptions options;
  options.protocol = wire::kProtocolIgmp;
  options.hop_limit = kReportHopLimit;
  options.traffic_class = kInternetControl;
  options.router_alert = true;
  PrependIpv4(frame, from, destination, options, {.dont_fragment = true});
  (void)Enqueue(frame, interface, wire::MulticastMac(destination), wire::kEtherTypeIpv4);
}

void Ip::SendMld(Interface& interface, const GroupMember& member, bool change) {
  const bool leaving = member.joins == 0;
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return;
  IpAddress destination = member.group;
  if (interface.mld_version == 2) {
    destination = Mld2Routers();
    uint8_t* report = frame->Append(kMld2ReportBytes);
    wire::WriteIcmpHeader(report, {wire::kIcmpV6Mld2Report, 0, 0, 1});
    report[8] = leaving  ? wire::kChangeToInclude
                : change ? wire::kChangeToExclude
                         : wire::kModeIsExclude;
    std::fill_n(report + 9, 3, uint8_t{0});
    std::memcpy(report + 12, member.group.v6_bytes(), 16);
  } else {
    if (leaving) destination = wire::AllRoutersGroup();
    const uint8_t type = leaving ? wire::kIcmpV6MldDone : wire::kIcmpV6MldReport;
    uint8_t* report = frame->Append(wire::kMldBytes);
    wire::WriteIcmpHeader(report, {type, 0, 0, 0});
    std::memcpy(report + 8, member.group.v6_bytes(), 16);
  }
  // RFC 3590: from the unspecified address while there is no certain link-local one.
  const Address* own = LinkLocalOf(interface.index);
  const IpAddress from = own != nullptr && own->state != AddressState::kOptimistic
                             ? own->prefix.address
                             : IpAddress::Any(Family::kIpv6);
  FinishIcmp(frame, from, destination);
  SendOptions options;
  options.protocol = wire::kProtocolIcmpV6;
  options.hop_limit = kReportHopLimit;
  options.router_alert = true;
  PrependIpv6(frame, from, destination, options, nullptr);
  (void)Enqueue(frame, interface, wire::MulticastMac(destination), wire::kEtherTypeIpv6);
}

// Answers within `within`, at random; `group` unspecified: a general query.
void Ip::AnswerQuery(Interface& interface, const IpAddress& group, Duration within, Instant now) {
  for (GroupMember* m = groups_.first(); m != nullptr; m = groups_.Next(m)) {
    if (m->interface != interface.index || m->silent || m->joins == 0) continue;
    if (m->group.is_v4() != group.is_v4()) continue;
    if (!group.is_unspecified() && !(m->group == group)) continue;
    if (m->reports_left > 0) continue;  // about to be reported anyway
    const auto limit = static_cast<uint64_t>(std::max<int64_t>(within.nanoseconds, 1));
    const Instant due = now + Duration{static_cast<int64_t>(core_->random.Below(limit))};
    if (m->answer_pending && m->timer.deadline <= due) continue;
    m->answer_pending = true;
    core_->timers.Arm(&m->timer, due);
  }
}

// Somebody else reported the group: with the older versions one report is enough for a link.
void Ip::SuppressAnswer(const Interface& interface, const IpAddress& group) {
  GroupMember* member = groups_.Find(interface.index, group);
  if (member == nullptr || !member->answer_pending || member->reports_left > 0) return;
  member->answer_pending = false;
  core_->timers.Disarm(&member->timer);
}

void Ip::InputIgmp(const Packet& packet, Interface& interface, Instant now) {
  const uint8_t* bytes = packet.data();
  if (packet.looped || packet.contiguous() < packet.length || packet.length < wire::kIgmpBytes) {
    return;
  }
  ChecksumAccumulator sum;
  sum.Add(bytes, packet.length);
  if (sum.Checksum() != 0) return;
  const IpAddress group = IpAddress::V4FromBytes(bytes + 4);
  if (bytes[0] == wire::kIgmpV1Report || bytes[0] == wire::kIgmpV2Report) {
    if (interface.igmp_version < 3) SuppressAnswer(interface, group);
    return;
  }
  if (bytes[0] != wire::kIgmpQuery) return;
  // RFC 3376 7.1: length and code tell the version of a query.
  const bool v3 = packet.length >= wire::kIgmpV3QueryBytes;
  const uint8_t version = v3 ? 3 : bytes[1] == 0 ? 1 : 2;
  LowerVersion(version, 3, &interface.igmp_version, &interface.igmp_version_until, now);
  const uint32_t tenths = v3 ? DecodeInterval(bytes[1], 4) : bytes[1];
  const Duration within = version == 1 ? kIgmpV1Response : Duration::Milliseconds(100) * tenths;
  AnswerQuery(interface, group, within, now);
}

void Ip::InputMld(const Packet& packet, Interface& interface, Instant now) {
  const bool valid = !packet.looped && packet.contiguous() >= packet.length &&
                     packet.length >= wire::kMldBytes && packet.ip.ttl == kReportHopLimit &&
                     packet.ip.source.is_link_local();
  if (!valid) return;
  const uint8_t* bytes = packet.data();
  const IpAddress group = IpAddress::V6FromBytes(bytes + 8);
  if (group.is_v4()) return;
  // RFC 3810 8.1.
  const bool v2 = packet.length >= wire::kMld2QueryBytes;
  LowerVersion(v2 ? 2 : 1, 2, &interface.mld_version, &interface.mld_version_until, now);
  const uint32_t code = Load16(bytes + 4);
  AnswerQuery(interface, group, Duration::Milliseconds(v2 ? DecodeInterval(code, 12) : code), now);
}

}  // namespace userstack
