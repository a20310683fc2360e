// Unwind table: where functions begin and end, from .eh_frame_hdr and .eh_frame (LSB 5.0 core,
// 10.6; DWARF 4, 6.4), or from .eh_frame alone, since static programs at a fixed address come
// without the first. Compilers write them for every function that an exception might cross, which
// on x86-64 is all of them, and stripping leaves them. That makes them the places where decoding
// may begin.
//
// Invariants: 1. Nothing outside the image is read, whatever the tables say. 2. A function that is
// returned lies in one segment and holds the address that was asked for.
#pragma once

#include <vector>

#include "shim/rewrite/image.h"

namespace userstack::shim::rewrite {

struct Function {
  uint64_t start = 0;
  uint64_t size = 0;
  bool has_landing_pads = false;  // the unwinder may enter it where no branch leads
};

class UnwindTable {
 public:
  // As .eh_frame_hdr has them: a function's first byte and its entry, both relative to the header.
  struct Pair {
    int32_t start;
    int32_t entry;
  };

  // False: there is none, or none in the form that linkers write (a sorted table of 32-bit pairs).
  // The image outlives the table.
  static bool Open(const Image& image, UnwindTable* table);

  // The function that holds `address`; false: no entry does.
  bool FunctionAt(uint64_t address, Function* function) const;
  // The last one that begins at `address` or before, wherever it ends.
  bool FunctionBefore(uint64_t address, Function* function) const;
  uint32_t size() const { return count_; }

 private:
  struct Common;
  bool OpenHeader(const Image& image);
  bool OpenSection(const Image& image);
  int32_t Field(uint32_t index, size_t field) const;
  bool ReadEntry(uint64_t address, Function* function) const;
  bool ReadCommon(uint64_t address, Common* common) const;

  const Image* image_ = nullptr;
  uint64_t header_ = 0;
  const uint8_t* entries_ = nullptr;  // null: `sorted_`
  std::vector<Pair> sorted_;
  uint32_t count_ = 0;
};

}  // namespace userstack::shim::rewrite
