// Udp: RFC 768 and 8085 with Linux's socket semantics. All calls under the stack's lock; nothing
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/base/io.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"
#include "netstack/datagram/message.h"
#include "netstack/ip/ip.h"
#include "netstack/packet/core.h"

namespace userstack {

struct UdpEndpoint;

class Udp {
 public:
  [[nodiscard]] bool Initialize(Core* core, Ip* ip);

  Result<UdpEndpoint*> Create(Family family, Pollable* pollable);
  SocketOptions& options(UdpEndpoint& endpoint);
  void OptionsChanged(UdpEndpoint& endpoint);
  Status Bind(UdpEndpoint& endpoint, const Endpoint& local);
  Status Connect(UdpEndpoint& endpoint, const Endpoint& remote,
                 Instant now);               // chooses source and port
  Status Disconnect(UdpEndpoint& endpoint);  // AF_UNSPEC
  // `destination` null: the connected peer (EDESTADDRREQ). `ancillary` may be null.
  Result<size_t> Send(UdpEndpoint& endpoint, const IoVector& data, const Endpoint* destination,
                      const Ancillary* ancillary, int flags, Instant now);
  Status Receive(UdpEndpoint& endpoint, const IoVector& data, int flags, ReceivedMessage* message,
                 Instant now);
  Status Shutdown(UdpEndpoint& endpoint, int how);
  void Close(UdpEndpoint* endpoint);

  Endpoint local(const UdpEndpoint& endpoint) const;
  Endpoint remote(const UdpEndpoint& endpoint) const;
  bool IsConnected(const UdpEndpoint& endpoint) const;
  int TakeError(UdpEndpoint& endpoint);
  uint32_t NextDatagramSize(const UdpEndpoint& endpoint) const;  // FIONREAD
  uint32_t BytesInSendQueue(const UdpEndpoint& endpoint) const;  // SIOCOUTQ
  Status SetOption(UdpEndpoint& endpoint, int name, const void* value,
                   uint32_t length);  // IPPROTO_UDP level
  Status GetOption(UdpEndpoint& endpoint, int name, void* value, uint32_t* length);
  Status JoinGroup(UdpEndpoint& endpoint, const IpAddress& group, uint16_t interface, Instant now);
  Status LeaveGroup(UdpEndpoint& endpoint, const IpAddress& group, uint16_t interface, Instant now);

  enum class InputResult : uint8_t { kTaken, kNoPort };
  // kTaken: ownership taken. kNoPort: still the caller's, who answers port unreachable.
  InputResult Input(Packet* packet, Instant now);
  void OnIcmpError(const IpAddress& local, const IpAddress& remote, const uint8_t* embedded,
                   uint32_t length, int error, bool hard, uint8_t type, uint8_t code, uint32_t info,
                   const IpAddress& offender, Instant now);
  void OnQueueDrained(uint16_t interface, Instant now);
};

}  // namespace userstack
