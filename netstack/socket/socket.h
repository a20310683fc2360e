// Socket: what a program's descriptor stands for. One type over TCP, UDP and raw, with Linux's
// errno values and option names. The shim counts the references (a Description); the core sees one
// owner from CreateSocket or Accept to DestroySocket.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/base/ip_address.h"
#include "netstack/raw/raw.h"
#include "netstack/ready/ready.h"
#include "netstack/tcp/tcp.h"
#include "netstack/udp/udp.h"

namespace userstack {

enum class SocketKind : uint8_t { kTcp, kUdp, kPing, kRaw };

struct Socket {
  ListNode node;  // on the stack's list of sockets
  SocketKind kind = SocketKind::kTcp;
  Family family = Family::kIpv4;  // the domain it was created in: sockaddr_in or sockaddr_in6
  int protocol = 0;
  tcp::Connection* tcp = nullptr;
  UdpEndpoint* udp = nullptr;
  RawEndpoint* raw = nullptr;  // kPing, kRaw
  Pollable pollable;
  uint64_t id = 0;  // unique in the stack's life; SO_COOKIE
};

}  // namespace userstack
