// Small operations on queued packets that the packet pool does not have.
#pragma once

#include <cstdint>

#include "netstack/packet/core.h"

namespace userstack::tcp {

// Drops `n` <= packet->length bytes from the front, slices and all.
void DropFront(Core& core, Packet* packet, uint32_t n);
// The memory a packet keeps alive.
uint32_t MemoryOf(const Packet& packet);
// Appends the first `length` bytes of `from` behind `to`'s last byte, when the last buffer is
// `to`'s alone and has the room. False: nothing was done.
[[nodiscard]] bool AppendCopy(Packet* to, const Packet& from, uint32_t length);

}  // namespace userstack::tcp
