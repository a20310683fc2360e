// Fakes for the runtime's tests: a stack that only counts packets and publishes readiness, and a
// device that is a datagram socket with an abstract name, so that any process may be its wire. They
// take the place of the real ones at link time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shim/runtime.h"

namespace userstack::shim {

inline constexpr unsigned kChannels = 256;
inline constexpr uint32_t kFinishChannel = 1000;  // a packet that ends all unfinished work

// A thing to wait on, and what arrived for it. A packet's first four bytes say for which.
struct Channel {
  Pollable pollable;
  uint64_t arrived = 0;
};

// The fake stack's own state, in the arena behind the memory of a Stack, of which only the core is
// alive.
struct FakeState {
  Channel channels[kChannels];
  List<Frame, &Frame::node> output;
  Pool<Socket> sockets;
  Instant hold_until;                // what is queued may wait for more until then
  Instant timer = Instant::Never();  // Advance publishes channel 0 when it is due
  uint64_t timer_fired = 0;
  uint64_t destroyed = 0;
  uint64_t sent_without_lock = 0;
  uint64_t apart_begun = 0;  // atomic: frames that somebody began to write without the lock
  bool apart_waits = false;  // atomic: and waits with meanwhile
  bool device_full = false;
  bool unfinished = false;
  bool unfinished_time_wait = false;
  bool torn = false;   // CheckInvariants fails
  bool hangs = false;  // CheckInvariants never ends
  // Scratch for the tests.
  uint64_t counters[16] = {};
};

// Only when attached.
FakeState& Fake();
// Queues a frame for the device, in which what is beyond its first bytes is a slice; with the lock.
void QueueFrame(const std::string& bytes, const void* flow = nullptr);
// Publishes an event on a channel; with the lock.
void Signal(unsigned channel);

// The other end of the device `name`.
class Wire {
 public:
  explicit Wire(const std::string& name);
  ~Wire();
  void Send(uint32_t channel) const;
  // The next frame, waiting up to `milliseconds`; empty: none.
  std::string Receive(int milliseconds) const;

 private:
  int fd_;
};

}  // namespace userstack::shim
