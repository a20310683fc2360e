// Udp: RFC 768 and 8085 with Linux's socket semantics. All calls under the stack's lock; nothing
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/base/io.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"
#include "netstack/ip/ip.h"
#include "netstack/packet/core.h"

namespace userstack {

// Ancillary data of one datagram or stream read, typed; the shim encodes it as cmsgs. `present`
// says what is valid.
struct Ancillary {
  enum Present : uint32_t {
    kPacketInfo = 1,
    kTtl = 2,
    kTrafficClass = 4,
    kTimestamp = 8,
    kError = 16,
    kGroSegment = 32,
    kOriginalDestination = 64,
  };
  uint32_t present = 0;
  IpAddress packet_destination;  // kPacketInfo: header destination (receive), source to use (send)
  uint16_t packet_interface = 0;
  uint8_t ttl = 0;
  uint8_t traffic_class = 0;
  Instant timestamp;
  uint16_t segment_size = 0;  // UDP_SEGMENT on send, UDP_GRO on receive
  uint16_t destination_port = 0;
  // kError: struct sock_extended_err's fields
  int error = 0;
  uint8_t error_origin = 0, error_type = 0, error_code = 0;
  uint32_t error_info = 0;
  Endpoint error_offender;
};

struct ReceivedMessage {
  Endpoint source;
  size_t length = 0;  // the datagram's whole length (MSG_TRUNC), bytes copied for streams
  size_t copied = 0;
  int flags = 0;  // MSG_TRUNC, MSG_ERRQUEUE, MSG_OOB ...
  Ancillary ancillary;
};

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
