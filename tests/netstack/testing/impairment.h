// Impairment: what a link does to the frames of one direction, in netem's vocabulary. Link: its
// state. All randomness comes from the seed; all time is virtual.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "netstack/base/random.h"
#include "netstack/base/time.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack::testing {

inline constexpr uint32_t kMillion = 1'000'000;

enum class PathMtuMode : uint8_t { kAnswer, kBlackHole, kFragment };

struct Outage {
  Instant from, to;
};

struct Impairment {
  // Probabilities in parts per million.
  uint32_t loss = 0;
  uint32_t duplicate = 0;
  uint32_t reorder = 0;   // the frame is held back by up to reorder_delay more
  uint32_t corrupt = 0;   // one to four bits flip, close together: every checksum notices
  bool spare_arp = true;  // corruption leaves ARP alone: it has no checksum
  Duration reorder_delay = Duration::Milliseconds(5);
  // Gilbert-Elliott: good to bad, bad to good, loss while bad.
  uint32_t burst_begin = 0, burst_end = kMillion, burst_loss = kMillion;
  Duration delay;
  Duration jitter;  // uniform in [0, jitter]; keeps the order unless jitter_reorders
  bool jitter_reorders = false;
  uint64_t bits_per_second = 0;  // 0: no limit
  uint64_t queue_bytes = 0;      // 0: no limit; a frame that finds more queued is dropped
  bool backpressure = false;     // a full queue refuses the frame instead: the stack keeps it
  uint32_t path_mtu = 0;         // of a narrower hop behind this link; 0: none
  PathMtuMode path_mtu_mode = PathMtuMode::kAnswer;
  std::vector<Outage> outages;
  // Scripted: true drops the frame. `index` counts the frames of this direction from 0.
  std::function<bool(uint64_t index, const WireFrame& frame)> drop;

  bool is_clean() const;
  std::string Describe() const;
};

// A frame that made it onto the link, and when it comes out.
struct Departure {
  Instant at;
  WireFrame frame;
};

enum class LinkFate : uint8_t { kSent, kLost, kQueueFull, kRefused, kTooBig };

class Link {
 public:
  Link(Impairment impairment, uint64_t seed) : impairment_(std::move(impairment)), random_(seed) {}

  Impairment& impairment() { return impairment_; }
  bool WouldRefuse(Instant now) const;
  // When a refusing link has room again.
  Instant RoomAt(Instant now) const;
  // Puts `frame` (no segmentation pending, unless the link is to carry large frames whole) on the
  // link. Appends what comes out of it, in any order, to `out`.
  LinkFate Send(const WireFrame& frame, Instant now, std::vector<Departure>* out);

 private:
  bool Chance(uint32_t ppm) { return ppm != 0 && random_.Below(kMillion) < ppm; }
  bool Loses(const WireFrame& frame, Instant now);
  void Corrupt(WireFrame* frame);
  void Emit(WireFrame frame, Instant sent, std::vector<Departure>* out);
  uint64_t QueuedBytes(Instant now) const;

  Impairment impairment_;
  Random random_;
  uint64_t index_ = 0;
  bool bad_ = false;
  Instant busy_until_;
  Instant last_arrival_;
};

}  // namespace userstack::testing
