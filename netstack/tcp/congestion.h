// Congestion control: one state and one set of entry points for every algorithm, chosen by an enum
// and a switch (no code pointers in the arena). All quantities are bytes, 64 bits wide. An
// algorithm sees an AckSample per acknowledgment, with the inputs that a rate-based one needs, and
// is told of loss and timeout; it decides the window, the threshold and (later) the pacing rate.
//
// Owner: the Connection it is embedded in.
// Invariants: 1. window >= one MSS. 2. threshold >= 2 MSS.
#pragma once

#include <cstdint>

#include "netstack/base/time.h"

namespace userstack {

// The algorithms that USERSTACK_CC and TCP_CONGESTION can name.
enum class CongestionControl : uint8_t { kCubic, kReno };

namespace tcp {

inline constexpr uint64_t kInitialWindowSegments = 10;  // RFC 6928
inline constexpr uint64_t kInfiniteThreshold = uint64_t{1} << 62;

// RFC 9438's state. Windows in bytes, times in ns.
struct CubicState {
  Instant epoch_start;                // start of the current congestion avoidance epoch; 0: none
  uint64_t window_at_epoch = 0;       // cwnd_epoch
  uint64_t maximum_window = 0;        // W_max
  uint64_t previous_maximum = 0;      // W_max before fast convergence
  uint64_t estimate = 0;              // W_est
  int64_t k_nanoseconds = 0;          // K
  uint64_t estimate_accumulator = 0;  // acknowledged bytes not yet counted in W_est
  uint64_t growth_accumulator = 0;    // acknowledged bytes not yet counted in the window
  // HyStart (RFC 9406's delay increase detection, simplified to rounds).
  Duration round_minimum_rtt = Duration::Infinite();
  Duration previous_round_minimum_rtt = Duration::Infinite();
  uint32_t round_samples = 0;
  Instant last_window_limited;  // when output last was limited by the window
};

struct RenoState {
  uint64_t accumulator = 0;  // acknowledged bytes since the window last grew
};

// What one acknowledgment told. `delivered` counts bytes cumulatively or selectively acknowledged.
struct AckSample {
  Instant now;                          // arrival of the acknowledgment
  uint64_t newly_acknowledged = 0;      // by the cumulative acknowledgment
  uint64_t newly_delivered = 0;         // cumulative and selective together
  uint64_t newly_lost = 0;              // marked lost by this acknowledgment
  uint64_t prior_in_flight = 0;         // before it
  uint64_t in_flight = 0;               // after it
  Duration rtt = Duration::Infinite();  // of the newest segment it covers; Infinite: none
  Duration smoothed_rtt;                // 0: none yet
  Duration minimum_rtt = Duration::Infinite();
  bool round_start = false;     // the first acknowledgment of a new round trip
  bool window_limited = false;  // output was limited by the congestion window
  bool in_recovery = false;     // loss recovery is in progress
  // Delivery rate (draft-cheng-iccrg-delivery-rate-estimation): `rate_delivered` bytes over
  // `rate_interval`; interval 0: no sample.
  uint64_t rate_delivered = 0;
  Duration rate_interval;
  bool rate_application_limited = false;
};

struct Congestion {
  CongestionControl kind = CongestionControl::kCubic;
  uint64_t window = 0;                      // cwnd
  uint64_t threshold = kInfiniteThreshold;  // ssthresh
  uint64_t prior_window = 0;                // before the last reduction
  uint64_t prior_threshold = 0;
  // Proportional rate reduction (RFC 9937) of the recovery in progress.
  uint64_t recovery_flight = 0;     // RecoverFS: in flight when recovery began
  uint64_t recovery_delivered = 0;  // prr_delivered
  uint64_t recovery_sent = 0;       // prr_out
  union {
    CubicState cubic;
    RenoState reno;
  };
  Congestion() : cubic() {}
  bool InSlowStart() const { return window < threshold; }
};

// Name as TCP_CONGESTION has it ("cubic", "reno").
const char* CongestionName(CongestionControl kind);
// False when `name` of `length` bytes (may hold a terminating zero) is not known.
bool ParseCongestionName(const char* name, uint32_t length, CongestionControl* kind);

// A connection begins, or changes its algorithm (`keep_window`).
void StartCongestion(Congestion& c, CongestionControl kind, uint32_t mss, bool keep_window);
// For every acknowledgment that delivers something outside recovery.
void CongestionOnAck(Congestion& c, const AckSample& sample, uint32_t mss);
// Loss was detected (or ECN seen): sets the threshold, remembers the prior state; the caller sets
// the window while in recovery.
void CongestionOnLoss(Congestion& c, uint64_t in_flight, uint32_t mss, Instant now);
// The retransmission timer fired for the first time on this data (RFC 5681 3.1).
void CongestionOnTimeout(Congestion& c, uint64_t in_flight, uint32_t mss, Instant now);
// Recovery is complete.
void CongestionOnRecovered(Congestion& c, uint32_t mss, Instant now);
// Output restarts after `idle` (RFC 5681 4.1, as Linux: halved for every RTO idle).
void CongestionOnRestart(Congestion& c, Duration idle, Duration rto, uint32_t mss, Instant now);
// The MSS fell or grew (path MTU).
void CongestionOnMssChange(Congestion& c, uint32_t old_mss, uint32_t new_mss);

}  // namespace tcp
}  // namespace userstack
