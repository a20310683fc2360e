// The in-memory wire.
#include "backend/memory.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

namespace userstack::backend {

class MemoryWire::End : public Device {
 public:
  End(MemoryWire* wire, int index, const DeviceCapabilities& capabilities)
      : wire_(*wire),
        index_(index),
        capabilities_(capabilities),
        event_(static_cast<int>(SystemCall(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC))) {}

  const DeviceCapabilities& capabilities() const override { return capabilities_; }
  int wait_descriptor() const override { return event_.get(); }
  size_t Descriptors(int*, size_t) const override { return 0; }

  size_t Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                 Instant now) override {
    size_t taken = 0;
    std::deque<Queued>& queue = wire_.queues_[index_];
    while (taken < limit && !queue.empty()) {
      const Queued frame = std::move(queue.front());
      queue.pop_front();
      if (queue.empty()) Lower();
      Packet* packet = core.packets.Allocate();
      if (packet == nullptr || !Fill(core, *packet, frame)) {
        if (packet != nullptr) core.packets.Release(packet);
        core.counters.Add(Counter::kDeviceInNoBuffer);
        continue;
      }
      packet->arrival = now;
      packet->ip.interface = interface;
      packets[taken++] = packet;
    }
    return taken;
  }

  Sent Transmit(Core&, const Frame& frame) override {
    std::deque<Queued>& queue = wire_.queues_[1 - index_];
    if (queue.size() >= wire_.queue_limit_) return Sent::kBusy;
    Queued copy;
    copy.bytes.assign(frame.header(), frame.header() + frame.header_length());
    for (unsigned i = 0; i < frame.slice_count; ++i) {
      const Slice& slice = frame.slices[i];
      copy.bytes.insert(copy.bytes.end(), slice.data(), slice.data() + slice.length);
    }
    copy.offload = frame.offload;
    copy.offload.checksum_verified = true;
    if (queue.empty()) wire_.ends_[1 - index_]->Raise();
    queue.push_back(std::move(copy));
    return Sent::kDone;
  }

 private:
  static bool Fill(Core& core, Packet& packet, const Queued& frame) {
    packet.offload = frame.offload;
    for (size_t done = 0; done < frame.bytes.size();) {
      // The headers are in the first buffer whatever its class.
      const size_t left = frame.bytes.size() - done;
      Buffer* buffer = core.buffers.Allocate(left > kSmallBufferBytes ? BufferClass::kLarge
                                                                      : BufferClass::kSmall);
      if (buffer == nullptr || packet.slice_count == kMaxSlices) {
        if (buffer != nullptr) core.buffers.Release(buffer);
        return false;
      }
      const auto n = static_cast<uint32_t>(std::min<size_t>(left, buffer->capacity));
      std::memcpy(buffer->bytes, frame.bytes.data() + done, n);
      packet.slices[packet.slice_count++] = {buffer, 0, n};
      packet.length += n;
      done += n;
    }
    return true;
  }

  void Raise() {
    const uint64_t one = 1;
    const iovec entry = {const_cast<uint64_t*>(&one), sizeof one};
    KernelWritev(event_.get(), &entry, 1);
  }
  void Lower() {
    uint64_t value = 0;
    const iovec entry = {&value, sizeof value};
    KernelReadv(event_.get(), &entry, 1);
  }

  MemoryWire& wire_;
  int index_;
  DeviceCapabilities capabilities_;
  OwnedDescriptor event_;
};

MemoryWire::MemoryWire(const DeviceCapabilities& first, const DeviceCapabilities& second,
                       size_t queue_limit)
    : queue_limit_(queue_limit),
      ends_{std::make_unique<End>(this, 0, first), std::make_unique<End>(this, 1, second)} {}

MemoryWire::~MemoryWire() = default;

Device& MemoryWire::end(int index) { return *ends_[index]; }

}  // namespace userstack::backend
