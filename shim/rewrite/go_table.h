// Go table: where the functions of a Go program begin and end, from runtime.pclntab (Go 1.18 and
// later: internal/abi, debug/gosym). The runtime walks stacks with it, so it is there in every Go
// program, stripped or not; unwind tables for Go code mostly are not.
//
// Invariants as in unwind_table.h.
#pragma once

#include "shim/rewrite/unwind_table.h"

namespace userstack::shim::rewrite {

class GoTable {
 public:
  // False: no Go program, or a table of another form.
  static bool Open(const Image& image, GoTable* table);
  bool FunctionAt(uint64_t address, Function* function) const;

 private:
  bool OpenAt(const Image& image, uint64_t address);
  uint32_t OffsetOf(uint64_t index) const;

  const Image* image_ = nullptr;
  uint64_t text_ = 0;  // what the table's offsets count from
  const uint8_t* entries_ = nullptr;
  uint64_t count_ = 0;
};

}  // namespace userstack::shim::rewrite
