// XdpQueue: mapping the rings, and mending them after a death.
#include "backend/xdp_ring.h"

#include <cerrno>

#include "backend/xdp_kernel.h"

namespace userstack::backend {
namespace {

template <typename Entry>
long MapRing(int fd, uint64_t page_offset, const xdp_ring_offset& at, XdpRing<Entry>* ring) {
  const size_t size = at.desc + kXdpRingEntries * sizeof(Entry);
  long error = 0;
  auto* base = static_cast<uint8_t*>(MapShared(fd, size, page_offset, &error));
  if (base == nullptr) return error;
  ring->mapping = base;
  ring->mapped = size;
  ring->producer = reinterpret_cast<uint32_t*>(base + at.producer);
  ring->consumer = reinterpret_cast<uint32_t*>(base + at.consumer);
  ring->flags = reinterpret_cast<uint32_t*>(base + at.flags);
  ring->entries = reinterpret_cast<Entry*>(base + at.desc);
  return 0;
}

template <typename Entry>
void UnmapRing(XdpRing<Entry>* ring) {
  if (ring->mapping == nullptr) return;
  SystemCall(SYS_munmap, reinterpret_cast<long>(ring->mapping), static_cast<long>(ring->mapped));
  *ring = {};
}

}  // namespace

long XdpQueue::Map() {
  xdp_mmap_offsets offsets{};
  uint32_t size = sizeof offsets;
  const long result = SystemCall(SYS_getsockopt, descriptor, kLevelXdp, XDP_MMAP_OFFSETS,
                                 reinterpret_cast<long>(&offsets), reinterpret_cast<long>(&size));
  if (result < 0) return -result;
  if (size != sizeof offsets) return EINVAL;  // before Linux 5.4
  long error = MapRing(descriptor, XDP_PGOFF_RX_RING, offsets.rx, &receive);
  if (error == 0) error = MapRing(descriptor, XDP_PGOFF_TX_RING, offsets.tx, &transmit);
  if (error == 0) error = MapRing(descriptor, XDP_UMEM_PGOFF_FILL_RING, offsets.fr, &fill);
  if (error != 0) return error;
  return MapRing(descriptor, XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, &completion);
}

void XdpQueue::Unmap() {
  UnmapRing(&receive);
  UnmapRing(&transmit);
  UnmapRing(&fill);
  UnmapRing(&completion);
}

void XdpQueue::FinishIntents() const {
  XdpIntent& in = shared->receive;
  if (in.active != 0 && *fill.producer != in.produced) {
    receive.StoreConsumer(in.consumed + in.count);
  }
  __atomic_store_n(&in.active, 0, __ATOMIC_RELEASE);
  XdpIntent& out = shared->transmit;
  if (out.active != 0 && *transmit.producer != out.produced) {
    completion.StoreConsumer(out.consumed + out.count);
    shared->unused = out.unused;
  }
  __atomic_store_n(&out.active, 0, __ATOMIC_RELEASE);
}

}  // namespace userstack::backend
