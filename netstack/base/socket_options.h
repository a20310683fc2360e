// SocketOptions: what SOL_SOCKET, IPPROTO_IP and IPPROTO_IPV6 options say of one socket, as the
// transports see it. Names and meanings are Linux's (socket(7), ip(7), ipv6(7)); sizes are in
// bytes, after Linux's doubling.
#pragma once

#include <cstdint>

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
  uint8_t mtu_discover = 1;  // IP_PMTUDISC_*: 0 dont, 1 want, 2 do, 3 probe
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
};

}  // namespace userstack
