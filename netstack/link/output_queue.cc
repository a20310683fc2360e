#include "netstack/link/output_queue.h"

#include "netstack/base/check.h"

namespace userstack {

// Whoever waited for room looks again.
void OutputQueue::Mend() {
  count_ = 0;
  bytes_ = 0;
  for (Frame* frame = list_.front(); frame != nullptr; frame = list_.Next(frame)) {
    ++count_;
    bytes_ += frame->length();
  }
  was_congested_ = congested();
  drained_ = !was_congested_;
}

void OutputQueue::CheckInvariants() const {
  uint32_t count = 0;
  uint64_t bytes = 0;
  for (Frame* frame = list_.front(); frame != nullptr; frame = list_.Next(frame)) {
    ++count;
    bytes += frame->length();
  }
  Check(count == count_ && bytes == bytes_, "output queue: wrong count");
  Check(!drained_ || (count_ < kCongestedFrames && bytes_ < kCongestedBytes),
        "output queue: drained while congested");
}

}  // namespace userstack
