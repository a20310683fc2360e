#include "netstack/arena/arena.h"

#include <new>

namespace userstack {

Arena* Arena::Format(void* base, size_t size) {
  auto* arena = new (base) Arena;
  arena->size_ = size;
  arena->used_ = sizeof(Arena);
  return arena;
}

void* Arena::Allocate(size_t bytes, size_t alignment) {
  const size_t start = (used_ + alignment - 1) & ~(alignment - 1);
  if (start > size_ || bytes > size_ - start) return nullptr;
  used_ = start + bytes;
  return reinterpret_cast<uint8_t*>(this) + start;
}

}  // namespace userstack
