// SequenceTree<T, &T::tree_node, &T::begin>: an intrusive treap ordered by a sequence number. All
// keys lie within half the sequence space, as anything within one window does. Depth is
// logarithmic whatever a peer sends, because priorities come from the stack's generator.
//
// Invariants: 1. Keys are distinct. 2. A key changes only while its order among its neighbours
// stays.
#pragma once

#include <cstdint>

#include "netstack/base/sequence.h"

namespace userstack::tcp {

template <typename T>
struct SequenceTreeNode {
  T* left = nullptr;
  T* right = nullptr;
  uint64_t priority = 0;
};

template <typename T, SequenceTreeNode<T> T::*node, SeqNum T::*key>
class SequenceTree {
 public:
  bool empty() const { return root_ == nullptr; }

  void Insert(T* object, uint64_t priority) {
    T** link = &root_;
    while (*link != nullptr && Node(*link).priority >= priority) {
      link = Key(object).Before(Key(*link)) ? &Node(*link).left : &Node(*link).right;
    }
    Node(object).priority = priority;
    Split(*link, Key(object), &Node(object).left, &Node(object).right);
    *link = object;
  }

  void Erase(T* object) {
    T** link = &root_;
    while (*link != object) {
      link = Key(object).Before(Key(*link)) ? &Node(*link).left : &Node(*link).right;
    }
    T* left = Node(object).left;
    T* right = Node(object).right;
    while (left != nullptr && right != nullptr) {
      if (Node(left).priority >= Node(right).priority) {
        *link = left;
        link = &Node(left).right;
        left = *link;
      } else {
        *link = right;
        link = &Node(right).left;
        right = *link;
      }
    }
    *link = left != nullptr ? left : right;
    Node(object) = {};
  }

  // The last object whose key is at or before `s`, or nullptr.
  T* AtOrBefore(SeqNum s) const {
    T* best = nullptr;
    for (T* t = root_; t != nullptr;) {
      if (Key(t).After(s)) {
        t = Node(t).left;
      } else {
        best = t;
        t = Node(t).right;
      }
    }
    return best;
  }

 private:
  static SequenceTreeNode<T>& Node(T* t) { return t->*node; }
  static SeqNum Key(const T* t) { return t->*key; }
  static void Split(T* t, SeqNum at, T** less, T** more) {
    while (t != nullptr) {
      if (Key(t).Before(at)) {
        *less = t;
        less = &Node(t).right;
        t = *less;
      } else {
        *more = t;
        more = &Node(t).left;
        t = *more;
      }
    }
    *less = nullptr;
    *more = nullptr;
  }

  T* root_ = nullptr;
};

}  // namespace userstack::tcp
