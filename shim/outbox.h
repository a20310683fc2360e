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

  struct Entry {
    Offload offload;
    uint8_t queue = 0;    // of the device
    uint16_t size = 0;    // of `bytes`, as the device wants them
    uint16_t prefix = 0;  // of the device's own in front of the frame
    uint16_t header = 0;  // of the frame
    uint8_t bytes[kFrameBytes] = {};
  };

  uint32_t first = 0, count = 0;  // [first, first + count)
  Entry entries[kMost];
};

// With the lock. False: the frame is too large, or the device wants it otherwise: transmit it,
// after FlushOutbox.
bool AddToOutbox(const Frame& frame);
// With the lock or without it. Frames that the device refuses are dropped, and counted by the next
// session of this thread (TakeRefused). False: it is full, and what is left stays here.
bool FlushOutbox();
uint32_t TakeRefused();
// With the lock: what is left goes back to the stack, in front of what waits there.
void ReturnOutbox();
// In a forked child, whose parent sends them; and at the end of a thread.
void ForgetOutbox();

}  // namespace userstack::shim
