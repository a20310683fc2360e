// Local ports of UDP: binding, conflicts, the choice of a port, connecting.
#include <array>

#include "netstack/udp/udp.h"

namespace userstack {
namespace {

// Linux: net.ipv4.ip_local_port_range.
constexpr uint16_t kFirstEphemeralPort = 32768;
constexpr uint16_t kLastEphemeralPort = 60999;

// Could one packet be meant for both addresses? `only` says that "::" stands for IPv6 alone.
bool AddressesOverlap(const IpAddress& a, bool a_only, const IpAddress& b, bool b_only) {
  const bool a_any6 = a.is_v6() && a.is_unspecified();
  const bool b_any6 = b.is_v6() && b.is_unspecified();
  if (a_any6 && b_any6) return true;
  if (a_any6) return b.is_v6() || !a_only;
  if (b_any6) return a.is_v6() || !b_only;
  if (a.is_v4() != b.is_v4()) return false;
  return a.is_unspecified() || b.is_unspecified() || a == b;
}

}  // namespace

// Linux: udp_lib_lport_inuse.
bool Udp::IsPortFree(const UdpEndpoint& endpoint, const Endpoint& wanted) const {
  bool free = true;
  const SocketOptions& o = endpoint.options;
  ports_.ForEachWithHash(wanted.port, [&](const UdpEndpoint& other) {
    const SocketOptions& theirs = other.options;
    if (&other == &endpoint || (o.reuse_address && theirs.reuse_address)) return;
    if (o.bound_interface != 0 && theirs.bound_interface != 0 &&
        o.bound_interface != theirs.bound_interface) {
      return;
    }
    if (!AddressesOverlap(wanted.address, o.v6_only, other.local.address, theirs.v6_only)) return;
    if (o.reuse_port && theirs.reuse_port) return;
    free = false;
  });
  return free;
}

// A random start, then upwards (RFC 6056 3.3.1).
Result<uint16_t> Udp::ChoosePort(const UdpEndpoint& endpoint, const IpAddress& address) {
  constexpr uint32_t kPorts = kLastEphemeralPort - kFirstEphemeralPort + 1;
  const auto start = static_cast<uint32_t>(core_->random.Below(kPorts));
  for (uint32_t i = 0; i < kPorts; ++i) {
    const auto port = static_cast<uint16_t>(kFirstEphemeralPort + (start + i) % kPorts);
    if (IsPortFree(endpoint, {address, port, 0})) return port;
  }
  return Result<uint16_t>::Error(EADDRINUSE);
}

Status Udp::EnsurePort(UdpEndpoint& endpoint) {
  if (endpoint.local.port != 0) return Status::Ok();
  const Result<uint16_t> port = ChoosePort(endpoint, endpoint.local.address);
  if (!port.ok()) return Status(EAGAIN);
  endpoint.local.port = *port;
  Link(endpoint);
  return Status::Ok();
}

uint64_t Udp::TupleHash(const Endpoint& local, const Endpoint& remote) const {
  return HashOfPair(core_->hash_key, local.address, local.port, remote.address, remote.port);
}

void Udp::Link(UdpEndpoint& endpoint) {
  ports_.Insert(&endpoint, endpoint.local.port);
  if (endpoint.connected) {
    connected_.Insert(&endpoint, TupleHash(endpoint.local, endpoint.remote));
  } else {
    open_.Insert(&endpoint, endpoint.local.port);
  }
}

void Udp::Unlink(UdpEndpoint& endpoint) {
  ports_.Erase(&endpoint);
  if (endpoint.connected) {
    connected_.Erase(&endpoint);
  } else {
    open_.Erase(&endpoint);
  }
}

Status Udp::Bind(UdpEndpoint& endpoint, const Endpoint& local) {
  Endpoint wanted = local;
  if (const Status s = datagrams_->CheckBindAddress(endpoint, wanted); !s.ok()) return s;
  if (endpoint.local.port != 0 || endpoint.connected) return Status(EINVAL);
  if (wanted.port != 0) {
    if (!IsPortFree(endpoint, wanted)) return Status(EADDRINUSE);
  } else if (!endpoint.options.bind_address_no_port) {
    const Result<uint16_t> port = ChoosePort(endpoint, wanted.address);
    if (!port.ok()) return port.status();
    wanted.port = *port;
  }
  datagrams_->SetLocal(endpoint, wanted);
  endpoint.port_chosen = local.port != 0;
  if (endpoint.local.port != 0) Link(endpoint);
  return Status::Ok();
}

Status Udp::Connect(UdpEndpoint& endpoint, const Endpoint& remote) {
  if (const Status s = EnsurePort(endpoint); !s.ok()) return s;
  SendPlan plan;
  if (const Status s = datagrams_->PlanConnection(endpoint, remote, &plan); !s.ok()) return s;
  Unlink(endpoint);
  datagrams_->SetRemote(endpoint, plan);
  Link(endpoint);
  datagrams_->Announce(endpoint, 0);
  return Status::Ok();
}

// Linux: __udp_disconnect keeps what bind chose, and gives back what connect did.
void Udp::Disconnect(UdpEndpoint& endpoint) {
  Unlink(endpoint);
  datagrams_->ForgetRemote(endpoint);
  if (endpoint.local.port != 0) Link(endpoint);
  datagrams_->Announce(endpoint, 0);
}

}  // namespace userstack
