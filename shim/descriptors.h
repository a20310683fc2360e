// Descriptors: the program's numbers and what they stand for. Each stack socket has a real kernel
// descriptor (an unconnected AF_UNIX socket) with the lowest free number; an epoll instance has its
// kernel epoll.
#pragma once

#include "shim/runtime.h"

namespace userstack::shim {

// Process-local and set once at Attach: CurrentProcess().slots, or null. The whole cost of a
// pass-through call is this read and one compare.
extern Slot* g_slots;

// Without the lock: is `fd` the stack's?
inline bool IsOurs(int fd) {
  return g_slots != nullptr && static_cast<unsigned>(fd) < kMaxDescriptors &&
         g_slots[fd].description.load(std::memory_order_acquire) != nullptr;
}

// With the lock: the description behind `fd`, or nullptr.
Description* Lookup(int fd);

// Reference counting of descriptions over the slots of `process`, with the lock held. When the last
// reference goes, the socket is destroyed (or kept while pinned).
void Install(Process& process, int fd, Description* description);
void Remove(Process& process, int fd, Instant now);
void CopyAll(const Process& from, Process& to);  // fork
void RemoveAll(Process& process, Instant now);   // exit, death
void Unpin(Description* description, Instant now);

}  // namespace userstack::shim
