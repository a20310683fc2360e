// Ip: IPv4 and IPv6 side by side, with what they cannot do without: ICMP, ARP and neighbour
// discovery, multicast membership. Interfaces, addresses, routes, neighbours (through link/), path
// MTU, input validation and reassembly, output with fragmentation. It knows no transport: Input
// returns what to deliver.
//
// Owner: the stack. All calls under the stack's lock.
// Invariants: 1. Every frame handed to Send is queued, pending at a neighbour, looped, or released
// when Send returns. 2. Nothing here answers an error about an error, a broadcast or a multicast
// (RFC 1122 3.2.2, RFC 4443 2.4). 3. Only addresses in state optimistic, preferred or deprecated
// are local.
#pragma once

#include <cstdint>

#include "netstack/arena/owner_of.h"
#include "netstack/base/checksum.h"
#include "netstack/base/ip_address.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"
#include "netstack/base/time.h"
#include "netstack/device/device.h"
#include "netstack/ip/address_table.h"
#include "netstack/ip/membership.h"
#include "netstack/ip/path_mtu.h"
#include "netstack/ip/rate_limit.h"
#include "netstack/ip/reassembly.h"
#include "netstack/ip/route_table.h"
#include "netstack/link/interface.h"
#include "netstack/link/neighbor.h"
#include "netstack/packet/core.h"
#include "netstack/wire/arp.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/ipv4.h"
#include "netstack/wire/ipv6.h"
#include "netstack/wire/ndp.h"

namespace userstack {

inline constexpr uint16_t kLoopbackInterface = 1;  // "lo"
inline constexpr uint16_t kWireInterface = 2;      // "eth0": the device
inline constexpr unsigned kMaxInterfaces = 4;      // indices 1..kMaxInterfaces
inline constexpr uint8_t kDefaultHopLimit = 64;
inline constexpr uint32_t kMaxIpPacket = 65535;

// A resolved way to a destination. Cheap to copy; a transport keeps it per connection and asks
// again when Ip::route_generation() differs from `generation`.
struct Route {
  IpAddress source;    // the address to use when the socket is not bound
  IpAddress next_hop;  // on-link address to resolve; the destination itself when on-link
  // What was asked for; for the unspecified address, the own address that Linux takes it to mean.
  IpAddress destination;
  uint16_t interface = 0;
  uint32_t mtu = 0;                      // path MTU: largest IP packet
  uint32_t interface_mtu = 0;            // without what is known of the path (IP_PMTUDISC_PROBE)
  uint8_t hop_limit = kDefaultHopLimit;  // unless the socket says otherwise; a router may set it
  bool loopback = false;                 // delivered inside this stack
  bool broadcast = false;
  bool multicast = false;
  bool mtu_locked = false;  // the path MTU is below the floor: DF is not set
  uint32_t generation = 0;
};

struct SendOptions {
  uint8_t protocol = 0;
  uint8_t hop_limit = kDefaultHopLimit;
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0;
  bool dont_fragment = false;  // IPv4 DF; longer than the MTU is EMSGSIZE
  // DF while the packet fits the path MTU, fragments without DF otherwise (IP_PMTUDISC_WANT).
  bool discover_path_mtu = false;
  bool ignore_path_mtu = false;  // measure by Route::interface_mtu (IP_PMTUDISC_PROBE)
  bool router_alert = false;     // IGMP and MLD
  bool multicast_loop = true;
};

// What Input asks of the stack.
enum class IpVerdict : uint8_t {
  kConsumed,   // kept (fragment), answered (ARP, ND) or dropped: the packet is no longer the
               // caller's
  kDeliver,    // packet->ip is filled in, packet->data() is the transport header; the caller owns
               // the packet. ICMP messages that are no errors come this way too, echo requests
               // after they were answered (for ping and raw sockets); release them otherwise.
  kIcmpError,  // an ICMP error about a packet of ours: see Ip::icmp_error(). The caller owns the
               // packet (data() is the ICMP header) and releases it after use.
};

// An ICMP error as transports want it. Pointers are into the packet that Input was given.
struct IcmpError {
  IpAddress local;   // source of the packet that the error is about: ours
  IpAddress remote;  // its destination
  uint8_t protocol = 0;
  const uint8_t* embedded = nullptr;  // the quoted transport header
  uint32_t embedded_length = 0;       // at least 8
  int error = 0;                      // errno, by Linux's icmp_err_convert
  bool hard = false;                  // fatal to a connection by the same table (RFC 5461)
  uint32_t mtu = 0;                   // with EMSGSIZE
  uint32_t info = 0;                  // ee_info: the MTU or the pointer
  uint8_t origin = 0;                 // SO_EE_ORIGIN_ICMP (2) or _ICMP6 (3)
  uint8_t type = 0;
  uint8_t code = 0;
  IpAddress offender;  // who says so
  uint16_t interface = 0;
};

enum class Unreachable : uint8_t { kHost, kProtocol, kPort };

class Ip {
 public:
  // Makes "lo" as well, with 127.0.0.1/8 and ::1/128.
  [[nodiscard]] bool Initialize(Core* core, Instant now);

  // --- configuration ---
  // EINVAL, EEXIST.
  Status AddInterface(uint16_t index, const char* name, const DeviceCapabilities& device);
  // Starts duplicate address detection and announces; the address is usable at once (RFC 4429).
  // The first IPv6 address of an interface brings its link-local one and router discovery.
  // EINVAL, EEXIST, ENODEV, ENOBUFS.
  Status AddAddress(uint16_t interface, const Prefix& address, Instant now);
  Status RemoveAddress(uint16_t interface, const IpAddress& address, Instant now);  // EADDRNOTAVAIL
  // `gateway` unspecified: on-link. EINVAL, EEXIST, ENODEV, ENETUNREACH (gateway), ENOBUFS.
  Status AddRoute(const Prefix& destination, const IpAddress& gateway, uint16_t interface,
                  uint32_t metric);
  Status RemoveRoute(const Prefix& destination, const IpAddress& gateway);  // ESRCH

  // --- queries ---
  // EADDRNOTAVAIL (source), ENETUNREACH. `source` unspecified: choose one (RFC 6724 for IPv6).
  // `interface` 0: any.
  Result<Route> FindRoute(const IpAddress& source, const IpAddress& destination,
                          uint16_t interface) const;
  uint32_t route_generation() const { return route_generation_; }
  bool IsLocal(const IpAddress& address) const;      // ours, loopback included
  bool IsBroadcast(const IpAddress& address) const;  // limited, or a subnet's
  const DeviceCapabilities* device(uint16_t interface) const;
  // nullptr when there is none. Gives name, MTU, link address for SIOCGIF*.
  const Interface* interface(uint16_t index) const;
  uint16_t InterfaceByName(const char* name) const;  // 0: none
  // For getifaddrs and SIOCGIFADDR: the address in slot `slot`, nullptr where none is usable;
  // slots are 0..kMaxAddresses - 1.
  const Address* AddressAt(unsigned slot) const;
  // What a wire that is shared with others has to deliver here: the usable addresses of the
  // interface and the groups joined on it, without those that every node is in and without
  // solicited-node groups (neighbour discovery names its target). Returns how many; changes
  // whenever local_generation() does.
  size_t WantedAddresses(uint16_t interface, IpAddress* out, size_t limit) const;
  uint32_t local_generation() const { return local_generation_; }
  // The MTU that applies to `destination` now (path MTU or the interface's).
  uint32_t PathMtu(const IpAddress& destination, uint16_t interface, Instant now) const;
  // An ICMP error with EMSGSIZE was about a packet that the transport did send (it has checked the
  // quoted ports and, for TCP, the sequence number): believe it. Changes route_generation().
  void UpdatePathMtu(const IpAddress& destination, uint32_t mtu, Instant now);
  // The largest packet of TCP segments that whoever `route` leads to takes whole: more than
  // kMaxIpPacket when that is the kernel at the other end of the wire itself. Whom it forwards to
  // would get it in pieces that the kernel cuts.
  uint32_t LargestForHost(const Route& route);
  // The transport saw its data acknowledged by way of `route`: no need to probe the neighbour.
  void ConfirmNeighbor(const Route& route, Instant now);

  // --- multicast membership ---
  // Counted: every join needs a leave. `interface` 0: by the route to the group. EINVAL, ENODEV,
  // ENOBUFS.
  Status JoinGroup(uint16_t interface, const IpAddress& group, Instant now);
  Status LeaveGroup(uint16_t interface, const IpAddress& group, Instant now);  // EADDRNOTAVAIL

  // --- output ---
  // `frame` holds the transport header (and Offload with checksum_start relative to the transport
  // header when checksum_needed, header_length that of the transport header when segmentation is
  // asked for) and payload slices; Send puts network and link headers in front, fragments when it
  // must, resolves the neighbour, and queues the frame on its interface. Takes ownership in every
  // case. EMSGSIZE, ENOBUFS (queue full or out of memory), ENETDOWN.
  Status Send(Frame* frame, const Route& route, const IpAddress& source,
              const IpAddress& destination, const SendOptions& options, Instant now);
  // True when the interface's queue is long: a transport should hold back and will be called again
  // when it drains.
  bool IsCongested(uint16_t interface) const;
  // Answers that `packet` (as it came from Input, pulled or not) could not be delivered, where
  // that may be said. The packet stays the caller's.
  void SendUnreachable(const Packet& packet, Unreachable why, Instant now);

  // --- driven by the stack ---
  // A whole Ethernet frame (packet->data() at the link header), or for `looped` packets a bare IP
  // packet.
  IpVerdict Input(Packet* packet, Instant now);
  const IcmpError& icmp_error() const { return icmp_error_; }  // after kIcmpError
  // Kinds kNeighbor, kDuplicateAddress, kRouterSolicit, kRouterLifetime, kReassembly,
  // kMulticastReport, kPathMtu.
  void OnTimer(Timer* timer, Instant now);
  // The next packet of the internal loopback, to be handed to Input, or nullptr.
  Packet* NextLooped();
  bool HasLooped() const { return looped_count_ > 0; }
  Frame* NextFrame(uint16_t interface);
  void ReturnFrame(Frame* frame);
  // Bit i: interface i was congested and has drained; told once.
  uint32_t TakeDrained();
  bool HasQueuedOutput() const;

  // After a death in the middle of a change: counts and tables anew, from the lists.
  void Mend(Instant now);
  void CheckInvariants() const;

 private:
  static constexpr uint32_t kLoopedCongested = 256;
  static constexpr uint32_t kLoopedLimit = 4096;
  static constexpr unsigned kIdentificationSlots = 1024;
  static constexpr unsigned kAcceptedPairs = 64;

  Interface* InterfaceAt(uint16_t index);
  // interfaces.cc
  void StartV6(Interface& interface, Instant now);
  Status CheckNewAddress(const Interface* interface, const Prefix& prefix) const;
  Result<Address*> InsertAddress(Interface& interface, const Prefix& prefix, bool autoconfigured,
                                 Instant now);
  void DropAddress(Address* address, Instant now);
  // address_detection.cc
  void StartDetection(Address* address, Instant now);
  void Probe(const Address& address);
  void OnAddressTimer(Address* address, Instant now);
  void OnDuplicate(Address* address);
  void CheckLifetime(Address* address, Instant now);
  void Announce(const Address& address);
  // routing.cc
  const Address* SelectSource(const IpAddress& destination, const IpAddress& next_hop,
                              uint16_t interface) const;
  Result<Route> RouteToSelf(const IpAddress& source, const IpAddress& destination) const;
  Result<Route> RouteToGroup(const IpAddress& source, const IpAddress& destination,
                             uint16_t interface) const;
  Status FillSource(const IpAddress& source, Route* route) const;
  void FillLimits(Route* route) const;
  uint16_t DefaultInterface(Family family) const;
  // output.cc
  struct FragmentField {
    bool dont_fragment = false;
    bool more = false;
    bool has_identification = false;
    uint16_t offset = 0;
    uint32_t identification = 0;
  };
  Status Refuse(Frame* frame, int error);
  bool LeaveFragmentsToDevice(Frame* frame, const Route& route, const Interface& interface,
                              const SendOptions& options, uint32_t mtu);
  void PrependIpv4(Frame* frame, const IpAddress& source, const IpAddress& destination,
                   const SendOptions& options, const FragmentField& fragment);
  void PrependIpv6(Frame* frame, const IpAddress& source, const IpAddress& destination,
                   const SendOptions& options, const wire::Ipv6FragmentHeader* fragment);
  Status Transmit(Frame* frame, const Route& route, const IpAddress& destination,
                  const SendOptions& options, Instant now);
  Status TransmitTo(Frame* frame, Interface& interface, const IpAddress& next_hop, Instant now);
  Status Enqueue(Frame* frame, Interface& interface, const MacAddress& destination,
                 uint16_t ether_type);
  uint32_t NextIdentification(const IpAddress& source, const IpAddress& destination,
                              uint8_t protocol);
  // fragmentation.cc
  Status SendFragments(Frame* frame, const Route& route, const IpAddress& source,
                       const IpAddress& destination, const SendOptions& options, uint32_t mtu,
                       Instant now);
  Frame* CutFrame(const Frame& frame, uint32_t offset, uint32_t length, uint32_t headroom);
  // segmentation.cc
  static bool NeedsCutting(const Frame& frame, const Interface& interface);
  Status EnqueueSegments(Frame* frame, Interface& interface, const MacAddress& destination,
                         uint16_t ether_type);
  static void FinishSegment(Frame* segment, uint32_t index, uint32_t position, bool last);
  // loopback.cc
  Status Loop(Frame* frame, uint16_t interface, Instant now);  // takes the frame
  void LoopCopy(const Frame& frame, uint16_t interface, Instant now);
  Packet* MakeLooped(const Frame& frame, uint16_t interface, Instant now);
  bool PushLooped(Packet* packet);
  // resolution.cc
  void Act(Neighbor* neighbor, NeighborAction action, Instant now);
  void FlushPending(Neighbor* neighbor, Interface& interface);
  void FailPending(Neighbor* neighbor, Instant now);
  void InputArp(const Packet& packet, Interface& interface, Instant now);
  bool InputArpConflict(const wire::ArpPacket& arp, Interface& interface, Instant now);
  void SendArp(Interface& interface, const wire::ArpPacket& arp, const MacAddress& destination);
  void AskArp(Interface& interface, const IpAddress& target, const MacAddress* to);
  // input.cc
  IpVerdict Drop(Packet* packet, Counter why);
  IpVerdict InputIpv4(Packet* packet, Instant now);
  IpVerdict InputIpv6(Packet* packet, Instant now);
  IpVerdict DispatchIpv6(Packet* packet, uint8_t next_header, uint32_t offset, bool may_be_fragment,
                         Instant now);
  IpVerdict InputFragmentV4(Packet* packet, const wire::Ipv4Header& header, Instant now);
  IpVerdict InputFragmentV6(Packet* packet, const wire::Ipv6Chain& chain, Instant now);
  bool AcceptV4Destination(Packet* packet, const wire::Ipv4Header& header);
  bool AcceptV6Destination(Packet* packet, const wire::Ipv6Header& header);
  void Become(Packet* packet, Packet* whole);
  IpVerdict Deliver(Packet* packet, Instant now);
  void OnReassemblyTimer(ReassemblyContext* context, Instant now);
  // icmp_output.cc
  bool MayAnswer(const Packet& packet, bool even_to_multicast) const;
  void SendError(const Packet& packet, uint8_t type, uint8_t code, uint32_t rest, Instant now,
                 bool even_to_multicast = false);
  void LoopError(const Frame& frame, Instant now);
  Frame* MakeIcmpFrame(const wire::IcmpHeader& header, Buffer* quote, uint32_t quote_length);
  static void FinishIcmp(Frame* frame, const IpAddress& source, const IpAddress& destination);
  Status SendIcmp(Frame* frame, const IpAddress& source, const IpAddress& destination,
                  uint16_t interface, uint8_t traffic_class, Instant now);
  static uint32_t NextHeaderOffset(const Packet& packet);
  // icmp_input.cc
  IpVerdict InputIcmpV4(Packet* packet, Instant now);
  IpVerdict InputIcmpV6(Packet* packet, Instant now);
  void AnswerEcho(const Packet& packet, Instant now);
  bool ParseErrorV4(const Packet& packet, const wire::IcmpHeader& header);
  bool ParseErrorV6(const Packet& packet, const wire::IcmpHeader& header);
  // ndp.cc
  void InputNdp(const Packet& packet, const wire::IcmpHeader& header, Interface& interface,
                Instant now);
  void InputNeighborSolicitation(const Packet& packet, const wire::NeighborMessage& message,
                                 Interface& interface, Instant now);
  void InputNeighborAdvertisement(const Packet& packet, const wire::NeighborMessage& message,
                                  Interface& interface, Instant now);
  void InputRouterAdvertisement(const Packet& packet, const wire::RouterAdvertisement& message,
                                Interface& interface, Instant now);
  void LearnDefaultRouter(const IpAddress& router, const wire::RouterAdvertisement& message,
                          Interface& interface, Instant now);
  void ForgetRouter(const Interface& interface, const IpAddress& router);
  unsigned CountAdvertised(bool routers);
  void LearnPrefix(const wire::PrefixInformation& prefix, Interface& interface, Instant now);
  void Autoconfigure(const wire::PrefixInformation& prefix, Interface& interface, Instant now);
  void HearNeighbor(Interface& interface, const IpAddress& address, const MacAddress& mac,
                    Instant now);
  void SolicitNeighbor(Interface& interface, const IpAddress& target, const MacAddress* to,
                       const IpAddress& source);
  void AskNdp(Interface& interface, const Neighbor& neighbor, bool unicast);
  void SendAdvertisement(Interface& interface, const Address& address, const IpAddress& destination,
                         bool solicited, const MacAddress* to);
  void SendNdp(Interface& interface, Frame* frame, const IpAddress& source,
               const IpAddress& destination, const MacAddress* to);
  void OnRouterSolicitTimer(Interface* interface, Instant now);
  const Address* LinkLocalOf(uint16_t interface) const;
  // group_reports.cc
  void StartReports(GroupMember* member, Instant now);
  void OnReportTimer(GroupMember* member, Instant now);
  void InputIgmp(const Packet& packet, Interface& interface, Instant now);
  void InputMld(const Packet& packet, Interface& interface, Instant now);
  void AnswerQuery(Interface& interface, const IpAddress& group, Duration within, Instant now);
  void SendReport(const GroupMember& member, bool change, Instant now);
  void SendIgmp(Interface& interface, const GroupMember& member, bool change);
  void SendMld(Interface& interface, const GroupMember& member, bool change);
  void SuppressAnswer(const Interface& interface, const IpAddress& group);

  Core* core_ = nullptr;
  uint32_t route_generation_ = 1;
  uint32_t local_generation_ = 0;
  Interface interfaces_[kMaxInterfaces + 1];  // by index; 0 is unused
  AddressTable addresses_;
  RouteTable routes_;
  PathMtuTable path_mtus_;
  NeighborTable neighbors_;
  Membership groups_;
  Reassembly reassembly_;
  ErrorRateLimit error_limit_;
  IcmpError icmp_error_;
  List<Packet, &Packet::node> looped_;
  uint32_t looped_count_ = 0;
  bool looped_was_congested_ = false;
  bool looped_drained_ = false;
  uint32_t drained_interfaces_ = 0;  // bits: whose output queue may have drained
  // Pairs of IPv4 addresses, by the source's last bits, that AcceptV4Destination let in lately;
  // good while the generation is route_generation_, which every change of an address moves.
  struct AcceptedPair {
    uint32_t source = 0;
    uint32_t destination = 0;
    uint32_t generation = 0;
  };
  AcceptedPair accepted_[kAcceptedPairs];
  uint32_t identifications_[kIdentificationSlots] = {};
};

// Computes the checksum that Offload::checksum_needed asks for and stores it; for devices that do
// not. checksum_start is relative to the frame's (or packet's) present beginning.
void FinishChecksum(Frame& frame);
// The same for a packet that came with a partial checksum and leaves this machine's memory again.
void FinishChecksum(Packet& packet);

}  // namespace userstack
