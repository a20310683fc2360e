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

// With the lock. A description without references or pins for a socket or an epoll set (which it
// then owns); nullptr (ENFILE) when there is no room. Install it, or give it to Discard.
Description* NewDescription(Socket* socket, uint64_t inode);
Description* NewDescription(WatchSet* epoll, uint64_t inode);
void Discard(Description* description, Instant now);

// Reference counting of descriptions over the slots of `process`, with the lock held. When the last
// reference goes, the socket is destroyed (or kept while pinned), its epoll items with it. Install
// over a number that is taken removes that one first (a close that was not seen).
void Install(Process& process, int fd, Description* description);
void Remove(Process& process, int fd, Instant now);
void CopyAll(const Process& from, Process& to);  // fork
void RemoveAll(Process& process, Instant now);   // exit, death

// A call in progress keeps what it works on alive across Wait. At most kMaxPins per thread.
void Pin(Description* description);
void Unpin(Description* description, Instant now);

// One more, or one less, reference that is not a slot: a socket in flight (SCM_RIGHTS).
void AddReference(Description* description);
void DropReference(Description* description, Instant now);

// Gives back what messages hold of a description whose placeholder no longer exists anywhere.
void DropFlight(Description* description, Instant now);

// The description whose placeholder has this inode, or nullptr: after exec, after SCM_RIGHTS. With
// the lock.
Description* FindByInode(uint64_t inode);

// Without the lock: is the kernel's descriptor `fd` still the placeholder of `description`? One
// fstat. False: it was closed behind our back.
bool IsGenuine(int fd, const Description& description);

}  // namespace userstack::shim
