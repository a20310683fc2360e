// CaptureDevice: a device around a device that writes every frame of both directions to a classic
// pcap file (nanoseconds, Ethernet), as they cross: with segmentation offload a record may be 64
// KiB long, and checksums left to the device are not there yet.
//
// One record is one writev to a descriptor opened with O_APPEND, so that several processes of a
// stack, forked or exec'd, may write the same file. A file that is already a capture of this form
// is continued. After a failed write the capture stops (Problem() says so) and the wire goes on.
#pragma once

#include <memory>

#include "backend/device.h"
#include "backend/system_call.h"

namespace userstack::backend {

class CaptureDevice : public Device {
 public:
  // Both take the device out of `inner` and keep its warning. The file is options.capture.
  static OpenedDevice Open(OpenedDevice inner, const DeviceOptions& options);
  static OpenedDevice Adopt(OpenedDevice inner, int descriptor);

  const DeviceCapabilities& capabilities() const override { return inner_->capabilities(); }
  size_t Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                 Instant now) override;
  unsigned extra_queues() const override { return inner_->extra_queues(); }
  bool OpenQueue(unsigned queue) override { return inner_->OpenQueue(queue); }
  void CloseQueue(unsigned queue) override { inner_->CloseQueue(queue); }
  size_t ReceiveFrom(unsigned queue, Core& core, Packet** packets, size_t limit, uint16_t interface,
                     Instant now) override;
  int queue_descriptor(unsigned queue) const override { return inner_->queue_descriptor(queue); }
  Sent Transmit(Core& core, const Frame& frame) override;
  bool Kick() override { return inner_->Kick(); }
  void BeforeSleep() override { inner_->BeforeSleep(); }
  bool SetAddresses(const IpAddress* addresses, size_t count) override {
    return inner_->SetAddresses(addresses, count);
  }
  int wait_descriptor() const override { return inner_->wait_descriptor(); }
  int side_descriptor() const override { return inner_->side_descriptor(); }
  size_t Descriptors(int* out, size_t limit) const override;
  bool gone() const override { return inner_->gone(); }
  const char* Problem() override;

 private:
  CaptureDevice(std::unique_ptr<Device> inner, OwnedDescriptor file)
      : inner_(std::move(inner)), file_(std::move(file)) {}
  // entries[0] is free for the record's header; `length` bytes are in the rest.
  void Record(iovec* entries, size_t count, uint32_t length);
  void RecordPackets(Packet* const* packets, size_t count);
  void RecordDatagrams(const Frame& frame);

  std::unique_ptr<Device> inner_;
  OwnedDescriptor file_;
  bool failed_ = false;
};

}  // namespace userstack::backend
