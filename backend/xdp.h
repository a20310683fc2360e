// XdpDevice: AF_XDP. The interface stays the kernel's; our program takes what is for the stack's
// addresses into memory that kernel and stack share (xdp_program.h), and one system call sends what
// a turn has queued. Large segments are cut here, on the copy into that memory (frame_cutter.h).
//
// What is for everybody (broadcasts, all nodes) the kernel gets, and the stack a copy through a
// packet socket (xdp_passed.h), which tells of an interface that goes away, too.
//
// Owner: the process; calls by whoever holds the stack's lock. Invariants: 1. Every frame of the
// umem is in exactly one ring, the kernel's, or unused (xdp_ring.h), after FinishIntents. 2. No
// buffer of the arena is held between calls. 3. What must outlive the process is in the umem's
// first page or in the rings.
#pragma once

#include <memory>
#include <string>

#include "backend/device.h"
#include "backend/frame_cutter.h"
#include "backend/system_call.h"
#include "backend/xdp_program.h"
#include "backend/xdp_ring.h"
#include "backend/xdp_spec.h"

namespace userstack::backend {

class XdpDevice : public Device {
 public:
  // `text` is what stands behind "xdp:".
  static OpenedDevice Open(const std::string& text, const DeviceOptions& options);
  // The descriptors as Descriptors() gave them.
  static OpenedDevice Adopt(const std::string& text, const DeviceOptions& options,
                            const int* descriptors, size_t count);
  ~XdpDevice() override;
  // How many Descriptors() gave, when `umem` is the first of them; 0: it is none of ours.
  static size_t DescriptorCount(int umem);

  const DeviceCapabilities& capabilities() const override { return capabilities_; }
  size_t Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                 Instant now) override;
  Sent Transmit(Core& core, const Frame& frame) override;
  bool Kick() override;
  void BeforeSleep() override;
  bool SetAddresses(const IpAddress* addresses, size_t count) override;
  int wait_descriptor() const override;
  int side_descriptor() const override { return passed_.get(); }
  size_t Descriptors(int* out, size_t limit) const override;
  bool gone() const override { return gone_; }
  const char* Problem() override;

 private:
  friend class XdpOpener;

  XdpDevice() = default;
  // Maps the umem, and then the rings of its queues. 0 or a positive errno.
  long MapUmem(size_t queues, uint32_t frame_bytes);
  long MapQueues();
  void SetCapabilities();
  size_t TakeFrom(XdpQueue& queue, Core& core, Packet** packets, size_t limit);
  void Prefetch(const XdpQueue& queue, uint32_t cursor, uint32_t end) const;
  Packet* TakePacket(Core& core, const XdpQueue& queue, uint32_t cursor, uint32_t pieces,
                     uint32_t length) const;
  void LearnWhetherGone();
  size_t ReceivePassed(Core& core, Packet** packets, size_t limit);
  void Recycle(const XdpQueue& queue) const;
  uint32_t PiecesOf(const FrameCutter& cutter, uint32_t length) const;
  uint32_t FreeFrames(const XdpQueue& queue, uint32_t* from_completion) const;
  void Write(const XdpQueue& queue, const Offload& offload, FrameCutter& cutter,
             uint32_t pieces) const;
  bool KickQueue(const XdpQueue& queue);
  XdpQueue& QueueFor(const Frame& frame);
  void WatchForRoom(bool wanted);

  DeviceCapabilities capabilities_;
  OwnedDescriptor umem_;
  OwnedDescriptor link_;
  OwnedDescriptor addresses_;
  OwnedDescriptor sockets_[kMaxXdpQueues];
  OwnedDescriptor epoll_;   // of all sockets, when there are several
  OwnedDescriptor passed_;  // copies of what the kernel got and the stack wants too
  XdpShared* shared_ = nullptr;
  uint8_t* frames_ = nullptr;  // of the umem, behind `shared_`
  size_t mapped_ = 0;
  XdpQueue queues_[kMaxXdpQueues];
  unsigned queue_count_ = 0;
  unsigned next_queue_ = 0;  // where Receive begins
  uint32_t looks_ = 0;
  uint32_t quiet_looks_ = 0;  // that found nothing, since one that did
  bool watching_for_room_ = false;
  bool look_aside_ = true;  // somebody sleeps or slept: passed_ may have woken it
  bool gone_ = false;
};

}  // namespace userstack::backend
