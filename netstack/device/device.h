// What the core knows of a wire: capabilities only. How frames get in and out is the embedder's
// business (Stack::Input, Stack::NextFrame); backends turn packets and frames into device work.
#pragma once

#include <cstdint>

#include "netstack/base/ip_address.h"

namespace userstack {

struct DeviceCapabilities {
  MacAddress mac;                     // our own address on the wire
  uint32_t mtu = 1500;                // largest IP packet, 576 (1280 with IPv6) .. 65535
  bool transmit_checksum = false;     // accepts frames with Offload::checksum_needed
  uint32_t tcp_segmentation_max = 0;  // largest IP packet it will cut by TSO (up to 65535); 0: none
  // The kernel at the other end of a TAP, by its link address, and the largest IPv4 packet that it
  // takes whole for itself, marked by a total length of 0 (Linux: BIG TCP); 0: none.
  MacAddress host = {};
  uint32_t host_segmentation_max = 0;
  // Segments that it cuts had better hold a multiple of so many bytes (pages); 0: any number.
  uint32_t payload_unit = 0;
  bool udp_segmentation = false;   // accepts kUdpSegment
  bool udp_fragmentation = false;  // accepts kUdpFragment
  // What autoconfigured IPv6 addresses are derived from (RFC 4291 appendix A), where that is not
  // `mac`: on a wire whose address we share with the kernel it has those that follow from it.
  MacAddress identifier = {};

  const MacAddress& ipv6_identifier() const {
    return identifier == MacAddress{} ? mac : identifier;
  }
};

}  // namespace userstack
