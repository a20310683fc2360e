// XdpDevice: mapping what the descriptors stand for, for who opens and for who adopts. Takes no
// privilege.
#include <algorithm>
#include <cerrno>
#include <string>

#include "backend/xdp.h"
#include "backend/xdp_kernel.h"

namespace userstack::backend {
namespace {

constexpr uint32_t kMaximumMtu = 65535;

std::string Number(long value) { return std::to_string(value); }

}  // namespace

size_t XdpDevice::DescriptorCount(int umem) {
  XdpShared shared;
  const long got = SystemCall(SYS_pread64, umem, reinterpret_cast<long>(&shared), sizeof shared, 0);
  if (got != sizeof shared || shared.magic != XdpShared::kMagic) return 0;
  if (shared.queue_count == 0 || shared.queue_count > kMaxXdpQueues) return 0;
  return 4 + shared.queue_count + (shared.queue_count > 1 ? 1 : 0);
}

OpenedDevice XdpDevice::Adopt(const std::string& text, const DeviceOptions&, const int* descriptors,
                              size_t count) {
  const std::string prefix = "USERSTACK_DEV=xdp:" + text + ": ";
  XdpSpec spec;
  const std::string bad = ParseXdpSpec(text, &spec);
  if (!bad.empty()) return {.error = prefix + bad};
  std::unique_ptr<XdpDevice> device(new XdpDevice);
  device->umem_ = OwnedDescriptor(descriptors[0]);
  device->link_ = OwnedDescriptor(descriptors[1]);
  device->addresses_ = OwnedDescriptor(descriptors[2]);
  device->queue_count_ = static_cast<unsigned>(count - 4 - (count > 5 ? 1 : 0));
  for (unsigned i = 0; i < device->queue_count_; ++i) {
    device->sockets_[i] = OwnedDescriptor(descriptors[3 + i]);
  }
  if (device->queue_count_ > 1) device->epoll_ = OwnedDescriptor(descriptors[count - 2]);
  device->passed_ = OwnedDescriptor(descriptors[count - 1]);
  XdpShared shared;
  SystemCall(SYS_pread64, descriptors[0], reinterpret_cast<long>(&shared), sizeof shared, 0);
  long error = shared.interface == spec.interface ? 0 : ENODEV;
  if (error == 0) error = device->MapUmem(device->queue_count_, shared.frame_bytes);
  if (error == 0) error = device->MapQueues();
  if (error == 0) {
    device->SetCapabilities();
    return {.device = std::move(device)};
  }
  const long alive = SystemCall(SYS_sendto, descriptors[3], 0, 0, MSG_DONTWAIT, 0, 0);
  // Not ours after a failure.
  for (OwnedDescriptor& socket : device->sockets_) socket.Release();
  for (OwnedDescriptor* fd :
       {&device->umem_, &device->link_, &device->addresses_, &device->epoll_, &device->passed_}) {
    fd->Release();
  }
  if (alive == -ENXIO) return {.error = prefix + "the interface was deleted"};
  return {.error = prefix + "the inherited descriptors cannot be used (error " + Number(error) +
                   "; several processes on one device take Linux 6.3 or newer)"};
}

XdpDevice::~XdpDevice() {
  for (XdpQueue& queue : queues_) queue.Unmap();
  if (shared_ == nullptr) return;
  SystemCall(SYS_munmap, reinterpret_cast<long>(shared_), static_cast<long>(mapped_));
}

long XdpDevice::MapUmem(size_t queues, uint32_t frame_bytes) {
  mapped_ = kXdpSharedBytes + kFramesPerQueue * queues * frame_bytes;
  long error = 0;
  void* memory = MapShared(umem_.get(), mapped_, 0, &error);
  if (memory == nullptr) return error;
  shared_ = static_cast<XdpShared*>(memory);
  frames_ = static_cast<uint8_t*>(memory) + kXdpSharedBytes;
  return 0;
}

long XdpDevice::MapQueues() {
  for (unsigned i = 0; i < queue_count_; ++i) {
    XdpQueue& queue = queues_[i];
    queue.descriptor = sockets_[i].get();
    queue.shared = &shared_->queues[i];
    queue.first_receive = i * kFramesPerQueue;
    queue.first_transmit = queue.first_receive + kXdpRingEntries;
    const long error = queue.Map();
    if (error != 0) return error;
  }
  return 0;
}

void XdpDevice::SetCapabilities() {
  capabilities_.mac = shared_->mac;
  capabilities_.identifier = shared_->identifier;
  capabilities_.mtu = shared_->mtu;
  capabilities_.transmit_checksum = true;
  capabilities_.tcp_segmentation_max = kMaximumMtu;
  // A packet of whole pages is one page less to allocate, to copy into and to free.
  if (shared_->headers_apart) {
    capabilities_.payload_unit = shared_->frame_bytes - shared_->metadata_bytes;
  }
  capabilities_.udp_segmentation = true;
}

}  // namespace userstack::backend
