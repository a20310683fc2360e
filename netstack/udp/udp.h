// Udp: RFC 768 and 8085 with Linux's socket semantics.
//
// Owner: the stack. All calls under the stack's lock; nothing blocks.
// Invariants: 1. An endpoint is in the port table exactly while it has a local port, and then in
// one of the two demultiplexing tables: connected ones by their four-tuple, others by their port.
// 2. A closed endpoint is in no table; it is deleted when its last frame has left.
// 3. At most one endpoint has a burst, and then its `pending` is whole datagrams of
// `pending_segment` bytes (the first at least; see burst.cc). Nothing else overtakes a burst: what
// changes an endpoint, or sends by another, flushes it first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/base/io.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"
#include "netstack/datagram/datagram.h"
#include "netstack/datagram/message.h"
#include "netstack/ip/ip.h"
#include "netstack/packet/core.h"

namespace userstack {

struct UdpEndpoint : DatagramSocket {
  UdpEndpoint(Family f, Pollable* p);

  ListNode node;                         // on Udp's list of all endpoints
  HashNode<UdpEndpoint> port_node;       // by local port
  HashNode<UdpEndpoint> demux_node;      // connected: by four-tuple; others: by local port
  bool cork = false;                     // UDP_CORK
  uint16_t segment_size = 0;             // UDP_SEGMENT
  bool send_zero_checksum_v6 = false;    // UDP_NO_CHECK6_TX
  bool accept_zero_checksum_v6 = false;  // UDP_NO_CHECK6_RX
  // A datagram under construction (MSG_MORE, UDP_CORK) or a burst: its frame, or nullptr, and its
  // way.
  Frame* pending = nullptr;
  SendPlan pending_plan;
  uint16_t pending_segment = 0;
};

class Udp {
 public:
  [[nodiscard]] bool Initialize(Core* core, Ip* ip, Datagrams* datagrams);

  // ENOBUFS when the pool is exhausted.
  Result<UdpEndpoint*> Create(Family family, Pollable* pollable);
  // EINVAL (bound already), EADDRNOTAVAIL, EADDRINUSE.
  Status Bind(UdpEndpoint& endpoint, const Endpoint& local);
  // Chooses source and port. EAGAIN (no port), EACCES, ENETUNREACH ...
  Status Connect(UdpEndpoint& endpoint, const Endpoint& remote);
  void Disconnect(UdpEndpoint& endpoint);  // AF_UNSPEC
  // `destination` null: the connected peer (EDESTADDRREQ). `ancillary` may be null.
  Result<size_t> Send(UdpEndpoint& endpoint, const IoVector& data, const Endpoint* destination,
                      const Ancillary* ancillary, int flags, Instant now);
  // MSG_DONTWAIT in `flags` must say whether the caller would block: after shutdown Linux answers
  // EAGAIN to the one and end of file to the other.
  Status Receive(UdpEndpoint& endpoint, const IoVector& data, int flags, ReceivedMessage* message);
  Status Shutdown(UdpEndpoint& endpoint, int how);
  void Close(UdpEndpoint* endpoint, Instant now);

  // Is an endpoint bound where a looped datagram for `local` could reach it?
  bool HasEndpoint(const Endpoint& local) const;
  Endpoint local(const UdpEndpoint& endpoint) const { return endpoint.local; }
  Endpoint remote(const UdpEndpoint& endpoint) const { return endpoint.remote; }
  // IPPROTO_UDP level. EINVAL, ENOPROTOOPT.
  Status SetOption(UdpEndpoint& endpoint, int name, const void* value, uint32_t length,
                   Instant now);
  Status GetOption(UdpEndpoint& endpoint, int name, void* value, uint32_t* length);

  // --- driven by the stack ---
  enum class InputResult : uint8_t { kTaken, kNoPort };
  // kTaken: ownership taken. kNoPort: still the caller's, who answers port unreachable.
  InputResult Input(Packet* packet);
  void OnIcmpError(const IcmpError& error, Instant now);
  void OnFrameLeft(UdpEndpoint* endpoint);  // FramePool told of the endpoint
  bool HasFrames() const { return closing_ > 0 || burst_ != nullptr; }
  // Puts the burst, if there is one, on the interface's queue. True when there was one.
  bool FlushBurst(Instant now);
  // There is a burst that it pays to keep for datagrams that will follow.
  bool BurstMayWait(Instant now) const;
  // When it must have gone out; Never() when there is none.
  Instant BurstDeadline() const;
  // After a death in the middle of a change.
  void Mend();
  void CheckInvariants() const;

 private:
  // bind.cc
  bool IsPortFree(const UdpEndpoint& endpoint, const Endpoint& wanted) const;
  Result<uint16_t> ChoosePort(const UdpEndpoint& endpoint, const IpAddress& address);
  Status EnsurePort(UdpEndpoint& endpoint);
  void Link(UdpEndpoint& endpoint);
  void Unlink(UdpEndpoint& endpoint);
  uint64_t TupleHash(const Endpoint& local, const Endpoint& remote) const;
  // input.cc
  UdpEndpoint* Find(const Endpoint& local, const Endpoint& remote, uint16_t interface) const;
  UdpEndpoint* Spread(const Endpoint& local, const Endpoint& remote, uint16_t interface, int score,
                      UdpEndpoint* first) const;
  void DeliverToAll(Packet* packet);
  bool VerifyChecksum(const Packet& packet, uint16_t checksum) const;
  // output.cc
  Result<size_t> Append(UdpEndpoint& endpoint, const IoVector& data, uint32_t bytes, Instant now);
  Status Begin(UdpEndpoint& endpoint, const Endpoint& destination, const Ancillary* ancillary);
  Status Flush(UdpEndpoint& endpoint, Instant now);
  void DropPending(UdpEndpoint& endpoint);
  Status CheckSize(const UdpEndpoint& endpoint, uint32_t bytes) const;
  Status SendFrame(UdpEndpoint& endpoint, Frame* frame, const SendPlan& plan, uint16_t segment,
                   Instant now);
  Status SendSegments(UdpEndpoint& endpoint, Frame* frame, const SendPlan& plan, uint16_t segment,
                      Instant now);
  void Finish(const UdpEndpoint& endpoint, Frame* frame, const SendPlan& plan, bool fragmented);

  // burst.cc
  void NoteCall(Instant now);
  bool MayBurst(const UdpEndpoint& endpoint, uint32_t bytes, const Ancillary* ancillary) const;
  void StartBurst(UdpEndpoint& endpoint, Instant now);
  bool Joins(const UdpEndpoint& endpoint, uint32_t bytes, const Endpoint* destination,
             const Ancillary* ancillary) const;
  bool JoinBurst(UdpEndpoint& endpoint, const IoVector& data, uint32_t bytes, Instant now);

  Core* core_ = nullptr;
  Ip* ip_ = nullptr;
  Datagrams* datagrams_ = nullptr;
  UdpEndpoint* burst_ = nullptr;
  uint16_t burst_count_ = 0;       // datagrams in it
  uint32_t burst_generation_ = 0;  // of the routes, when its way was chosen
  Instant burst_started_;
  Instant last_call_;
  uint32_t near_calls_ = 0;  // calls that followed each other at once
  uint16_t just_left_ = 0;   // datagrams of the burst that left since the last call
  Pool<UdpEndpoint> pool_;
  List<UdpEndpoint, &UdpEndpoint::node> all_;
  uint32_t closing_ = 0;  // closed, with frames on the way
  HashTable<UdpEndpoint, &UdpEndpoint::port_node> ports_;
  HashTable<UdpEndpoint, &UdpEndpoint::demux_node> connected_;
  HashTable<UdpEndpoint, &UdpEndpoint::demux_node> open_;
};

}  // namespace userstack
