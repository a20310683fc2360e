// Scenario: everything about one simulated run, drawn from a seed: hosts, their devices, what the
// links do, which programs run and how they behave. Simulate carries it out and enforces the laws:
//   1. Every byte arrives once, in order, intact (the programs check as they go).
//   2. Every connection ends, within bounded virtual time, and something moves all the while.
//   3. After the end no packet, frame or buffer is left, and no work is unfinished.
//   4. No timer storm: turns for a deadline alone are bounded per virtual second and connection.
//   5. Each stack's invariants hold after every event.
//   6. On a quiet wire nothing is sent twice.
//   7. When memory runs out, calls say ENOBUFS or ENOMEM, what was given back can be had again, and
//      a connection that was open before its host's memory was hoarded ends as if nothing were.
// A broken law fails a Check, which prints the seed and the exchange.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/netstack/testing/datagrams.h"
#include "tests/netstack/testing/network.h"
#include "tests/netstack/testing/stream.h"

namespace userstack::testing {

struct Scenario {
  uint64_t seed = 0;
  NetworkOptions network;
  struct HostPlan {
    HostOptions options;
    Impairment up, down;
    // The route behind the up link changes: `mtu` (0: as wide as the wire) from `after` on.
    struct PathChange {
      Duration after;
      uint32_t mtu;
    };
    std::vector<PathChange> path_changes;
  };
  std::vector<HostPlan> hosts;  // clients and servers
  struct StreamEntry {
    size_t client = 0, server = 0;  // indices of hosts
    Family family = Family::kIpv4;
    StreamPlan plan;
  };
  std::vector<StreamEntry> streams;
  struct DatagramEntry {
    size_t client = 0, server = 0;
    Family family = Family::kIpv4;
    DatagramPlan plan;
  };
  std::vector<DatagramEntry> datagrams;
  // A program on `host` takes every socket it can get from `from` until `until`.
  struct Hoard {
    size_t host = 0;
    Duration from, until;
  };
  std::vector<Hoard> hoards;
  int backlog = 64;
  bool quiet = false;                           // nothing is lost, refused or held back: law 6
  Duration patience = Duration::Seconds(4000);  // virtual time until everything must have ended
  Duration stall = Duration::Seconds(1000);     // longest time without progress

  std::string Describe() const;
};

struct Outcome {
  uint64_t digest = 0;
  uint64_t frames = 0;
  uint64_t events = 0;
  uint64_t timer_turns = 0;
  Duration virtual_time;
  uint64_t bytes = 0;
  // Over all hosts.
  uint64_t retransmissions = 0, timeouts = 0, no_buffer = 0, predicted = 0, window_probes = 0;
  // Calls that found no memory; streams that were open when that happened.
  uint64_t refused = 0, survivors = 0;
  uint64_t crossed = 0;  // simultaneous opens that succeeded
  uint64_t half_closed_by_client = 0, half_closed_by_server = 0;
  uint64_t path_changes = 0;
  DriverCounts driver;
};

// `live` prints the exchange as it happens.
Outcome Simulate(const Scenario& scenario, bool live = false);

// The kinds of scenario, by name; nullptr-terminated.
enum class Kind : uint8_t {
  kMixed,     // everything at once
  kClean,     // no impairment: exact laws of a quiet wire
  kLossy,     // heavy loss, duplication and reorder
  kTiny,      // tiny MTUs and buffers
  kLarge,     // large segments through devices that cut, and merged input
  kResets,    // aborts and failures in the middle
  kPathMtu,   // narrower hops: answered, black holes, fragmented
  kDatagram,  // UDP up to the largest datagram, through fragmentation
  kTight,     // arenas that run out
  kCrossed,   // simultaneous opens
  kLanding,   // bulk that is read by calls that wait, and wire ends that guess what comes next
};
inline constexpr Kind kAllKinds[] = {Kind::kMixed, Kind::kClean,   Kind::kLossy,   Kind::kTiny,
                                     Kind::kLarge, Kind::kResets,  Kind::kPathMtu, Kind::kDatagram,
                                     Kind::kTight, Kind::kCrossed, Kind::kLanding};
const char* KindName(Kind kind);

Scenario MakeScenario(Kind kind, uint64_t seed);

}  // namespace userstack::testing
