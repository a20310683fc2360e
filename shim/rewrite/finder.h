// Finder: the system calls of an object. A byte search for `0f 05`, the function around each hit
// from the unwind tables, and the decoder's word on which hits are instructions. There is no sweep:
// a hit in no known function is never believed.
#pragma once

#include <vector>

#include "shim/rewrite/decoder.h"
#include "shim/rewrite/image.h"

namespace userstack::shim::rewrite {

struct Findings {
  std::vector<Site> sites;  // proved, relevant, ascending by address
  uint32_t hits = 0;        // of the byte search
  uint32_t unproved = 0;    // in no known function, or no instruction there
  uint32_t unknown = 0;     // of those: may be system calls all the same
  uint32_t irrelevant = 0;  // their number cannot concern the stack
};

// `decoder` is asked once a function, and not at all when there is no hit: `load` fetches it then.
// False: there were hits, and no decoder.
bool FindSites(const Image& image, DecodeFunction (*load)(), Findings* findings);

}  // namespace userstack::shim::rewrite
