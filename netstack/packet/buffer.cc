#include "netstack/packet/buffer.h"

#include <new>

#include "netstack/base/check.h"

namespace userstack {

void BufferPool::Initialize(Arena* arena, uint64_t small_bytes_limit, uint64_t large_bytes_limit) {
  arena_ = arena;
  classes_[0] = {.capacity = kSmallBufferBytes,
                 .limit = static_cast<uint32_t>(small_bytes_limit / kSmallBufferBytes),
                 .slab = 32,
                 .reserve = 16};
  classes_[1] = {.capacity = kLargeBufferBytes,
                 .limit = static_cast<uint32_t>(large_bytes_limit / kLargeBufferBytes),
                 .slab = 2,
                 .reserve = 1};
}

bool BufferPool::Grow(BufferClass size_class) {
  Class& c = ClassOf(size_class);
  // One piece, so that a failure takes nothing.
  const size_t payload = size_t{c.capacity} * c.slab;
  auto* bytes = static_cast<uint8_t*>(arena_->Allocate(payload + sizeof(Buffer) * c.slab, 4096));
  if (bytes == nullptr) return false;
  auto* headers = reinterpret_cast<Buffer*>(bytes + payload);
  for (uint32_t i = c.slab; i-- > 0;) {
    auto* buffer = new (headers + i) Buffer;
    buffer->bytes = bytes + size_t{c.capacity} * i;
    buffer->capacity = c.capacity;
    buffer->size_class = size_class;
    buffer->next_free = c.free;
    c.free = buffer;
  }
  c.made += c.slab;
  return true;
}

Buffer* BufferPool::AllocateSpare(BufferClass size_class) {
  Class& c = ClassOf(size_class);
  if (uint64_t{c.live} + c.reserve >= c.limit) return nullptr;
  if (c.made - c.live <= c.reserve && !Grow(size_class)) return nullptr;
  return Allocate(size_class);
}

Buffer* BufferPool::Allocate(BufferClass size_class) {
  Class& c = ClassOf(size_class);
  if (c.live >= c.limit || (c.free == nullptr && !Grow(size_class))) return nullptr;
  Buffer* buffer = c.free;
  c.free = buffer->next_free;
  buffer->next_free = nullptr;
  buffer->references = 1;
  ++c.live;
  return buffer;
}

void BufferPool::Release(Buffer* buffer) {
  Check(buffer->references > 0, "buffer: released more often than referenced");
  if (--buffer->references > 0 || buffer->size_class == BufferClass::kProgram) return;
  Class& c = ClassOf(buffer->size_class);
  buffer->next_free = c.free;
  c.free = buffer;
  --c.live;
}

uint64_t BufferPool::bytes_in_use() const {
  return uint64_t{classes_[0].live} * classes_[0].capacity +
         uint64_t{classes_[1].live} * classes_[1].capacity;
}

bool BufferPool::under_pressure() const {
  for (const Class& c : classes_) {
    if (c.live >= c.limit - c.limit / 8) return true;
  }
  return false;
}

}  // namespace userstack
