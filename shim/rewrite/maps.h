// Maps: this process's mappings, from /proc/self/maps, without libc or memory: for handlers too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shim/rewrite/stubs.h"

namespace userstack::shim::rewrite {

struct Mapping {
  AddressRange range;
  bool writable = false;
  bool executable = false;
  bool of_file = false;
};

class MapsReader {
 public:
  MapsReader();
  // The next one, ascending; false: there is none, or they cannot be read.
  bool Next(Mapping* mapping);

 private:
  // One character, or -1 at the end.
  int Character();
  bool Number(int base, uint64_t* value, int* end);

  backend::OwnedDescriptor file_;
  char buffer_[1024];
  size_t used_ = 0;
  size_t filled_ = 0;
};

}  // namespace userstack::shim::rewrite
