// OutputQueue: frames that wait for one interface's device, in order, bounded in frames and bytes.
// A full queue is backpressure, not a silent drop: from kCongested* on, transports hold back, and
// TakeDrained says when they may go on.
//
// Owner: the interface; the stack's lock.
// Invariants: 1. count_ and bytes_ are those of the frames on list_. 2. drained_ is not true while
// the queue is congested.
#pragma once

#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/packet/frame.h"

namespace userstack {

class OutputQueue {
 public:
  // Beyond these a transport should wait. A frame may be 64 KiB, so bytes matter as much as count.
  static constexpr uint32_t kCongestedFrames = 512;
  static constexpr uint64_t kCongestedBytes = 4u << 20;
  // Beyond these frames are refused, whoever sends them.
  static constexpr uint32_t kLimitFrames = 2048;
  static constexpr uint64_t kLimitBytes = 16u << 20;

  // False when the queue is full; the frame stays the caller's.
  [[nodiscard]] bool Push(Frame* frame) {
    if (count_ >= kLimitFrames || bytes_ >= kLimitBytes) return false;
    list_.PushBack(frame);
    Add(*frame);
    return true;
  }
  Frame* Pop() {
    Frame* frame = list_.PopFront();
    if (frame == nullptr) return nullptr;
    --count_;
    bytes_ -= frame->length();
    if (was_congested_ && count_ <= kCongestedFrames / 2 && bytes_ <= kCongestedBytes / 2) {
      was_congested_ = false;
      drained_ = true;
    }
    return frame;
  }
  // The device refused a popped frame: it goes back to the front.
  void Return(Frame* frame) {
    list_.PushFront(frame);
    Add(*frame);
  }
  // True once after a congested queue has drained to half.
  bool TakeDrained() {
    const bool drained = drained_;
    drained_ = false;
    return drained;
  }

  bool drained() const { return drained_; }
  bool congested() const { return count_ >= kCongestedFrames || bytes_ >= kCongestedBytes; }
  bool empty() const { return count_ == 0; }
  uint32_t count() const { return count_; }
  uint64_t bytes() const { return bytes_; }
  // After a death in the middle of a change.
  void Mend();
  void CheckInvariants() const;

 private:
  void Add(const Frame& frame) {
    ++count_;
    bytes_ += frame.length();
    if (congested()) {
      was_congested_ = true;
      drained_ = false;
    }
  }

  List<Frame, &Frame::node> list_;
  uint32_t count_ = 0;
  uint64_t bytes_ = 0;
  bool was_congested_ = false;
  bool drained_ = false;
};

}  // namespace userstack
