// Content: byte streams that need no storage. Byte `offset` of stream `id` is a function of both,
// so a receiver can check any range, and a shifted, repeated or foreign range never matches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace userstack::testing {

void FillContent(uint64_t id, uint64_t offset, uint8_t* out, size_t length);
// The number of bytes that match from the start; `length` when all do.
size_t MatchContent(uint64_t id, uint64_t offset, const uint8_t* bytes, size_t length);

}  // namespace userstack::testing
