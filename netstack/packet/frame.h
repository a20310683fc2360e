// Frame: what goes out. Headers in `storage`, payload as referenced slices of send buffers; no
// payload byte is copied here. Headers are written back to front: the transport header first, then
// Prepend for network and link. Ownership: whoever is handed a Frame* owns it and its slice
// references; it ends in FramePool::Release.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/list.h"
#include "netstack/arena/pool.h"
#include "netstack/base/check.h"
#include "netstack/packet/buffer.h"
#include "netstack/packet/offload.h"
#include "netstack/packet/packet.h"

namespace userstack {

// Room in front of the transport header: Ethernet 14, IPv6 40 or IPv4 60, an extension header or
// two.
inline constexpr uint16_t kFrameHeadroom = 128;
inline constexpr uint16_t kFrameStorage = 256;

// Whose frames they are: how many bytes a socket has handed down that have not left yet (Linux:
// sk_wmem_alloc). A transport embeds it, charges its frames to it, and must outlive them. Release
// takes the charge back and puts the owner on the pool's list of owners that the stack tells
// (`kind` says to whom it belongs).
enum class FrameOwnerKind : uint8_t { kTcp, kUdp, kRaw };

struct FrameOwner {
  explicit FrameOwner(FrameOwnerKind k) : kind(k) {}
  ListNode drained_node;  // on FramePool's list while a release has not been told
  uint64_t bytes = 0;     // charged now
  FrameOwnerKind kind;
};

// What a frame costs its owner beyond its bytes.
inline constexpr uint32_t kFrameOverhead = 576;

struct Frame {
  // User-provided, so that slices and storage are not written: what is beyond slice_count, and
  // outside [begin, end), has no value.
  Frame() {}

  ListNode node;
  uint16_t begin = kFrameHeadroom;  // headers occupy storage[begin, end)
  uint16_t end = kFrameHeadroom;
  uint8_t slice_count = 0;
  uint8_t queue = 0;            // of the device (device_queues.h)
  uint16_t interface = 0;       // index of the interface it leaves by
  uint32_t payload_length = 0;  // bytes in the slices
  // Frames of one flow leave in order, whoever writes them (shim/apart). Compared, never followed;
  // null: it does not matter.
  const void* flow = nullptr;
  Offload offload;  // checksum_start is relative to `begin` once the link header is on
  // Who waits for this frame to leave; nullptr for nobody. Kept by Charge and FramePool::Release.
  FrameOwner* owner = nullptr;
  uint32_t charge = 0;
  Slice slices[kMaxSlices];
  uint8_t storage[kFrameStorage];

  uint8_t* header() { return storage + begin; }
  const uint8_t* header() const { return storage + begin; }
  uint16_t header_length() const { return static_cast<uint16_t>(end - begin); }
  uint32_t length() const { return header_length() + payload_length; }
  // Charges the frame as it is now to `to`.
  void ChargeTo(FrameOwner* to) {
    owner = to;
    charge = length() + kFrameOverhead;
    to->bytes += charge;
  }
  // Passes this frame's charge on to `heir`, which replaces it (the last fragment, a copy).
  void MoveChargeTo(Frame* heir) {
    heir->owner = owner;
    heir->charge = charge;
    owner = nullptr;
    charge = 0;
  }
  // Room for `n` more header bytes in front.
  uint8_t* Prepend(uint16_t n) {
    Check(begin >= n, "frame: no headroom");
    begin = static_cast<uint16_t>(begin - n);
    return header();
  }
  // Room for `n` more header bytes behind (small payloads may be placed here too).
  uint8_t* Append(uint16_t n) {
    Check(end + n <= kFrameStorage, "frame: no tailroom");
    uint8_t* p = storage + end;
    end = static_cast<uint16_t>(end + n);
    return p;
  }
  // False when all slices are taken. Takes a new reference on `buffer`.
  [[nodiscard]] bool AddSlice(Buffer* buffer, uint32_t offset, uint32_t bytes) {
    if (slice_count > 0) {
      Slice& last = slices[slice_count - 1];
      if (last.buffer == buffer && last.offset + last.length == offset) {
        last.length += bytes;
        payload_length += bytes;
        return true;
      }
    }
    if (slice_count == kMaxSlices) return false;
    BufferPool::Reference(buffer);
    slices[slice_count++] = {buffer, offset, bytes};
    payload_length += bytes;
    return true;
  }
};

class FramePool {
 public:
  void Initialize(Arena* arena, BufferPool* buffers, uint32_t limit);
  Frame* Allocate();
  void Release(Frame* frame);
  // The next owner some of whose frames left since it was last told, or nullptr.
  FrameOwner* PopDrained() { return drained_.PopFront(); }
  uint32_t live() const { return pool_.live(); }

 private:
  BufferPool* buffers_ = nullptr;
  Pool<Frame> pool_;
  List<FrameOwner, &FrameOwner::drained_node> drained_;
};

}  // namespace userstack
