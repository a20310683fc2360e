// Rewriter: rewrites sites of the test program itself, and stands in for the dispatcher behind
// them.
#pragma once

#include "shim/rewrite/entry.h"
#include "shim/rewrite/patch.h"

namespace userstack::testing {

// What the stand-in says. Both are called from the entry: the first must not touch vector
// registers, so it is a number to compare with.
struct Dispatcher {
  long concerned = -1;  // the number of the calls that are taken; kEverything: all
  shim::rewrite::Answer (*call)(long number, const long* arguments) = nullptr;
};
inline constexpr long kEverything = -2;
extern Dispatcher dispatcher;

// Rewrites the sites of `function`, which is in this program, once. How many there were.
unsigned RewriteFunction(void (*function)(), void (*entry)() = userstack_rewrite_entry);

}  // namespace userstack::testing
