// Plans of streams in words.
#include <sstream>

#include "tests/netstack/testing/stream.h"

namespace userstack::testing {
namespace {

const char* EndName(EndStyle end) {
  switch (end) {
    case EndStyle::kShutdown:
      return "shutdown";
    case EndStyle::kCloseAfterEnd:
      return "close-after-end";
    case EndStyle::kCloseAtOnce:
      return "close-at-once";
    case EndStyle::kAbort:
      return "abort";
  }
  return "";
}

std::string DescribeSide(const SidePlan& plan) {
  std::ostringstream out;
  out << plan.bytes << " bytes, " << EndName(plan.end) << ", writes " << plan.write_max
      << ", reads " << plan.read_max;
  if (plan.turn_bytes != 0) out << ", turns of " << plan.turn_bytes;
  if (plan.wait_for_end) out << ", after the peer's end";
  if (plan.write_pause != 0) out << ", pauses writing";
  if (plan.read_pause != 0) out << ", pauses reading";
  if (plan.read_delay.nanoseconds != 0) out << ", reads late by " << plan.read_delay.milliseconds();
  if (plan.edge) out << ", edge";
  if (plan.no_delay) out << ", nodelay";
  if (plan.cork) out << ", cork";
  if (plan.more != 0) out << ", more";
  if (plan.peek != 0) out << ", peek";
  if (plan.urgent != 0) out << ", urgent";
  if (plan.waits) out << ", waits";
  if (plan.reserve != 0) out << ", reserves";
  if (plan.hold != 0) out << ", holds";
  if (plan.send_buffer != 0) out << ", sndbuf " << plan.send_buffer;
  if (plan.receive_buffer != 0) out << ", rcvbuf " << plan.receive_buffer;
  return out.str();
}

}  // namespace

std::string StreamPlan::Describe() const {
  return "at " + std::to_string(start.milliseconds()) + " ms: client " + DescribeSide(client) +
         "; server " + DescribeSide(server) + (crossed ? " (crossed)" : "") +
         (may_fail ? " (may fail)" : "");
}

}  // namespace userstack::testing
