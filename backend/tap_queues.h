// TapQueues: the further queues of a TAP that was made with several (Linux: tun.c,
// IFF_MULTI_QUEUE). The kernel delivers a flow by the queue at which the flow's frames were written
// last, and a flow of which it knows nothing by any queue that is attached: so only those in use
// are.
//
// Their descriptors exist from the beginning, not attached to anything, so that processes that were
// forked before a queue is opened have it too: opening is an ioctl on a file that all share.
#pragma once

#include <array>
#include <string>

#include "backend/system_call.h"
#include "netstack/packet/device_queues.h"

namespace userstack::backend {

class TapQueues {
 public:
  // All or none: without descriptors there are no further queues.
  static TapQueues Make(int descriptor_floor);
  // Takes ownership of DeviceQueues::kMost descriptors.
  static TapQueues Adopt(const int* descriptors);

  // Whether these DeviceQueues::kMost descriptors are what Make made.
  static bool AreQueues(const int* descriptors);

  unsigned count() const { return available_ ? DeviceQueues::kMost : 0; }
  // `queue` is from 1 to count().
  int descriptor(unsigned queue) const { return descriptors_[queue - 1].get(); }
  bool Open(const std::string& interface, unsigned queue);
  void Close(unsigned queue);
  // Not ours after a failure of Adopt's caller.
  void Release();

 private:
  std::array<OwnedDescriptor, DeviceQueues::kMost> descriptors_;
  bool available_ = false;
};

}  // namespace userstack::backend
