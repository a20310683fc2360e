// Forge: a copy of a frame that differs from it in one thing, as an attacker beside the path or a
// strange box on it would make it: a stack may take it for a duplicate, or must ignore it.
#pragma once

#include "netstack/base/random.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack::testing {

// Of a TCP segment; of any other frame a plain copy. The copy carries no offload: its checksums are
// right, or wrong on purpose.
WireFrame Forge(const WireFrame& frame, Random& random);

}  // namespace userstack::testing
