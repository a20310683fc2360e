// SocketOptions: what SOL_SOCKET, IPPROTO_IP and IPPROTO_IPV6 options say of one socket, as the
// transports see it. Names and meanings are Linux's (socket(7), ip(7), ipv6(7)); sizes are in
// bytes, after Linux's doubling.
#pragma once

#include <cstdint>

#include "netstack/base/ip_address.h"
#include "netstack/base/time.h"

namespace userstack {

struct SocketOptions {
  // SOL_SOCKET
  bool reuse_address = false;
  bool reuse_port = false;
  bool keep_alive = false;
  bool broadcast = false;
  bool out_of_band_inline = false;
  bool dont_route = false;
  bool timestamp = false;     // SO_TIMESTAMP
  bool timestamp_ns = false;  // SO_TIMESTAMPNS
  bool linger = false;
  bool send_buffer_locked = false;     // set by SO_SNDBUF: no autotuning
  bool receive_buffer_locked = false;  // set by SO_RCVBUF: no autotuning
  uint32_t linger_seconds = 0;
  uint32_t send_buffer = 0;     // 0: the protocol's default
  uint32_t receive_buffer = 0;  // 0: the protocol's default
  uint32_t receive_low_water = 1;
  uint32_t mark = 0;
  uint32_t priority = 0;
  uint64_t max_pacing_rate = ~uint64_t{0};  // bytes a second
  uint16_t bound_interface = 0;             // SO_BINDTODEVICE, 0: none
  // IPPROTO_IP, IPPROTO_IPV6
  uint8_t tos = 0;
  uint8_t traffic_class = 0;
  int16_t ttl = -1;  // -1: default (64)
  int16_t unicast_hops = -1;
  int16_t multicast_ttl = 1;
  int16_t multicast_hops = 1;
  bool multicast_loop = true;
  bool multicast_loop_v6 = true;
  bool multicast_all = true;
  uint16_t multicast_interface = 0;
  uint8_t mtu_discover = 1;  // IP_PMTUDISC_*: 0 dont, 1 want, 2 do, 3 probe, 4 interface, 5 omit
  uint8_t mtu_discover_v6 = 1;
  bool v6_only = false;
  bool free_bind = false;
  bool transparent = false;
  bool bind_address_no_port = false;
  bool receive_error = false;  // IP_RECVERR
  bool receive_error_v6 = false;
  bool packet_info = false;     // IP_PKTINFO
  bool packet_info_v6 = false;  // IPV6_RECVPKTINFO
  bool receive_ttl = false;
  bool receive_hop_limit = false;
  bool receive_tos = false;
  bool receive_traffic_class = false;
  bool receive_original_destination = false;
  uint16_t multicast_interface_v6 = 0;
  IpAddress multicast_source = IpAddress::V4(0);  // of IP_MULTICAST_IF with an address
  uint16_t unicast_interface = 0;                 // IP_UNICAST_IF
  uint16_t unicast_interface_v6 = 0;
  bool multicast_all_v6 = true;
  bool dont_fragment_v6 = false;  // IPV6_DONTFRAG
  uint32_t mtu_limit_v6 = 0;      // IPV6_MTU, 0: none
  bool no_checksum = false;       // SO_NO_CHECK
  bool debug = false;             // SO_DEBUG, SO_PASSCRED, SO_PASSSEC: kept, without effect
  bool pass_credentials = false;
  bool pass_security = false;
  bool prefer_busy_poll = false;  // SO_PREFER_BUSY_POLL and the next two: kept, without effect
  uint32_t busy_poll = 0;
  uint32_t busy_poll_budget = 0;
  int32_t incoming_cpu = -1;
  bool receive_drop_count = false;   // SO_RXQ_OVFL
  bool select_error_queue = false;   // SO_SELECT_ERR_QUEUE
  bool receive_flow_label = false;   // IPV6_FLOWINFO
  bool send_flow_label = false;      // IPV6_FLOWINFO_SEND
  uint16_t sticky_interface_v6 = 0;  // IPV6_PKTINFO
  IpAddress sticky_source_v6;
  // Kept, without effect: packets carry no options and no extension headers of ours.
  bool receive_ip_options = false;
  bool receive_ip_options_raw = false;
  bool receive_routing_header = false;
  bool receive_hop_options = false;
  bool receive_destination_options = false;
  bool receive_path_mtu = false;
  bool auto_flow_label = true;    // IPV6_AUTOFLOWLABEL
  uint8_t minimum_ttl = 0;        // IP_MINTTL
  uint8_t minimum_hop_limit = 0;  // IPV6_MINHOPCOUNT
};

}  // namespace userstack
