// HashTable<T, &T::hash_node>: an intrusive chained table with a bucket array taken once from the
// arena (a power of two). The caller supplies the hash and the predicate; the table never owns its
// objects. Hashes of remote input must be keyed (SipHash) so that a peer cannot choose collisions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/arena/arena.h"
#include "netstack/arena/list.h"

namespace userstack {

template <typename T>
struct HashNode {
  T* next = nullptr;
  uint64_t hash = 0;
  bool linked = false;
};

template <typename T, HashNode<T> T::*node>
class HashTable {
 public:
  // False when the arena is exhausted.
  [[nodiscard]] bool Initialize(Arena* arena, size_t buckets) {
    buckets_ = static_cast<T**>(arena->Allocate(buckets * sizeof(T*), 64));
    mask_ = buckets - 1;
    return buckets_ != nullptr;
  }

  void Insert(T* object, uint64_t hash) {
    HashNode<T>& n = object->*node;
    T*& head = buckets_[hash & mask_];
    n.hash = hash;
    n.next = head;
    n.linked = true;
    KeepStoreOrder();  // the chain is whole at every moment
    head = object;
    ++size_;
  }

  // A no-op when the object is not in the table.
  void Erase(T* object) {
    HashNode<T>& n = object->*node;
    if (!n.linked) return;
    for (T** p = &buckets_[n.hash & mask_]; *p != nullptr; p = &((*p)->*node).next) {
      if (*p != object) continue;
      *p = n.next;
      n = {};
      --size_;
      return;
    }
  }

  // Forgets every object, to be told of them anew (their nodes are the caller's to reset).
  void Clear() {
    for (size_t i = 0; i <= mask_; ++i) buckets_[i] = nullptr;
    size_ = 0;
  }

  // The first object with this hash that satisfies `equal`, or nullptr.
  template <typename Equal>
  T* Find(uint64_t hash, Equal equal) const {
    for (T* p = buckets_[hash & mask_]; p != nullptr; p = (p->*node).next) {
      if ((p->*node).hash == hash && equal(*p)) return p;
    }
    return nullptr;
  }

  // Calls `visit(object)` for every object with this hash; `visit` must not change the table.
  template <typename Visit>
  void ForEachWithHash(uint64_t hash, Visit visit) const {
    for (T* p = buckets_[hash & mask_]; p != nullptr; p = (p->*node).next) {
      if ((p->*node).hash == hash) visit(*p);
    }
  }

  size_t size() const { return size_; }

 private:
  T** buckets_ = nullptr;
  size_t mask_ = 0;
  size_t size_ = 0;
};

}  // namespace userstack
