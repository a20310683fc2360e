// XdpSpec: what stands behind "xdp:" in USERSTACK_DEV.
#pragma once

#include <string>

#include "backend/device.h"

namespace userstack::backend {

struct XdpSpec {
  enum class Mode { kAny, kNative, kGeneric };
  enum class Copies { kAny, kCopy, kZeroCopy };

  std::string interface;
  int queue = -1;  // -1: all
  Mode mode = Mode::kAny;
  Copies copies = Copies::kAny;
  bool force = false;      // even where the machine's default route is
  bool busy_poll = false;  // SO_PREFER_BUSY_POLL
};

// "IFACE[,queue=N|all][,mode=native|generic][,copy|zerocopy][,busy-poll][,force]". Empty, or what
// is wrong and what is accepted.
std::string ParseXdpSpec(const std::string& text, XdpSpec* spec);

// What opening would refuse before it needs privilege (the interface, its queues, the MTU), as one
// line, or empty.
std::string ExamineXdp(const std::string& text, const DeviceOptions& options);

// Why this is no name of an interface, or empty. `kind` is what stands in front: "tap" or "xdp".
std::string CheckInterfaceName(const std::string& kind, const std::string& name);

}  // namespace userstack::backend
