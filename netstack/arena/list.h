// List<T, &T::node>: an intrusive, circular, doubly linked list. An object is on at most one list
// per node. The list never owns its objects. A node knows whether it is linked, so that unlinking
// needs no list.
#pragma once

#include <cstddef>
#include <cstdint>

namespace userstack {

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
    previous->next = next;
    next->previous = previous;
    previous = next = nullptr;
  }
};

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
  // Moves everything on `other` to the end of this list, in order and at once.
  void Append(List& other) {
    if (other.empty()) return;
    ListNode* first = other.head_.next;
    ListNode* last = other.head_.previous;
    first->previous = head_.previous;
    head_.previous->next = first;
    last->next = &head_;
    head_.previous = last;
    other.head_.previous = other.head_.next = &other.head_;
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
    n->previous = before;
    n->next = after;
    before->next = n;
    after->previous = n;
  }

  ListNode head_;
};

}  // namespace userstack
