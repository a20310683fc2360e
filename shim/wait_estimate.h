// WaitEstimate: how long the waits of one thread usually last, so that it polls the wire before it
// sleeps only while that pays. A wait that ends within the limit costs less polled than slept (two
// wake-ups of 20 to 30 us, and the interrupt that the waker sends); a longer one wastes the limit.
// One long wait stops the polling, a few short ones begin it again, so a thread that waits for long
// polls at most once for each time that it had short waits before.
//
// Owner: the thread.
#pragma once

#include <algorithm>

#include "netstack/base/time.h"

namespace userstack::shim {

class WaitEstimate {
 public:
  // What a sleep adds to a wait: the wake-up.
  static constexpr Duration kWakeUp = Duration::Microseconds(25);

  bool PollingPays(Duration limit) const { return usual_ <= limit; }

  // A wait is over. `slept`: its thread had to be woken.
  void Note(Duration waited, bool slept, Duration limit) {
    if (slept) waited = std::max(Duration{}, waited - kWakeUp);
    const Duration most = limit * kMost;
    usual_ = std::min(usual_, most);
    usual_ = usual_ + (std::min(waited, most) - usual_) / kWeight;
  }
  // The thread lost its core while it polled: others need it more.
  void NotePreempted(Duration limit) { usual_ = limit * kMost; }

 private:
  static constexpr int kMost = 4;    // limits: what counts as long
  static constexpr int kWeight = 4;  // of the past

  Duration usual_ = Duration::Infinite();  // of a thread that nothing is known of
};

}  // namespace userstack::shim
