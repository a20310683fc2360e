// Reassembly: fragments of both families become whole packets (RFC 791, RFC 8200 4.5). Each
// datagram in progress has one 64 KiB buffer that fragments are copied into, a small one for the
// first fragment's headers, and a bitmap of the 8-byte units that have come, so that memory is
// bounded and an overlap is seen at once.
//
// Owner: Ip; the stack's lock.
// Invariants: 1. A context is in the hash table, on the age list and has its timer armed exactly
// while it lives. 2. At most kMaxContexts of them. 3. `received` counts the bits in `units`.
#pragma once

#include <cstdint>

#include "netstack/arena/hash_table.h"
#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/ip_address.h"
#include "netstack/packet/core.h"

namespace userstack {

// What is known of one fragment beside its bytes.
struct Fragment {
  IpAddress source;
  IpAddress destination;
  uint32_t identification = 0;
  uint16_t interface = 0;
  uint8_t protocol = 0;  // IPv4: part of the key. IPv6: next header behind the fragment header
  uint32_t offset = 0;   // bytes
  uint32_t length = 0;   // payload bytes
  bool more = false;
  uint8_t ecn = 0;
};

inline constexpr uint32_t kReassemblyUnits = 8192;
// Payload bytes that are moved behind the headers, so that slice 0 holds the transport header too.
inline constexpr uint32_t kReassemblyPull = 512;

struct ReassemblyContext {
  HashNode<ReassemblyContext> hash_node;
  ListNode age_node;
  Timer timer{TimerKind::kReassembly};
  Fragment key;              // source, destination, identification, protocol (IPv4), interface
  Buffer* buffer = nullptr;  // payload, from its first byte
  Buffer* header_buffer = nullptr;  // the first fragment's headers
  Instant arrival;                  // of the latest fragment
  uint32_t total = 0;               // payload bytes; 0 until the last fragment came
  uint32_t received = 0;            // units
  uint32_t header_length = 0;       // unfragmentable part of the first fragment; 0 until it came
  uint32_t payload_end = 0;         // of the fragments so far
  uint32_t first_length = 0;        // payload bytes of the first fragment
  uint8_t ecn_seen = 0;             // one bit for each ECN value
  IpInfo ip;                        // of the first fragment
  bool link_broadcast = false;
  bool looped = false;
  uint64_t units[kReassemblyUnits / 64] = {};
};

enum class ReassemblyResult : uint8_t {
  kKept,      // copied or dropped; the packet is still the caller's to release
  kComplete,  // *whole is the datagram, its headers pulled, its ip information filled in
};

class Reassembly {
 public:
  static constexpr uint32_t kMaxContexts = 64;
  static constexpr Duration kTimeoutV4 = Duration::Seconds(30);  // Linux: ipfrag_time
  static constexpr Duration kTimeoutV6 = Duration::Seconds(60);  // RFC 8200 4.5

  [[nodiscard]] bool Initialize(Core* core);

  // `packet->data()` is the fragment's payload (fragment.length bytes); `header` its unfragmentable
  // headers without the fragment header (kept from the first fragment), and `next_header_offset`
  // where in them the protocol is named.
  ReassemblyResult Add(const Fragment& fragment, const Packet& packet, const uint8_t* header,
                       uint32_t header_length, uint32_t next_header_offset, Packet** whole,
                       Instant now);
  // The time is over: gives the first fragment back as a packet (headers pulled) for the ICMP
  // error, or nullptr when it never came; the context is gone.
  Packet* OnTimer(ReassemblyContext* context);
  uint32_t size() const { return pool_.live(); }
  // After a death in the middle of a change.
  void Mend();
  void CheckInvariants() const;

 private:
  uint64_t Hash(const Fragment& fragment) const;
  ReassemblyContext* FindOrCreate(const Fragment& fragment, Instant now);
  void Remove(ReassemblyContext* context);
  void Fail(ReassemblyContext* context);  // counted
  bool KeepHeader(ReassemblyContext* context, const Fragment& fragment, const Packet& packet,
                  const uint8_t* header, uint32_t header_length, uint32_t next_header_offset);
  Packet* MakePacket(ReassemblyContext* context, uint32_t payload);
  Packet* MakeWhole(ReassemblyContext* context);

  Core* core_ = nullptr;
  Pool<ReassemblyContext> pool_;
  HashTable<ReassemblyContext, &ReassemblyContext::hash_node> table_;
  List<ReassemblyContext, &ReassemblyContext::age_node> ages_;  // front: oldest
};

}  // namespace userstack
