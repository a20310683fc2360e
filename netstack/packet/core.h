// Core: what every layer of one stack shares, in one place of the arena. Passed by reference to the
// layers' Initialize.
#pragma once

#include "netstack/arena/arena.h"
#include "netstack/base/random.h"
#include "netstack/packet/buffer.h"
#include "netstack/packet/device_queues.h"
#include "netstack/packet/frame.h"
#include "netstack/packet/landing.h"
#include "netstack/packet/packet.h"
#include "netstack/ready/ready.h"
#include "netstack/timer/timer.h"
#include "netstack/trace/counters.h"

namespace userstack {

struct Core {
  Arena* arena = nullptr;
  BufferPool buffers;
  PacketPool packets;
  FramePool frames;
  TimerWheel timers;
  Random random;
  SipKey hash_key;  // for table hashes
  WakeList wakes;
  Landing landing;
  DeviceQueues queues;
  Counters counters;
};

}  // namespace userstack
