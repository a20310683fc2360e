// BatchEstimate: whether a thread that was given several events at once works them off without
// pause, call after call into the stack, and then asks for the next. Then what it sends meanwhile
// may wait for the end of the batch, so that a peer that sleeps is woken once for many replies. A
// pause ends the belief, and it takes several batches to gain it again. A batch that took long for
// what it was takes away as much as these give: one among many is an interrupt, not the program.
//
// Owner: the thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "netstack/base/time.h"

namespace userstack::shim {

class BatchEstimate {
 public:
  // Longer than this between two calls is a pause. An interrupt, and the wake-ups that a call gives
  // rise to, are none.
  static constexpr Duration kPause = Duration::Microseconds(150);
  // An event that takes longer than this, in the mean of its batch, gains little by waiting.
  static constexpr Duration kPerEvent = Duration::Microseconds(20);
  static constexpr int kEnough = 8;
  static constexpr int kMost = 4 * kEnough;

  // epoll_wait has given out `events`.
  void Begin(int64_t events, Instant now) {
    runs_ = events > 1;
    spent_ = false;
    begun_ = last_ = now;
    allowed_ = kPerEvent * events;
  }
  // epoll_wait is called.
  void End(Instant now) {
    NoteCall(now);
    if (!runs_) return;
    runs_ = false;
    const bool quick = now - begun_ <= allowed_;
    worked_off_ = quick ? std::min(worked_off_ + 1, kMost) : std::max(worked_off_ - kEnough, 0);
  }
  // Any call into the stack.
  void NoteCall(Instant now) {
    if (!runs_) return;
    if (now - last_ > kPause) {
      worked_off_ = 0;
      runs_ = false;
    }
    last_ = now;
  }
  // What was held has gone, because it waited long enough. The peer is awake now and busy with it:
  // what follows in this batch goes at once.
  void Spend() { spent_ = true; }
  // The batch is not over, and others follow the call that is.
  bool MayHold() const { return runs_ && !spent_ && worked_off_ >= kEnough; }

 private:
  Instant begun_;
  Instant last_;
  Duration allowed_;
  bool runs_ = false;
  bool spent_ = false;
  int worked_off_ = 0;  // batches, and what slow ones took away
};

}  // namespace userstack::shim
