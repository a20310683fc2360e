// Raw: sockets below the transports. SOCK_RAW for any protocol, with IP_HDRINCL, ICMP filters and
// IPV6_CHECKSUM; and ping sockets (SOCK_DGRAM of ICMP or ICMPv6), whose local port is the echo
// identifier.
//
// Owner: the stack. All calls under the stack's lock; nothing blocks.
// Invariants: 1. A closed endpoint is deleted when its last frame has left. 2. No two open ping
// endpoints of one family that hear the same address share an identifier.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/datagram/datagram.h"

namespace userstack {

struct RawEndpoint : DatagramSocket {
  RawEndpoint(Family f, Pollable* p, uint8_t p_number, bool is_ping)
      : DatagramSocket(FrameOwnerKind::kRaw, f, p), ping(is_ping) {
    protocol = p_number;
  }

  ListNode node;
  bool ping;
  bool header_included = false;     // IP_HDRINCL
  int16_t checksum_offset = -1;     // IPV6_CHECKSUM; -1: none is computed or checked
  uint32_t icmp_filter = 0;         // ICMP_FILTER: a bit set hides that type (0..31)
  uint32_t icmp_v6_filter[8] = {};  // ICMP6_FILTER: a bit set hides that type
};

class Raw {
 public:
  void Initialize(Core* core, Ip* ip, Datagrams* datagrams);

  Result<RawEndpoint*> Create(Family family, uint8_t protocol, bool ping, Pollable* pollable);
  Status Bind(RawEndpoint& endpoint, const Endpoint& local);
  Status Connect(RawEndpoint& endpoint, const Endpoint& remote);
  void Disconnect(RawEndpoint& endpoint);
  // EMSGSIZE EINVAL EDESTADDRREQ EACCES EAGAIN ...
  Result<size_t> Send(RawEndpoint& endpoint, const IoVector& data, const Endpoint* destination,
                      const Ancillary* ancillary, int flags, Instant now);
  Status Receive(RawEndpoint& endpoint, const IoVector& data, int flags, ReceivedMessage* message);
  Status Shutdown(RawEndpoint& endpoint, int how);
  void Close(RawEndpoint* endpoint, Instant now);
  // What getsockname shows as the port: the protocol, or the echo identifier.
  Endpoint local(const RawEndpoint& endpoint) const;
  // Levels SOL_RAW (ICMP_FILTER), IPPROTO_ICMPV6 (ICMP6_FILTER), and IP_HDRINCL, IPV6_CHECKSUM.
  Status SetOption(RawEndpoint& endpoint, int level, int name, const void* value, uint32_t length);
  Status GetOption(RawEndpoint& endpoint, int level, int name, void* value, uint32_t* length);

  // --- driven by the stack ---
  // Gives copies of `packet` (transport header at data()) to every endpoint that wants it. True
  // when there was one for the protocol. The packet stays the caller's.
  bool Input(const Packet& packet);
  void OnIcmpError(const IcmpError& error, Instant now);
  void OnFrameLeft(RawEndpoint* endpoint);
  bool HasFrames() const { return closing_ > 0; }
  bool HasEndpoints() const { return !all_.empty(); }
  // After a death in the middle of a change.
  void Mend();
  void CheckInvariants() const;

 private:
  bool Wants(const RawEndpoint& endpoint, const Packet& packet) const;
  bool PassesFilter(const RawEndpoint& endpoint, const Packet& packet) const;
  void DeliverCopy(RawEndpoint& endpoint, const Packet& packet);
  Status EnsureIdentifier(RawEndpoint& endpoint);
  bool IsIdentifierFree(const RawEndpoint& endpoint, uint16_t identifier) const;
  Status PlanHeader(RawEndpoint& endpoint, IoCursor* data, uint32_t* bytes, SendPlan* plan) const;
  Status Fill(RawEndpoint& endpoint, Frame* frame, IoCursor* data, uint32_t bytes,
              const SendPlan& plan);

  Core* core_ = nullptr;
  Ip* ip_ = nullptr;
  Datagrams* datagrams_ = nullptr;
  Pool<RawEndpoint> pool_;
  List<RawEndpoint, &RawEndpoint::node> all_;
  uint32_t closing_ = 0;
};

}  // namespace userstack
