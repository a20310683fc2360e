// Pool<T>: fixed-size objects from the arena, recycled through a free list, bounded by `limit`.
// Objects are constructed by New and destroyed by Delete. Slabs are taken from the arena as the
// pool grows and are never returned. Invariants: 1. live() <= limit(). 2. A deleted object is on
// the free list exactly once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include "netstack/arena/arena.h"
#include "netstack/arena/list.h"
#include "netstack/base/check.h"

namespace userstack {

template <typename T>
class Pool {
 public:
  void Initialize(Arena* arena, uint32_t limit, uint32_t slab_objects = 64) {
    arena_ = arena;
    limit_ = limit;
    slab_objects_ = slab_objects;
  }

  // nullptr when the limit is reached or the arena is exhausted.
  template <typename... Args>
  T* New(Args&&... args) {
    if (live_ >= limit_ || (free_ == nullptr && !Grow())) return nullptr;
    Free* slot = free_;
    free_ = slot->next;
    KeepStoreOrder();  // dying here loses the object, and never hands it out twice
    ++live_;
    return new (slot) T(std::forward<Args>(args)...);
  }

  void Delete(T* object) {
    object->~T();
    auto* slot = new (static_cast<void*>(object)) Free;
    slot->next = free_;
    KeepStoreOrder();
    free_ = slot;
    Check(live_ > 0, "pool: delete without new");
    --live_;
  }

  uint32_t live() const { return live_; }
  uint32_t limit() const { return limit_; }
  // After a death in the middle of New or Delete: what is neither free nor known to its owner is
  // lost.
  void set_live(uint32_t live) { live_ = live; }
  void set_limit(uint32_t limit) { limit_ = limit; }

 private:
  struct Free {
    Free* next;
  };
  static constexpr size_t kAlignment = alignof(T) > alignof(Free) ? alignof(T) : alignof(Free);
  static constexpr size_t kStride =
      ((sizeof(T) > sizeof(Free) ? sizeof(T) : sizeof(Free)) + kAlignment - 1) & ~(kAlignment - 1);

  bool Grow() {
    auto* memory = static_cast<uint8_t*>(arena_->Allocate(kStride * slab_objects_, kAlignment));
    if (memory == nullptr) return false;
    for (uint32_t i = slab_objects_; i-- > 0;) {
      auto* slot = new (memory + i * kStride) Free;
      slot->next = free_;
      KeepStoreOrder();
      free_ = slot;
    }
    return true;
  }

  Arena* arena_ = nullptr;
  Free* free_ = nullptr;
  uint32_t live_ = 0;
  uint32_t limit_ = 0;
  uint32_t slab_objects_ = 64;
};

}  // namespace userstack
