// Landing: a program's memory for the text that comes next on one connection. While a call waits
// for that text, a device may put it there at once, instead of into buffers that are copied from
// afterwards. The transport foretells the headers of the next frame; the device reads a frame as if
// it were that one, compares, and takes the bytes back into buffers when it is another.
//
// It lies in the arena, but `buffer.bytes` is memory of one process: of whoever holds the stack's
// lock. 1. It is open (header_length is not 0) only while the device is asked. 2. No packet that
// refers to `buffer` outlives the Input that it came by. 3. `taken` bytes are received, and their
// holder of the lock reports them to the program before it lets go.
#pragma once

#include <algorithm>
#include <cstdint>

#include "netstack/base/byte_order.h"
#include "netstack/packet/buffer.h"

namespace userstack {

struct Landing {
  static constexpr uint32_t kMaxHeaders = 88;      // Ethernet, IPv6, TCP with timestamps: 86
  static constexpr uint32_t kLongestText = 65535;  // of one frame: there is always room for it
  static constexpr uint64_t kLongStreak = 256 << 10;
  // Of a frame that lands in part at least so much does: more than what the other buffers before
  // the large one hold, so that the rest begins in that.
  static constexpr uint32_t kLeastPart = 16 << 10;

  Buffer buffer;      // never in the pool; of capacity 0, so that it counts as no memory
  uint32_t size = 0;  // of the program's memory
  uint32_t least = kLongestText;  // room there without which the next frame is not read into it
  const void* owner = nullptr;    // the connection whose text it is
  uint32_t taken = 0;             // by the transport, from the front
  uint32_t filled = 0;            // by the device, from the front
  // Text that `recent` has got without another connection's in between: that the next frame is its
  // too is worth a guess when this is long.
  const void* recent = nullptr;
  uint64_t streak = 0;

  uint32_t header_length = 0;  // 0: closed
  uint32_t sequence_at = 0;    // where the header has the sequence number, which is not masked in
  uint32_t sequence = 0;       // the next
  uint8_t header[kMaxHeaders] = {};
  uint8_t mask[kMaxHeaders] = {};  // bits that are as foretold

  void NoteText(const void* connection, uint32_t length) {
    streak = recent == connection ? streak + length : length;
    recent = connection;
  }

  // Its text comes alone, and has for longer than a turn of several takes.
  bool HasWire(const void* connection) const {
    return recent == connection && streak >= 16 * kLongStreak;
  }

  uint8_t* next() const { return buffer.bytes + filled; }
  // For the text of one frame. What a longer one has beyond it the device puts into buffers.
  uint32_t room() const { return std::min(size - filled, kLongestText); }
  // For the device: may the next frame's text be read to next()?
  bool IsOpen() const { return header_length != 0 && HasRoom(); }
  // Text was put there, and the program had better read it before more is taken from the device.
  bool IsFull() const { return header_length != 0 && filled != 0 && !HasRoom(); }
  void Close() { header_length = 0; }
  // Whether a frame of `length` bytes is the one foretold. `bytes` has its first header_length.
  bool Foretells(const uint8_t* bytes, uint32_t length) const {
    if (length <= header_length || Load32(bytes + sequence_at) != sequence) return false;
    unsigned different = 0;
    for (uint32_t i = 0; i < header_length; ++i) different |= (bytes[i] ^ header[i]) & mask[i];
    return different == 0;
  }
  // It was: `text` bytes of it are at next(). The slice is one more reference to `buffer`.
  Slice Fill(uint32_t text) {
    const Slice slice{&buffer, filled, text};
    BufferPool::Reference(&buffer);
    filled += text;
    sequence += text;
    return slice;
  }

 private:
  bool HasRoom() const { return size - filled >= least; }
};

}  // namespace userstack
