// FrameCutter: a frame of the stack's as the frames that go on the wire, written one after the
// other into memory that the device has: segmentation (TSO, USO), payload copy and checksum in one
// pass. For devices that cut in software, and finish checksums or leave that to the wire.
//
// Owner: the caller, for the time of one Transmit. Reads the frame, keeps nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/summing_copy.h"
#include "netstack/packet/frame.h"

namespace userstack::backend {

class FrameCutter {
 public:
  enum class Checksums : uint8_t { kFinish, kLeave };  // kLeave: the pseudo-header's sum is there
  explicit FrameCutter(const Frame& frame, Checksums checksums = Checksums::kFinish);

  // False: the frame's offload does not fit its headers; it cannot be sent.
  bool valid() const { return valid_; }
  // Frames on the wire, and the length of each but the last, and of the last.
  uint32_t count() const { return count_; }
  uint32_t full_length() const { return header_bytes_ + (count_ > 1 ? segment_ : total_); }
  uint32_t last_length() const { return header_bytes_ + total_ - segment_ * (count_ - 1); }
  uint32_t header_bytes() const { return header_bytes_; }
  // Writes the next frame into pieces, as many as it needs: the first, of `first_bytes`, holds all
  // headers, and each of the others has `piece_bytes`. At most count() times.
  void WriteNext(uint8_t* const* pieces, uint32_t first_bytes, uint32_t piece_bytes);

 private:
  void FixHeaders(uint8_t* out, uint32_t payload, bool last) const;
  void FixNetwork(uint8_t* out, uint32_t length) const;
  void CopyPayload(uint8_t* to, uint32_t length, SummingCopy* sum);

  const Frame& frame_;
  uint32_t header_bytes_ = 0;  // in front of every segment, Ethernet header included
  uint32_t segment_ = 0;       // payload bytes of each but the last
  uint32_t total_ = 0;         // payload bytes of all
  uint32_t position_ = 0;      // payload bytes written
  uint32_t count_ = 1;
  uint32_t index_ = 0;
  bool cut_ = false;
  bool finish_ = false;  // the checksum is ours to finish
  bool valid_ = true;
  // The next payload byte. Part 0 is what the frame's storage holds behind the headers, the slices
  // follow.
  unsigned part_ = 0;
  uint32_t in_part_ = 0;
};

}  // namespace userstack::backend
