// The stand-in's first question; compiled without vector registers, as the real one is.
#include "tests/rewrite/rewriter.h"

extern "C" bool userstack_rewrite_concerns(long number, const long*) {
  using namespace userstack::testing;  // NOLINT
  return number == dispatcher.concerned || dispatcher.concerned == kEverything;
}
