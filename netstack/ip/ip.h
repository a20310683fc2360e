// Ip: IPv4 and IPv6 side by side. Interfaces, addresses, routes, neighbours (through link/), path
// MTU, input validation and reassembly, output with fragmentation, multicast membership. It knows
// no transport: Input returns what to deliver.
//
// Owner: the stack. All calls under the stack's lock.
#pragma once

#include <cstdint>

#include "netstack/base/ip_address.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"
#include "netstack/base/time.h"
#include "netstack/device/device.h"
#include "netstack/packet/core.h"

namespace userstack {

inline constexpr uint16_t kLoopbackInterface = 1;  // "lo"
inline constexpr uint16_t kWireInterface = 2;      // "eth0": the device
inline constexpr unsigned kMaxInterfaces = 4;      // indices 1..kMaxInterfaces
inline constexpr uint8_t kDefaultHopLimit = 64;

// A resolved way to a destination. Cheap to copy; a transport keeps it per connection and asks
// again when Ip::route_generation() differs from `generation`.
struct Route {
  IpAddress source;    // the address to use when the socket is not bound
  IpAddress next_hop;  // on-link address to resolve; the destination itself when on-link
  uint16_t interface = 0;
  uint32_t mtu = 0;       // path MTU: largest IP packet
  bool loopback = false;  // delivered inside this stack
  bool broadcast = false;
  bool multicast = false;
  uint32_t generation = 0;
};

struct SendOptions {
  uint8_t protocol = 0;
  uint8_t hop_limit = kDefaultHopLimit;
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0;
  bool dont_fragment = false;  // IPv4 DF; too long is EMSGSIZE
  bool router_alert = false;   // IGMP and MLD
  bool multicast_loop = true;
};

// What Input asks of the stack.
enum class IpVerdict : uint8_t {
  kConsumed,  // kept (fragment), answered (ARP, ND) or dropped: the packet is no longer the
              // caller's
  kDeliver,  // packet->ip is filled in, packet->data() is the transport header; the caller owns the
             // packet
};

class Ip {
 public:
  [[nodiscard]] bool Initialize(Core* core, Instant now);

  // --- configuration ---
  Status AddInterface(uint16_t index, const char* name, const DeviceCapabilities& device);
  Status AddAddress(uint16_t interface, const Prefix& address,
                    Instant now);  // starts DAD (IPv6), announces (ARP)
  Status RemoveAddress(uint16_t interface, const IpAddress& address);
  Status AddRoute(const Prefix& destination, const IpAddress& gateway, uint16_t interface,
                  uint32_t metric);
  Status RemoveRoute(const Prefix& destination, const IpAddress& gateway);

  // --- queries ---
  // EADDRNOTAVAIL, ENETUNREACH, EHOSTUNREACH. `source` unspecified: choose one (RFC 6724 for IPv6).
  // `interface` 0: any.
  Result<Route> FindRoute(const IpAddress& source, const IpAddress& destination,
                          uint16_t interface) const;
  uint32_t route_generation() const;
  bool IsLocal(const IpAddress& address) const;      // ours, loopback included, tentative excluded
  bool IsBroadcast(const IpAddress& address) const;  // limited, or a subnet's
  const DeviceCapabilities* device(uint16_t interface) const;
  // The MTU that applies to `destination` now (path MTU or the interface's).
  uint32_t PathMtu(const IpAddress& destination, uint16_t interface, Instant now) const;

  // --- output ---
  // `frame` holds the transport header (and Offload with checksum_start relative to the transport
  // header when checksum_needed) and payload slices; Send puts network and link headers in front,
  // fragments when it must, resolves the neighbour, and queues the frame on its interface. Takes
  // ownership in every case.
  Status Send(Frame* frame, const Route& route, const IpAddress& source,
              const IpAddress& destination, const SendOptions& options, Instant now);
  // True when the interface's queue is long: a transport should hold back and will be called again
  // when it drains.
  bool IsCongested(uint16_t interface) const;

  // --- input ---
  // A whole Ethernet frame (packet->data() at the link header), or for `looped` packets a bare IP
  // packet.
  IpVerdict Input(Packet* packet, Instant now);

  // --- driven by the stack ---
  // The next frame queued on the wire `interface`, Ethernet header and all, or nullptr; ReturnFrame
  // puts it back in front.
  Frame* NextFrame(uint16_t interface);
  void ReturnFrame(Frame* frame);
  // The next packet that this stack sent to itself (looped, a bare IP packet, interface filled in),
  // or nullptr. The stack gives it to Input. HasLooped: there is one.
  Packet* NextLooped();
  bool HasLooped() const;
  void OnTimer(Timer* timer,
               Instant now);  // kNeighbor, kDuplicateAddress, kRouter*, kReassembly,
                              // kMulticastReport, kPathMtu

  // --- multicast membership ---
  // Counted per interface and group over all sockets; the first join and the last leave speak IGMP
  // or MLD. EADDRNOTAVAIL when not a member, ENOBUFS, ENODEV.
  Status JoinGroup(uint16_t interface, const IpAddress& group, Instant now);
  Status LeaveGroup(uint16_t interface, const IpAddress& group, Instant now);

  // ... the rest is the implementer's (queues, dumps for getifaddrs).
};

}  // namespace userstack
