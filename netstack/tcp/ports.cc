#include "netstack/tcp/ports.h"

#include "netstack/tcp/constants.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/time_wait.h"

namespace userstack::tcp {
namespace {

constexpr uint32_t kPortCount = kLastEphemeralPort - kFirstEphemeralPort + 1;
static_assert(kPortCount % 2 == 0);

// The port at `position` of [0, kPortCount) in the order that begins at `start`: even ones first.
uint16_t CandidatePort(uint32_t start, uint32_t position) {
  const uint32_t parity = position / (kPortCount / 2);
  const uint32_t pair = (start % (kPortCount / 2) + position) % (kPortCount / 2);
  return static_cast<uint16_t>(kFirstEphemeralPort + pair * 2 + parity);
}

// Our own ports, each once: their low bits are spread as evenly as can be.
uint64_t HashPort(uint16_t number) { return number; }

PortBucket* FindOrMakePort(Context& context, uint16_t number) {
  PortBucket* bucket = FindPort(context, number);
  if (bucket != nullptr) return bucket;
  bucket = context.port_buckets.New();
  if (bucket == nullptr) return nullptr;
  bucket->number = number;
  context.port_table.Insert(bucket, HashPort(number));
  return bucket;
}

// Whether two local addresses can receive the same segment (Linux: inet_rcv_saddr_equal with
// match_wildcard).
bool Overlap(const IpAddress& a, bool a_v6_only, const IpAddress& b, bool b_v6_only) {
  const bool a_any = a.is_unspecified();
  const bool b_any = b.is_unspecified();
  if (a.is_v4() && b.is_v4()) return a_any || b_any || a == b;
  if (a.is_v6() && b.is_v6()) return a_any || b_any || a == b;
  // One is IPv4: the other reaches it only as a dual-stack wildcard.
  return a.is_v6() ? a_any && !a_v6_only : b_any && !b_v6_only;
}

struct Claim {
  IpAddress local;
  bool v6_only = false;
  bool reuse_address = false;
  bool reuse_port = false;
  bool listening = false;
  uint16_t interface = 0;
};

Claim ClaimOf(const Connection& c) {
  return {c.tuple.local,        c.options.v6_only,         c.options.reuse_address,
          c.options.reuse_port, c.state == State::kListen, c.options.bound_interface};
}
Claim ClaimOf(const TimeWait& t) {
  return {t.tuple.local, t.v6_only, t.reuse_address, t.reuse_port, false, 0};
}

// Linux: inet_csk_bind_conflict, for one other holder.
bool Conflict(const Claim& a, const Claim& b) {
  if (a.interface != 0 && b.interface != 0 && a.interface != b.interface) return false;
  if (a.reuse_address && b.reuse_address && !a.listening && !b.listening) return false;
  if (a.reuse_port && b.reuse_port) return false;
  return Overlap(a.local, a.v6_only, b.local, b.v6_only);
}

bool HasConflict(const PortBucket& bucket, const Connection& c, const Claim& claim) {
  for (Connection* o = bucket.owners.front(); o != nullptr; o = bucket.owners.Next(o)) {
    if (o != &c && Conflict(claim, ClaimOf(*o))) return true;
  }
  for (TimeWait* t = bucket.time_waits.front(); t != nullptr; t = bucket.time_waits.Next(t)) {
    if (Conflict(claim, ClaimOf(*t))) return true;
  }
  return false;
}

Status Take(Context& context, Connection& c, uint16_t number) {
  PortBucket* bucket = FindOrMakePort(context, number);
  if (bucket == nullptr) return Status(ENOBUFS);
  SharePort(context, c, bucket);
  c.tuple.local_port = number;
  return Status::Ok();
}

}  // namespace

PortBucket* FindPort(const Context& context, uint16_t number) {
  return context.port_table.Find(HashPort(number),
                                 [&](const PortBucket& b) { return b.number == number; });
}

void SharePort(Context& context, Connection& c, PortBucket* bucket) {
  (void)context;
  c.port = bucket;
  bucket->owners.PushBack(&c);
}

void ReleaseBucketIfUnused(Context& context, PortBucket* bucket) {
  if (!bucket->owners.empty() || !bucket->time_waits.empty()) return;
  context.port_table.Erase(bucket);
  context.port_buckets.Delete(bucket);
}

void ReleasePort(Context& context, Connection& c) {
  if (c.port == nullptr) return;
  PortBucket* bucket = c.port;
  if (c.port_bound) --bucket->explicitly_bound;
  c.port = nullptr;
  c.port_bound = false;
  c.port_node.Unlink();
  ReleaseBucketIfUnused(context, bucket);
}

Status BindPort(Context& context, Connection& c, uint16_t number) {
  const Claim claim = ClaimOf(c);
  if (number == 0) {
    // Linux: bind prefers odd ports, so that even ones stay for connect.
    const uint64_t start = context.core->random.Below(kPortCount);
    for (uint32_t parity = 1; parity <= 2 && number == 0; ++parity) {
      for (uint32_t i = 0; i < kPortCount; ++i) {
        const auto candidate =
            static_cast<uint16_t>(kFirstEphemeralPort + (start + i) % kPortCount);
        if (candidate % 2 != parity % 2) continue;
        const PortBucket* bucket = FindPort(context, candidate);
        if (bucket != nullptr && HasConflict(*bucket, c, claim)) continue;
        number = candidate;
        break;
      }
    }
    if (number == 0) return Status(EADDRINUSE);
  } else {
    const PortBucket* bucket = FindPort(context, number);
    if (bucket != nullptr && HasConflict(*bucket, c, claim)) return Status(EADDRINUSE);
  }
  const Status status = Take(context, c, number);
  if (!status.ok()) return status;
  c.port_bound = true;
  ++c.port->explicitly_bound;
  return status;
}

bool MayListen(const Connection& c) {
  Claim claim = ClaimOf(c);
  claim.listening = true;
  for (Connection* o = c.port->owners.front(); o != nullptr; o = c.port->owners.Next(o)) {
    if (o == &c) continue;
    Claim other = ClaimOf(*o);
    // Linux: only another listener stands in the way of one whose address may be reused.
    if (claim.reuse_address && other.reuse_address && !other.listening) continue;
    if (Conflict(claim, other)) return false;
  }
  return true;
}

bool ClaimTuple(Context& context, Connection& c, const Tuple& tuple, Instant now) {
  const uint64_t hash = HashOf(context, tuple);
  if (FindConnection(context, tuple, hash) != nullptr) return false;
  TimeWait* old = FindTimeWait(context, tuple, hash);
  if (old == nullptr) return true;
  return ReuseTimeWait(context, *old, c, now);
}

Status ChooseConnectPort(Context& context, Connection& c, Instant now) {
  // RFC 6056 3.3.4: the hash of the destination gives the start, a counter per hash bucket moves
  // on. Linux: even ports first (__inet_hash_connect), because bind takes odd ones. But Linux looks
  // through all even ports again for each connection once they are taken; here the counter goes on
  // into the odd ones, so that the next connection begins where the last one ended.
  struct {
    IpAddress local, remote;
    uint16_t port;
    uint8_t padding[6];
  } input{c.tuple.local, c.tuple.remote, c.tuple.remote_port, {}};
  const uint64_t hash = SipHash(context.port_key, &input, sizeof input);
  uint16_t& offset = context.port_offsets[(hash >> 32) & context.port_offset_mask];
  Tuple tuple = c.tuple;
  for (uint32_t i = 0; i < kPortCount; ++i) {
    const uint32_t position = (offset + i) % kPortCount;
    tuple.local_port = CandidatePort(static_cast<uint32_t>(hash), position);
    const PortBucket* bucket = FindPort(context, tuple.local_port);
    if (bucket != nullptr && bucket->explicitly_bound > 0) continue;
    if (!ClaimTuple(context, c, tuple, now)) continue;
    offset = static_cast<uint16_t>((position + 1) % kPortCount);
    return Take(context, c, tuple.local_port);
  }
  return Status(EADDRNOTAVAIL);
}

}  // namespace userstack::tcp
