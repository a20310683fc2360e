// Outbox: small frames of one session, written after it let go of the stack's lock. A TAP's write
// runs the receiver's TCP and wakes it, and a thread that is put off its core meanwhile keeps
// everybody else from the stack: with eight processes on two cores two waits of three requests.
//
// Owner: the thread. Used only while others had to sleep for the lock lately: the copy costs more
// than it saves otherwise. What a process that is killed had in here is lost, as on a wire.
#pragma once

#include <cstdint>

#include "backend/device.h"
#include "netstack/packet/frame.h"

namespace userstack::shim {

struct Outbox {
  static constexpr unsigned kMost = 4;
  static constexpr size_t kFrameBytes = 1664;  // what an MTU of 1500 lets through

  uint32_t count = 0;
  uint32_t lengths[kMost] = {};
  uint8_t queues[kMost] = {};
  uint8_t bytes[kMost][kFrameBytes] = {};
};

// With the lock: may this session's small frames wait until it let go of it?
bool WritesAfterUnlock(Instant now);
// With the lock. False: the frame is too large, or the device wants it otherwise: transmit it,
// after FlushOutbox.
bool AddToOutbox(const Frame& frame);
// With the lock or without it. Frames that the device refuses are dropped, and counted by the next
// session of this thread (TakeRefused).
void FlushOutbox();
uint32_t TakeRefused();
// In a forked child, whose parent sends them; and at the end of a thread.
void ForgetOutbox();

}  // namespace userstack::shim
