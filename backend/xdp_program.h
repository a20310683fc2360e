// The XDP program: which frames are the stack's. It takes ARP, neighbour discovery and IP for the
// addresses in a map, and passes everything else to the kernel: other addresses, VLANs, broadcasts,
// groups that the stack did not join.
//
// The link holds the program, and the program its maps: when the last process that has the link's
// descriptor ends, in whatever way, the kernel takes the program off the interface.
#pragma once

#include "backend/system_call.h"
#include "netstack/base/ip_address.h"

namespace userstack::backend {

enum class XdpMode : uint8_t { kNative, kGeneric };

class XdpProgram {
 public:
  // 0 or -errno; *what says at which step.
  long Load(uint32_t queue_limit, const char** what);
  long Attach(unsigned interface, XdpMode mode);
  void Detach() { link_ = OwnedDescriptor(); }
  long AddQueue(uint32_t queue, int socket);
  OwnedDescriptor& link() { return link_; }
  OwnedDescriptor& addresses() { return addresses_; }

 private:
  OwnedDescriptor addresses_;  // IpAddress -> 1
  OwnedDescriptor queues_;     // XSKMAP
  OwnedDescriptor program_;
  OwnedDescriptor link_;
};

// Makes the set of addresses in the map `descriptor` what `addresses` says. 0 or -errno.
long ReplaceAddresses(int descriptor, const IpAddress* addresses, size_t count);

}  // namespace userstack::backend
