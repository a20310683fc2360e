#include "netstack/tcp/reno.h"

#include <algorithm>

namespace userstack::tcp {

void RenoAvoid(Congestion& c, uint64_t bytes, uint32_t mss) {
  c.reno.accumulator += bytes;
  while (c.reno.accumulator >= c.window) {
    c.reno.accumulator -= c.window;
    c.window += mss;
  }
}

uint64_t RenoThreshold(const Congestion& c, uint32_t mss) {
  return std::max<uint64_t>(c.window / 2, 2 * uint64_t{mss});
}

}  // namespace userstack::tcp
