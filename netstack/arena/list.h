// List<T, &T::node>: an intrusive, circular, doubly linked list. An object is on at most one list
// per node. The list never owns its objects. A node knows whether it is linked, so that unlinking
// needs no list.
//
// A process may die between any two stores, and the others go on with the list. So a change begins
// by marking its node (the lowest bit of `previous`) and ends by unmarking it, the stores keep
// their order, and the forward chain is whole at every moment: whoever finds the one marked node
// can finish the change, or undo it (RepairNode).
#pragma once

#include <cstddef>
#include <cstdint>

namespace userstack {

// The compiler keeps the stores before it before those after it. No instruction.
inline void KeepStoreOrder() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

struct ListNode {
  ListNode* previous = nullptr;
  ListNode* next = nullptr;

  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;

  bool linked() const { return next != nullptr; }
  // A no-op when not linked.
  void Unlink() {
    if (!linked()) return;
    ListNode* const before = previous;
    previous = Marked(before);
    KeepStoreOrder();
    next->previous = before;
    KeepStoreOrder();
    before->next = next;
    KeepStoreOrder();
    next = nullptr;
    KeepStoreOrder();
    previous = nullptr;
  }

  static ListNode* Marked(ListNode* n) {
    return reinterpret_cast<ListNode*>(reinterpret_cast<uintptr_t>(n) | 1);
  }
  static ListNode* Unmarked(ListNode* n) {
    return reinterpret_cast<ListNode*>(reinterpret_cast<uintptr_t>(n) & ~uintptr_t{1});
  }
  bool is_marked() const { return (reinterpret_cast<uintptr_t>(previous) & 1) != 0; }
};

// Finishes or undoes the change in the middle of which `n`, which is marked, was left.
inline void RepairNode(ListNode* n) {
  ListNode* const before = ListNode::Unmarked(n->previous);
  ListNode* const after = n->next;
  if (after != nullptr && before->next == n) {  // it is on the list: finish inserting it
    after->previous = n;
    n->previous = before;
    return;
  }
  if (after != nullptr && after->previous == n) after->previous = before;
  n->next = nullptr;
  n->previous = nullptr;
}

template <typename T, ListNode T::*node>
class List {
 public:
  List() { head_.previous = head_.next = &head_; }
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  bool empty() const { return head_.next == &head_; }
  T* front() const { return empty() ? nullptr : FromNode(head_.next); }
  T* back() const { return empty() ? nullptr : FromNode(head_.previous); }
  void PushBack(T* object) { InsertBetween(&(object->*node), head_.previous, &head_); }
  void PushFront(T* object) { InsertBetween(&(object->*node), &head_, head_.next); }
  // Inserts `object` just before `position`, which is on this list.
  void InsertBefore(T* position, T* object) {
    InsertBetween(&(object->*node), (position->*node).previous, &(position->*node));
  }
  void InsertAfter(T* position, T* object) {
    InsertBetween(&(object->*node), &(position->*node), (position->*node).next);
  }
  T* PopFront() {
    T* object = front();
    if (object != nullptr) (object->*node).Unlink();
    return object;
  }
  // Moves everything on `other` to the end of this list, in order: one object after the other, so
  // that a death in between leaves two whole lists.
  void Append(List& other) {
    while (T* object = other.PopFront()) PushBack(object);
  }
  static void Remove(T* object) { (object->*node).Unlink(); }
  // The neighbour, or nullptr at the end.
  T* Next(const T* object) const {
    ListNode* n = (object->*node).next;
    return n == &head_ ? nullptr : FromNode(n);
  }
  T* Previous(const T* object) const {
    ListNode* n = (object->*node).previous;
    return n == &head_ ? nullptr : FromNode(n);
  }

 private:
  static T* FromNode(ListNode* n) {
    // The offset of `node` in T, computed on a dummy address that is never read.
    constexpr uintptr_t kBase = 0x1000;
    const auto offset = reinterpret_cast<uintptr_t>(&(reinterpret_cast<T*>(kBase)->*node)) - kBase;
    return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(n) - offset);
  }
  static void InsertBetween(ListNode* n, ListNode* before, ListNode* after) {
    n->previous = ListNode::Marked(before);
    KeepStoreOrder();
    n->next = after;
    KeepStoreOrder();
    before->next = n;
    KeepStoreOrder();
    after->previous = n;
    KeepStoreOrder();
    n->previous = before;
  }

  ListNode head_;
};

}  // namespace userstack
