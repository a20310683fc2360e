#include "netstack/raw/raw.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "netstack/base/check.h"

namespace userstack {
namespace {

constexpr int kSolRaw = 255;
constexpr int kIcmpFilter = 1;    // linux/icmp.h: ICMP_FILTER
constexpr int kIpv6Checksum = 7;  // IPV6_CHECKSUM
constexpr uint32_t kMaxEndpoints = 4096;
constexpr int kMaxChecksumOffset = 62;  // what Fill keeps contiguous

}  // namespace

void Raw::Initialize(Core* core, Ip* ip, Datagrams* datagrams) {
  core_ = core;
  ip_ = ip;
  datagrams_ = datagrams;
  const uint64_t limit = core->arena->size() / 256 / sizeof(RawEndpoint);
  pool_.Initialize(core->arena,
                   static_cast<uint32_t>(std::clamp<uint64_t>(limit, 16, kMaxEndpoints)), 8);
}

Result<RawEndpoint*> Raw::Create(Family family, uint8_t protocol, bool ping, Pollable* pollable) {
  RawEndpoint* endpoint = pool_.New(family, pollable, protocol, ping);
  if (endpoint == nullptr) return Result<RawEndpoint*>::Error(ENOBUFS);
  // Linux: IPPROTO_RAW sockets send whole packets and hear nothing; ICMPv6 is always summed.
  endpoint->header_included = !ping && protocol == IPPROTO_RAW;
  if (protocol == IPPROTO_ICMPV6) endpoint->checksum_offset = 2;
  all_.PushBack(endpoint);
  datagrams_->Announce(*endpoint, 0);
  return endpoint;
}

bool Raw::IsIdentifierFree(const RawEndpoint& endpoint, uint16_t identifier) const {
  for (const RawEndpoint* e = all_.front(); e != nullptr; e = all_.Next(e)) {
    if (!e->ping || e->closed() || e == &endpoint || e->family != endpoint.family) continue;
    if (e->local.port == identifier &&
        !(e->options.reuse_address && endpoint.options.reuse_address))
      return false;
  }
  return true;
}

// Linux: ping_get_port. A ping socket needs an identifier before it sends or connects.
Status Raw::EnsureIdentifier(RawEndpoint& endpoint) {
  if (!endpoint.ping || endpoint.local.port != 0) return Status::Ok();
  const auto start = static_cast<uint32_t>(core_->random.Below(0xffff));
  for (uint32_t i = 0; i < 0xffff; ++i) {
    const auto identifier = static_cast<uint16_t>(1 + (start + i) % 0xffff);
    if (!IsIdentifierFree(endpoint, identifier)) continue;
    endpoint.local.port = identifier;
    return Status::Ok();
  }
  return Status(EAGAIN);
}

Status Raw::Bind(RawEndpoint& endpoint, const Endpoint& local) {
  if (const Status s = datagrams_->CheckBindAddress(endpoint, local); !s.ok()) return s;
  if (endpoint.connected) return Status(EINVAL);
  Endpoint wanted = local;
  if (endpoint.ping) {
    if (endpoint.local.port != 0) return Status(EINVAL);
    if (local.port != 0 && !IsIdentifierFree(endpoint, local.port)) return Status(EADDRINUSE);
  } else {
    wanted.port = 0;
  }
  datagrams_->SetLocal(endpoint, wanted);
  endpoint.port_chosen = wanted.port != 0;
  return EnsureIdentifier(endpoint);
}

Status Raw::Connect(RawEndpoint& endpoint, const Endpoint& remote) {
  if (const Status s = EnsureIdentifier(endpoint); !s.ok()) return s;
  SendPlan plan;
  if (const Status s = datagrams_->PlanConnection(endpoint, remote, &plan); !s.ok()) return s;
  datagrams_->SetRemote(endpoint, plan);
  datagrams_->Announce(endpoint, 0);
  return Status::Ok();
}

void Raw::Disconnect(RawEndpoint& endpoint) {
  datagrams_->ForgetRemote(endpoint);
  datagrams_->Announce(endpoint, 0);
}

Endpoint Raw::local(const RawEndpoint& endpoint) const {
  Endpoint local = endpoint.local;
  if (!endpoint.ping) local.port = endpoint.protocol;  // Linux: inet_sport of a raw socket
  return local;
}

Status Raw::Receive(RawEndpoint& endpoint, const IoVector& data, int flags,
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
  message->source.interface = ip.source.is_v6() && ip.source.is_link_local() ? ip.interface : 0;
  datagrams_->Take(endpoint, packet, data, flags, message);
  return Status::Ok();
}

Status Raw::Shutdown(RawEndpoint& endpoint, int how) { return datagrams_->Shutdown(endpoint, how); }

void Raw::Close(RawEndpoint* endpoint, Instant now) {
  datagrams_->Discard(*endpoint, now);
  ++closing_;
  OnFrameLeft(endpoint);
}

void Raw::OnFrameLeft(RawEndpoint* endpoint) {
  if (!datagrams_->OnFrameLeft(*endpoint)) return;
  endpoint->node.Unlink();
  --closing_;
  pool_.Delete(endpoint);
}

Status Raw::SetOption(RawEndpoint& endpoint, int level, int name, const void* value,
                      uint32_t length) {
  const bool icmp = endpoint.protocol == IPPROTO_ICMP;
  const bool icmp_v6 = endpoint.protocol == IPPROTO_ICMPV6;
  if (level == kSolRaw && name == kIcmpFilter && endpoint.family == Family::kIpv4) {
    if (!icmp || endpoint.ping) return Status(EOPNOTSUPP);
    std::memcpy(&endpoint.icmp_filter, value, std::min<uint32_t>(length, 4));
    return Status::Ok();
  }
  if (level == IPPROTO_ICMPV6 && name == ICMP6_FILTER) {
    if (!icmp_v6 || endpoint.ping) return Status(EOPNOTSUPP);
    std::memcpy(endpoint.icmp_v6_filter, value,
                std::min<uint32_t>(length, sizeof endpoint.icmp_v6_filter));
    return Status::Ok();
  }
  const bool header = level == IPPROTO_IP && name == IP_HDRINCL && !endpoint.ping;
  const bool checksum = (level == kSolRaw || level == IPPROTO_IPV6) && name == kIpv6Checksum &&
                        endpoint.family == Family::kIpv6;
  if (!header && !checksum) return Status(ENOPROTOOPT);
  int v = 0;
  if (length < sizeof v) return Status(EINVAL);
  std::memcpy(&v, value, sizeof v);
  if (header) {
    endpoint.header_included = v != 0;
    return Status::Ok();
  }
  // Linux: ICMPv6's cannot be moved (RFC 3542 3.1), and an odd one makes no sense.
  if (icmp_v6 || endpoint.ping || (v >= 0 && (v & 1) != 0)) return Status(EINVAL);
  if (v > kMaxChecksumOffset) return Status(EINVAL);
  endpoint.checksum_offset = static_cast<int16_t>(v < 0 ? -1 : v);
  return Status::Ok();
}

Status Raw::GetOption(RawEndpoint& endpoint, int level, int name, void* value, uint32_t* length) {
  const auto give = [&](const void* from, uint32_t size) {
    *length = std::min(*length, size);
    std::memcpy(value, from, *length);
    return Status::Ok();
  };
  if (level == kSolRaw && name == kIcmpFilter && endpoint.protocol == IPPROTO_ICMP) {
    return give(&endpoint.icmp_filter, 4);
  }
  if (level == IPPROTO_ICMPV6 && name == ICMP6_FILTER && endpoint.protocol == IPPROTO_ICMPV6) {
    return give(endpoint.icmp_v6_filter, sizeof endpoint.icmp_v6_filter);
  }
  int v = 0;
  if (level == IPPROTO_IP && name == IP_HDRINCL && !endpoint.ping) {
    v = endpoint.header_included;
  } else if ((level == kSolRaw || level == IPPROTO_IPV6) && name == kIpv6Checksum &&
             endpoint.family == Family::kIpv6) {
    v = endpoint.checksum_offset;
  } else {
    return Status(ENOPROTOOPT);
  }
  return give(&v, sizeof v);
}

void Raw::Mend() {
  closing_ = 0;
  uint32_t count = 0;
  for (RawEndpoint* e = all_.front(); e != nullptr;) {
    RawEndpoint* const next = all_.Next(e);
    if (e->closed() && e->bytes == 0) {
      e->node.Unlink();
    } else {
      ++count;
      if (e->closed()) ++closing_;
      datagrams_->Mend(*e);
    }
    e = next;
  }
  pool_.set_live(count);
}

void Raw::CheckInvariants() const {
  uint32_t closing = 0, count = 0;
  for (const RawEndpoint* e = all_.front(); e != nullptr; e = all_.Next(e)) {
    ++count;
    closing += e->closed() ? 1 : 0;
    Check(!e->closed() || e->bytes > 0, "raw: a closed endpoint without frames");
    datagrams_->CheckInvariants(*e);
  }
  Check(closing == closing_ && count == pool_.live(), "raw: endpoints");
}

}  // namespace userstack
