// TapDevice: Linux's TAP with virtio-net headers, so that checksums and segments of up to 64 KiB
// cross in both directions as they are.
//
// Owner: the process; calls by whoever holds the stack's lock, but TransmitEncoded and
// TransmitApart, which read what does not change after Open. Invariants: 1.
// fd_ is attached to the interface name_, those of queues_ that are open too. 2. No buffer of the
// arena is held between calls.
#pragma once

#include <memory>
#include <string>

#include "backend/device.h"
#include "backend/system_call.h"
#include "backend/tap_queues.h"

namespace userstack::backend {

class TapDevice : public Device {
 public:
  // Attaches to the interface `name`, or creates it (it then lives as long as its descriptors).
  static OpenedDevice Open(const std::string& name, const DeviceOptions& options);
  static OpenedDevice Adopt(const std::string& name, const DeviceOptions& options,
                            const int* descriptors, size_t count);
  // How many of these are a TAP's: one, or one and its further queues.
  static size_t DescriptorCount(const int* descriptors, size_t count);

  const DeviceCapabilities& capabilities() const override { return capabilities_; }
  size_t Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                 Instant now) override;
  unsigned extra_queues() const override { return queues_.count(); }
  bool OpenQueue(unsigned queue) override { return queues_.Open(name_, queue); }
  void CloseQueue(unsigned queue) override { queues_.Close(queue); }
  size_t ReceiveFrom(unsigned queue, Core& core, Packet** packets, size_t limit, uint16_t interface,
                     Instant now) override;
  int queue_descriptor(unsigned queue) const override { return queues_.descriptor(queue); }
  Sent Transmit(Core& core, const Frame& frame) override;
  size_t Encode(const Frame& frame, uint8_t* out, size_t limit) override;
  bool transmits_apart() const override { return true; }
  Sent TransmitApart(const Frame& frame) override;
  Sent TransmitEncoded(unsigned queue, const uint8_t* bytes, size_t size) override;
  int wait_descriptor() const override { return fd_.get(); }
  size_t Descriptors(int* out, size_t limit) const override;
  bool gone() const override { return gone_; }
  const char* Problem() override;

 private:
  TapDevice(std::string name, OwnedDescriptor fd) : name_(std::move(name)), fd_(std::move(fd)) {}
  // Negotiates headers and offloads, reads MTU, derives the MAC, brings the interface up.
  std::string Configure(const DeviceOptions& options, std::string* warning);
  std::string ReadInterface(const DeviceOptions& options, std::string* warning);

  // What writev says.
  long Write(const Frame& frame) const;
  // Takes frames off `fd`; *error is what ended it, 0 when that was enough of them.
  static size_t ReceiveOn(int fd, Core& core, Packet** packets, size_t limit, uint16_t interface,
                          Instant now, long* error);

  std::string name_;
  OwnedDescriptor fd_;
  TapQueues queues_;
  DeviceCapabilities capabilities_;
  bool gone_ = false;
};

// A stable, locally administered address from `name` and `identity`, never equal to `kernel`, the
// address that the kernel's own side of the wire has.
MacAddress DeriveMac(const std::string& name, const std::string& identity,
                     const MacAddress& kernel);

}  // namespace userstack::backend
