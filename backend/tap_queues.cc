#include "backend/tap_queues.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>

#include "backend/interface_request.h"
#include "backend/virtio.h"

namespace userstack::backend {
TapQueues TapQueues::Make(int descriptor_floor) {
  TapQueues queues;
  for (OwnedDescriptor& descriptor : queues.descriptors_) {
    const long opened = KernelOpen("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (opened < 0) return {};
    descriptor = OwnedDescriptor(static_cast<int>(opened));
    descriptor.MoveAbove(descriptor_floor);
  }
  queues.available_ = true;
  return queues;
}

TapQueues TapQueues::Adopt(const int* descriptors) {
  TapQueues queues;
  for (unsigned i = 0; i < DeviceQueues::kMost; ++i) {
    queues.descriptors_[i] = OwnedDescriptor(descriptors[i]);
  }
  queues.available_ = true;
  return queues;
}

bool TapQueues::AreQueues(const int* descriptors) {
  const dev_t kCloneDevice = makedev(10, 200);  // /dev/net/tun (Linux: devices.txt)
  for (unsigned i = 0; i < DeviceQueues::kMost; ++i) {
    struct stat status;
    if (SystemCall(SYS_fstat, descriptors[i], reinterpret_cast<long>(&status)) != 0) return false;
    if (!S_ISCHR(status.st_mode) || status.st_rdev != kCloneDevice) return false;
  }
  return true;
}

bool TapQueues::Open(const std::string& interface, unsigned queue) {
  const int fd = descriptor(queue);
  // Opened before, and closed since.
  const ifreq again = RequestFor("", IFF_ATTACH_QUEUE);
  if (KernelIoctl(fd, TUNSETQUEUE, &again) == 0) return true;
  const ifreq first = RequestFor(interface, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);
  const long result = KernelIoctl(fd, TUNSETIFF, &first);
  if (result == -EEXIST) return true;  // open
  if (result < 0) return false;
  const int header_bytes = kVirtioHeaderBytes;  // the interface's, so it is set already
  if (KernelIoctl(fd, TUNSETVNETHDRSZ, &header_bytes) >= 0) return true;
  Close(queue);  // one that nobody reads would swallow what comes by it
  return false;
}

void TapQueues::Close(unsigned queue) {
  const ifreq request = RequestFor("", IFF_DETACH_QUEUE);
  KernelIoctl(descriptor(queue), TUNSETQUEUE, &request);
}

void TapQueues::Release() {
  for (OwnedDescriptor& descriptor : descriptors_) descriptor.Release();
}

}  // namespace userstack::backend
