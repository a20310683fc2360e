// Context: everything that all connections of one stack share: pools, tables, keys, limits. The
// modules of this directory are free functions over a Context and a Connection; Tcp is their
// surface.
//
// Owner: Tcp. All access under the stack's lock.
#pragma once

#include <array>
#include <cstdint>

#include "netstack/arena/hash_table.h"
#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/random.h"
#include "netstack/packet/core.h"
#include "netstack/tcp/state.h"

namespace userstack::tcp {

struct Context {
  Core* core = nullptr;
  Ip* ip = nullptr;

  Pool<Connection> connections;
  Pool<Listener> listeners;
  Pool<SynRecord> syn_records;
  Pool<TimeWait> time_waits;
  Pool<PortBucket> port_buckets;
  Pool<SendChunk> chunks;
  Pool<SentSegment> sent_segments;
  Pool<ReorderBlock> reorder_blocks;

  HashTable<Connection, &Connection::hash_node> table;
  HashTable<SynRecord, &SynRecord::hash_node> syn_table;
  HashTable<TimeWait, &TimeWait::hash_node> time_wait_table;
  HashTable<PortBucket, &PortBucket::hash_node> port_table;
  List<Connection, &Connection::all_node> all;
  List<TimeWait, &TimeWait::age_node> time_wait_list;
  std::array<List<Connection, &Connection::blocked_node>, kMaxInterfaces + 1> blocked;
  List<Connection, &Connection::waiting_node> starved;  // a write found no memory

  SipKey isn_key;                     // RFC 6528
  SipKey timestamp_key;               // offsets of TSval
  SipKey port_key;                    // RFC 6056
  std::array<SipKey, 2> cookie_keys;  // SYN cookies
  // RFC 6056 3.3.4 (double-hash selection): where the next search for a port begins, by the hash of
  // the destination. Many (Linux: 65536), because destinations that share one undo each other's
  // progress when most ports are taken, and can count each other's connections.
  uint16_t* port_offsets = nullptr;
  uint32_t port_offset_mask = 0;

  CongestionControl congestion_control = CongestionControl::kCubic;
  bool header_prediction = true;  // off: every segment takes every step, with the same result
  uint32_t orphans = 0;           // connections without a socket
  // More segments of the same turn follow, and the connection whose ACK waits for them.
  bool more_input = false;
  Connection* ack_later = nullptr;
  // A short reply that is probably the last of its connection waits for the FIN, until then.
  Connection* held_reply = nullptr;
  Instant held_until;
  // RFC 5961 7: how many challenge ACKs may still be sent in this second.
  Instant challenge_second;
  uint32_t challenge_budget = 0;
};

}  // namespace userstack::tcp
