// MemoryWire: a cable inside one process, for tests. Two ends, each a Device; frames are copied
// into a queue and out of it. What offload a frame asks for crosses as it is, as between a stack
// and the kernel's side of a TAP device, so both ends must be given capabilities that fit.
//
// Owner: one thread. No loss, no delay: tests of those belong to a network in virtual time.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "backend/device.h"
#include "backend/system_call.h"

namespace userstack::backend {

class MemoryWire {
 public:
  // At most `queue_limit` frames wait in each direction; beyond it Transmit answers kBusy.
  MemoryWire(const DeviceCapabilities& first, const DeviceCapabilities& second,
             size_t queue_limit = 1000);
  ~MemoryWire();

  Device& end(int index);  // 0 or 1; lives as long as the wire

 private:
  struct Queued {
    std::vector<uint8_t> bytes;
    Offload offload;
  };
  class End;

  std::deque<Queued> queues_[2];  // [i]: on their way to end i
  size_t queue_limit_;
  std::unique_ptr<End> ends_[2];
};

}  // namespace userstack::backend
