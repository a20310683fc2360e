// Buffer: reference-counted bytes in the arena. BufferPool: buffers in two classes. Slice: a range
// of a buffer. Counts are plain integers; whoever holds the stack's lock may touch them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/arena.h"

namespace userstack {

enum class BufferClass : uint8_t {
  kSmall,
  kLarge,
  kProgram,  // not of the pool: memory of a program (landing.h)
};
inline constexpr uint32_t kSmallBufferBytes = 2048;
inline constexpr uint32_t kLargeBufferBytes = 65536;

struct Buffer {
  uint8_t* bytes = nullptr;  // `capacity` bytes, 64-byte aligned
  Buffer* next_free = nullptr;
  uint32_t capacity = 0;
  uint32_t references = 0;
  BufferClass size_class = BufferClass::kSmall;
};

// A range of a buffer's bytes. Holding a Slice means holding one reference, unless a comment says
// "borrowed".
struct Slice {
  Buffer* buffer;
  uint32_t offset;
  uint32_t length;

  uint8_t* data() const { return buffer->bytes + offset; }
};

class BufferPool {
 public:
  // Limits are in bytes of buffer memory, per class.
  void Initialize(Arena* arena, uint64_t small_bytes_limit, uint64_t large_bytes_limit);

  // A buffer with one reference, contents undefined; nullptr when the class is exhausted.
  Buffer* Allocate(BufferClass size_class);
  // For what a program sends: nullptr also when the last few are reached. They are kept for what
  // arrives, because an ACK that finds no buffer would free none.
  Buffer* AllocateSpare(BufferClass size_class);
  static void Reference(Buffer* buffer) { ++buffer->references; }
  void Release(Buffer* buffer);

  uint64_t bytes_in_use() const;
  // True when less than 1/8 of either class is left: new sockets and new data are refused before
  // old ones starve.
  bool under_pressure() const;

 private:
  struct Class {
    Buffer* free = nullptr;
    uint32_t capacity = 0;
    uint32_t live = 0;
    uint32_t limit = 0;
    uint32_t slab = 0;
    uint32_t reserve = 0;  // what AllocateSpare leaves
    uint32_t made = 0;     // live or free
  };
  Class& ClassOf(BufferClass c) { return classes_[static_cast<int>(c)]; }
  bool Grow(BufferClass size_class);

  Arena* arena_ = nullptr;
  Class classes_[2];
};

}  // namespace userstack
