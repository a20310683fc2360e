// DeviceQueues: a wire with several queues delivers a flow where the flow's own frames left (a TAP
// made with multi_queue; Linux: tun_automq_select_queue). Queue 0 is everybody's. Another one is a
// single connection's while that receives bulk beside others: whoever reads it knows whose text
// comes next (landing.h), and sleeps without being woken for others.
//
// Owner: the stack's lock. Invariant: owner[i] has device_queue i + 1, and no other connection has.
#pragma once

#include <cstdint>

namespace userstack {

namespace tcp {
struct Connection;
}

struct DeviceQueues {
  static constexpr unsigned kMost = 8;
  tcp::Connection* owner[kMost] = {};  // null: nobody's

  // The number of a queue that is nobody's, `limit` at most; 0: there is none.
  unsigned Give(tcp::Connection* connection, unsigned limit) {
    for (unsigned i = 0; i < kMost && i < limit; ++i) {
      if (owner[i] != nullptr) continue;
      owner[i] = connection;
      return i + 1;
    }
    return 0;
  }
  // Queue 0 is nobody's to give back.
  void Return(unsigned queue) {
    if (queue != 0) owner[queue - 1] = nullptr;
  }
};

}  // namespace userstack
