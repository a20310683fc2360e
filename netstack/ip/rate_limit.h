// ErrorRateLimit: how often ICMP errors may be sent, as Linux does it: one bucket for the whole
// stack (icmp_msgs_per_sec 1000, icmp_msgs_burst 50) and one for each destination (icmp_ratelimit
// 1 s, a burst of 6). Destinations share a fixed table by keyed hash; a collision only makes the
// limit stricter.
//
// Owner: Ip; the stack's lock.
#pragma once

#include <cstdint>

#include "netstack/base/random.h"
#include "netstack/base/time.h"

namespace userstack {

struct TokenBucket {
  Duration credit;  // time saved up; an event costs `cost`
  Instant updated;
  bool started = false;

  bool Take(Duration cost, Duration most, Instant now) {
    if (!started) {
      started = true;
      credit = most;
      updated = now;
    }
    if (now > updated) {
      const Duration gained = now - updated;
      credit = gained > most - credit ? most : credit + gained;
      updated = now;
    }
    if (credit < cost) return false;
    credit = credit - cost;
    return true;
  }
};

class ErrorRateLimit {
 public:
  static constexpr Duration kPerDestination = Duration::Seconds(1);
  static constexpr int kDestinationBurst = 6;
  static constexpr Duration kOverall = Duration::Milliseconds(1);
  static constexpr int kOverallBurst = 50;

  bool Allow(uint64_t destination_hash, Instant now) {
    TokenBucket& destination = destinations_[destination_hash % kDestinations];
    if (!destination.Take(kPerDestination, kPerDestination * kDestinationBurst, now)) return false;
    return overall_.Take(kOverall, kOverall * kOverallBurst, now);
  }

 private:
  static constexpr unsigned kDestinations = 256;
  TokenBucket overall_;
  TokenBucket destinations_[kDestinations];
};

}  // namespace userstack
