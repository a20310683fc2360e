// Arena: one contiguous region that holds the whole state of a stack. It begins with this header
// and grows upwards; memory is never given back to it, pools recycle it. The region is mapped at
// the same address in every process that shares it, so plain data pointers into it are valid
// everywhere; code pointers and heap pointers are forbidden in it.
//
// Owner: the stack. Whoever holds the stack's lock may call.
// Invariants: 1. used_ <= size_. 2. Every pointer handed out lies in [this, this + size_).
#pragma once

#include <cstddef>
#include <cstdint>

namespace userstack {

class Arena {
 public:
  // Writes a header at `base` (page aligned, zero filled, `size` bytes) and returns it.
  static Arena* Format(void* base, size_t size);

  // Zero-filled memory, or nullptr when the arena is exhausted. `alignment` is a power of two.
  void* Allocate(size_t bytes, size_t alignment);

  size_t size() const { return size_; }
  size_t used() const { return used_; }
  bool Contains(const void* p) const {
    const auto* b = reinterpret_cast<const uint8_t*>(this);
    return p >= b && p < b + size_;
  }

 private:
  size_t size_;
  size_t used_;
};

}  // namespace userstack
