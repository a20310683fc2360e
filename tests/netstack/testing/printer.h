// Printer: exchanges as tcpdump prints them, one line a frame. Sequence numbers are relative to
// each direction's first, as tcpdump's are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "netstack/base/time.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack::testing {

class Printer {
 public:
  // One line without a newline: protocol, addresses and what the headers say.
  std::string Describe(const std::vector<uint8_t>& bytes);
  std::string Describe(const WireFrame& frame);

 private:
  std::string DescribeTcp(const std::vector<uint8_t>& b, const FrameLayout& layout,
                          const std::string& source, const std::string& destination);
  std::string DescribeIp(const std::vector<uint8_t>& b, const FrameLayout& layout);

  std::map<std::string, uint32_t> first_sequence_;  // by "source > destination"
};

std::string FormatTime(Instant t);  // seconds with microseconds
std::string FormatAddress(const IpAddress& address);

}  // namespace userstack::testing
