// Device: a wire. Process-local object over descriptors that every attached process has. Moves
// packets and frames between the core's pools and the wire; holds no protocol. All calls by whoever
// holds the stack's lock, except wait_descriptor().
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "netstack/device/device.h"
#include "netstack/packet/core.h"

namespace userstack::backend {

class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceCapabilities& capabilities() const = 0;

  // Takes up to `limit` packets without blocking; they are from `core.packets`, arrival = now,
  // interface = `interface`.
  virtual size_t Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                         Instant now) = 0;

  enum class Sent : uint8_t { kDone, kBusy, kDropped };
  // Puts one frame on the wire. kDone and kDropped (counted): the caller releases the frame. kBusy:
  // keep it, try again when wait_descriptor() is writable or after the next deadline.
  virtual Sent Transmit(Core& core, const Frame& frame) = 0;
  // Makes the wire notice what Transmit queued (for rings); no-op for TAP.
  virtual void Kick() {}

  // Readable (POLLIN) when Receive has something to take. Level-triggered.
  virtual int wait_descriptor() const = 0;
  // Descriptors to be kept across fork and exec, so that another process can Adopt the device.
  virtual size_t Descriptors(int* out, size_t limit) const = 0;
};

// `spec` as USERSTACK_DEV has it: "tap:NAME". The status message is one clear line without a
// newline that says what was wrong and what is accepted.
absl::StatusOr<std::unique_ptr<Device>> OpenDevice(const std::string& spec);
// The same device from descriptors that Descriptors() gave in another process.
absl::StatusOr<std::unique_ptr<Device>> AdoptDevice(const std::string& spec, const int* descriptors,
                                                    size_t count);

}  // namespace userstack::backend
