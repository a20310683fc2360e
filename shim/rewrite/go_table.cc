// Go table: see go_table.h.
#include "shim/rewrite/go_table.h"

#include <cstring>
#include <initializer_list>

namespace userstack::shim::rewrite {
namespace {

// The header: magic, padding, the unit of instructions (1) and the size of pointers (8).
constexpr uint8_t kGo118[] = {0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8};
constexpr uint8_t kGo120[] = {0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8};
// Then numbers of 8 bytes.
constexpr size_t kCountAt = 8;
constexpr size_t kTextAt = 24;
constexpr size_t kEntriesAt = 64;
constexpr size_t kHeaderSize = 72;
constexpr size_t kEntrySize = 8;  // {function, its description}, both offsets of 4 bytes
constexpr uint64_t kMostFunctions = 1 << 24;

uint64_t NumberAt(const uint8_t* bytes) {
  uint64_t number = 0;
  memcpy(&number, bytes, sizeof number);
  return number;
}

}  // namespace

bool GoTable::Open(const Image& image, GoTable* table) {
  if (!image.is_go()) return false;
  for (unsigned i = 0; i < image.segment_count(); ++i) {
    const Segment& segment = image.segments()[i];
    const uint8_t* const end = segment.bytes + segment.size;
    for (const auto* magic : {kGo118, kGo120}) {
      const uint8_t* at = segment.bytes;
      while ((at = static_cast<const uint8_t*>(
                  memmem(at, static_cast<size_t>(end - at), magic, sizeof kGo118))) != nullptr) {
        const uint64_t address = segment.address + static_cast<uint64_t>(at - segment.bytes);
        if (table->OpenAt(image, address)) return true;
        ++at;
      }
    }
  }
  return false;
}

bool GoTable::OpenAt(const Image& image, uint64_t address) {
  const uint8_t* header = image.At(address, kHeaderSize);
  if (header == nullptr) return false;
  image_ = &image;
  count_ = NumberAt(header + kCountAt);
  if (count_ == 0 || count_ > kMostFunctions) return false;
  text_ = image.FromMemory(NumberAt(header + kTextAt));
  const uint64_t offset = NumberAt(header + kEntriesAt);
  if (offset > UINT32_MAX) return false;
  // One more entry, without a description, is the end of the last function.
  entries_ = image.At(address + offset, count_ * kEntrySize + sizeof(uint32_t));
  return entries_ != nullptr && image.CodeAt(text_ + OffsetOf(0), 1) != nullptr;
}

uint32_t GoTable::OffsetOf(uint64_t index) const {
  uint32_t offset = 0;
  memcpy(&offset, entries_ + index * kEntrySize, sizeof offset);
  return offset;
}

bool GoTable::FunctionAt(uint64_t address, Function* function) const {
  if (address < text_ || address - text_ > UINT32_MAX) return false;
  const auto wanted = static_cast<uint32_t>(address - text_);
  uint64_t low = 0;
  uint64_t high = count_;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    (OffsetOf(middle) <= wanted ? low : high) = middle;
  }
  const uint32_t begin = OffsetOf(low);
  const uint32_t end = OffsetOf(low + 1);
  if (wanted < begin || wanted >= end) return false;
  function->start = text_ + begin;
  function->size = end - begin;
  function->has_landing_pads = false;
  return image_->CodeAt(function->start, function->size) != nullptr;
}

}  // namespace userstack::shim::rewrite
