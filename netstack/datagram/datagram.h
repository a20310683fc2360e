// Datagrams: what UDP, ping and raw sockets have in common. A receive queue bounded in bytes, an
// error queue, group memberships, asynchronous errors, send-buffer accounting, the choice of route
// and source for one datagram, and the readiness that datagram_poll computes in Linux.
//
// Owner: the stack's lock.
// Invariants: 1. receive_charge is the sum of ReceiveCharge over `receive`. 2. `pollable` is null
// exactly when the socket is closed; a closed socket lives on only while `bytes` (frames that have
// not left) is not 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/hash_table.h"
#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/io.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"
#include "netstack/datagram/message.h"
#include "netstack/ip/ip.h"
#include "netstack/packet/core.h"

namespace userstack {

// Linux: net.core.rmem_default and wmem_default.
inline constexpr uint32_t kDefaultDatagramBuffer = 212992;
// Linux: net.ipv4.igmp_max_msf.
inline constexpr unsigned kMaxFilterSources = 10;
// Linux: net.ipv4.igmp_max_memberships is 20; sysctl raises it, so ours is roomier.
inline constexpr unsigned kMaxMemberships = 256;

// One entry of the error queue (IP_RECVERR).
struct DatagramError {
  ListNode node;
  int error = 0;
  uint8_t origin = 0;  // SO_EE_ORIGIN_*
  uint8_t type = 0;
  uint8_t code = 0;
  uint32_t info = 0;
  Endpoint offender;
  Endpoint destination;       // where the datagram went
  Buffer* payload = nullptr;  // what the error quoted of it
  uint32_t payload_length = 0;
  Instant arrival;
};

// A group that a socket is a member of, with its source filter (RFC 3678).
struct SocketMembership {
  ListNode node;
  IpAddress group;
  uint16_t interface = 0;
  bool include = false;  // true: only `sources`; false: all but `sources`
  uint8_t source_count = 0;
  IpAddress sources[kMaxFilterSources];
};

struct DatagramSocket : FrameOwner {
  DatagramSocket(FrameOwnerKind kind, Family f, Pollable* p)
      : FrameOwner(kind), pollable(p), family(f), local{IpAddress::Any(f), 0, 0} {}

  Pollable* pollable;
  Family family;
  SocketOptions options;
  Endpoint local;   // receives for this address only, unless it is unspecified
  Endpoint remote;  // when connected
  bool connected = false;
  bool address_chosen = false;  // by bind (Linux: SOCK_BINDADDR_LOCK)
  bool port_chosen = false;     // by bind (Linux: SOCK_BINDPORT_LOCK)
  bool shut_receive = false;
  bool shut_send = false;
  bool send_blocked = false;  // the interface was congested: not writable until it drains
  uint8_t protocol = 0;       // the IP protocol that it speaks
  int pending_error = 0;      // SO_ERROR
  uint32_t drops = 0;         // datagrams that found the queue full
  List<Packet, &Packet::node> receive;
  uint64_t receive_charge = 0;
  List<DatagramError, &DatagramError::node> errors;
  List<SocketMembership, &SocketMembership::node> groups;
  uint32_t error_count = 0;
  uint32_t group_count = 0;
  ListNode blocked_node;            // on Datagrams' list while send_blocked
  uint16_t blocked_interface = 0;   // which must drain
  bool local_is_broadcast = false;  // bound to a broadcast address
  bool takes_merged = false;        // UDP_GRO: wants merged datagrams as one

  uint32_t send_limit() const {
    return options.send_buffer != 0 ? options.send_buffer : kDefaultDatagramBuffer;
  }
  uint32_t receive_limit() const {
    return options.receive_buffer != 0 ? options.receive_buffer : kDefaultDatagramBuffer;
  }
  bool closed() const { return pollable == nullptr; }
  // Is it willing to take IPv4 or IPv6 packets at all?
  bool Accepts(Family f) const {
    if (f == Family::kIpv4) {
      return local.address.is_v4() || (local.address.is_unspecified() && !options.v6_only);
    }
    return local.address.is_v6();
  }
};

// How one datagram will travel.
struct SendPlan {
  Route route;
  Endpoint destination;
  IpAddress source;
  SendOptions options;
  uint32_t maximum = 0;  // largest IP packet that may be handed to Ip::Send
  uint32_t mtu = 0;      // above this it will be fragmented
  uint32_t network_header = 20;
};

// What an ICMP error says of a datagram of ours.
struct DatagramFault {
  int error = 0;
  bool hard = false;
  uint8_t origin = 0;
  uint8_t type = 0;
  uint8_t code = 0;
  uint32_t info = 0;
  IpAddress offender;
  uint16_t interface = 0;            // scope of the offender
  const uint8_t* payload = nullptr;  // what was quoted, behind the transport header
  uint32_t payload_length = 0;
};

// What a queued packet costs its socket: its bytes and about what an sk_buff costs in Linux.
inline constexpr uint64_t kPacketOverhead = 640;
inline uint64_t ReceiveCharge(const Packet& packet) { return packet.length + kPacketOverhead; }

class Datagrams {
 public:
  void Initialize(Core* core, Ip* ip);

  // --- names ---
  // EINVAL EAFNOSUPPORT ENODEV EADDRNOTAVAIL.
  Status CheckBindAddress(const DatagramSocket& socket, const Endpoint& wanted) const;
  void SetLocal(DatagramSocket& socket, const Endpoint& local);
  Status PlanConnection(const DatagramSocket& socket, const Endpoint& remote, SendPlan* plan) const;
  void SetRemote(DatagramSocket& socket, const SendPlan& plan);
  void ForgetRemote(DatagramSocket& socket);
  void OnOptionsChanged(DatagramSocket& socket);
  void CheckInvariants(const DatagramSocket& socket) const;

  // --- readiness ---
  void Mend(DatagramSocket& socket);
  EventMask Level(const DatagramSocket& socket) const;
  void Announce(DatagramSocket& socket, EventMask edges);
  // Frames of the socket have left. True: it is closed and waited for them only.
  bool OnFrameLeft(DatagramSocket& socket);
  void OnQueueDrained(uint16_t interface);

  // --- receiving ---
  // Appends `packet`, payload at data(); takes ownership. False when the queue was full: the packet
  // is gone and the drop is counted in the socket.
  bool Deliver(DatagramSocket& socket, Packet* packet);
  // The packet to read now, or an errno: pending errors come first (Linux: __skb_recv_udp). A
  // success without a packet is the end after shutdown.
  Result<Packet*> Next(DatagramSocket& socket, int flags);
  // Copies one datagram and its ancillary data out, and takes it off the queue unless MSG_PEEK.
  // The caller fills in message->source first.
  void Take(DatagramSocket& socket, Packet* packet, const IoVector& data, int flags,
            ReceivedMessage* message);
  Status TakeQueuedError(DatagramSocket& socket, const IoVector& data, ReceivedMessage* message);
  int TakeError(DatagramSocket& socket);
  // A datagram's length in a packet that may hold several.
  static uint32_t DatagramLength(const DatagramSocket& socket, const Packet& packet);

  // --- errors ---
  void ReportFault(DatagramSocket& socket, const Endpoint& destination, const DatagramFault& fault,
                   Instant now);
  void QueueError(DatagramSocket& socket, const Endpoint& destination, const DatagramFault& fault,
                  Instant now);
  void DropErrors(DatagramSocket& socket);
  void ReportTooBig(DatagramSocket& socket, const SendPlan& plan, Instant now);

  // --- sending ---
  // EACCES (broadcast without leave), ENETUNREACH, EINVAL ...
  Status Plan(const DatagramSocket& socket, const Endpoint& destination, const Ancillary* ancillary,
              SendPlan* plan) const;
  // EPIPE, the pending error, EAGAIN when the send buffer is full or the interface congested.
  Status CheckSendable(DatagramSocket& socket, uint16_t interface);
  // Appends `bytes` from the cursor to the frame, a few of them in the frame itself when
  // `may_inline`. ENOBUFS.
  Status AppendPayload(Frame* frame, IoCursor& data, uint32_t bytes, bool may_inline);

  // --- membership ---
  // `include`: with an empty list of sources, to be filled by ChangeFilter; else all sources.
  Status Join(DatagramSocket& socket, const IpAddress& group, uint16_t interface, bool include,
              Instant now);
  Status Leave(DatagramSocket& socket, const IpAddress& group, uint16_t interface, Instant now);
  enum class FilterChange : uint8_t { kInclude, kDropInclude, kBlock, kUnblock };
  Status ChangeFilter(DatagramSocket& socket, const IpAddress& group, uint16_t interface,
                      const IpAddress& source, FilterChange change, Instant now);
  // Does the socket want a packet for this group from this source?
  bool WantsGroup(const DatagramSocket& socket, const IpInfo& ip) const;

  // Drops everything the socket holds. It may still have frames on the way.
  void Discard(DatagramSocket& socket, Instant now);
  // shutdown(2). EINVAL; ENOTCONN, but it works all the same.
  Status Shutdown(DatagramSocket& socket, int how);

 private:
  void OnDrained(DatagramSocket& socket);
  Packet* CopyBreak(Packet* packet);
  void FillAncillary(const DatagramSocket& socket, const Packet& packet, Ancillary* out) const;
  SocketMembership* FindMembership(const DatagramSocket& socket, const IpAddress& group,
                                   uint16_t interface) const;
  Result<uint16_t> GroupInterface(const IpAddress& group, uint16_t interface) const;
  void RemoveMembership(DatagramSocket& socket, SocketMembership* membership, Instant now);
  void LeaveAll(DatagramSocket& socket, Instant now);
  void PlanSize(const DatagramSocket& socket, const Ancillary* ancillary, bool v4,
                SendPlan* plan) const;
  bool AddRoom(Frame* frame, uint32_t wanted);
  void Consume(Packet* packet, uint32_t bytes);

  Core* core_ = nullptr;
  Ip* ip_ = nullptr;
  Pool<DatagramError> error_pool_;
  Pool<SocketMembership> membership_pool_;
  List<DatagramSocket, &DatagramSocket::blocked_node> blocked_;
};

}  // namespace userstack
