// Ancillary and ReceivedMessage: what travels beside the bytes of one datagram (or one stream
// read), typed. The shim turns them into cmsgs and back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/base/ip_address.h"
#include "netstack/base/time.h"

namespace userstack {

// `present` says what is valid. On an IPv6 socket kPacketInfo is IPV6_PKTINFO and kPacketInfoV4 is
// IP_PKTINFO (an IPv4 packet on a socket with both options); kTtl, kTrafficClass, kError and
// kOriginalDestination are the IPPROTO_IP forms when ReceivedMessage::source (the packet) is IPv4.
struct Ancillary {
  enum Present : uint32_t {
    kPacketInfo = 1,
    kTtl = 2,
    kTrafficClass = 4,
    kTimestamp = 8,
    kError = 16,
    kGroSegment = 32,
    kOriginalDestination = 64,
    kPacketInfoV4 = 128,
    kDontFragment = 256,  // send only: IPV6_DONTFRAG
    kDropCount = 512,     // receive only: SO_RXQ_OVFL
  };
  uint32_t present = 0;
  IpAddress packet_destination;  // kPacketInfo: header destination (receive), source to use (send)
  IpAddress packet_local;        // kPacketInfo, receive: our address (in_pktinfo's ipi_spec_dst)
  uint16_t packet_interface = 0;
  uint8_t ttl = 0;
  uint8_t traffic_class = 0;
  Instant timestamp;
  uint16_t segment_size = 0;  // UDP_SEGMENT on send, UDP_GRO on receive
  uint16_t destination_port = 0;
  uint32_t drop_count = 0;
  bool dont_fragment = false;
  // kError: struct sock_extended_err's fields
  int error = 0;
  uint8_t error_origin = 0, error_type = 0, error_code = 0;
  uint32_t error_info = 0;
  Endpoint error_offender;
};

struct ReceivedMessage {
  Endpoint source;
  bool has_source = true;  // false: a stream; the name's length is 0
  size_t length = 0;       // the datagram's whole length (MSG_TRUNC), bytes copied for streams
  size_t copied = 0;
  int flags = 0;  // MSG_TRUNC, MSG_ERRQUEUE, MSG_OOB ...
  Ancillary ancillary;
};

}  // namespace userstack
