// Configuration: what USERSTACK_* says, as the library reads it, and whether it can be honoured.
#pragma once

#include <string>
#include <vector>

#include "shim/config.h"

namespace userstack::tool {

struct Configuration {
  // `environment`: assignments NAME=VALUE.
  explicit Configuration(const std::vector<std::string>& environment);

  // The rule of USERSTACK_KERNEL that holds the address, or "".
  std::string RuleFor(const IpAddress& address) const;

  shim::Config config;
  bool usable = false;  // a stack is configured, and the variables are right
  std::string why;      // not usable: one line
};

std::string AddressText(const IpAddress& address);

struct Finding {
  bool fatal = false;
  std::string text;
};

// What can be told of the device and the files without opening the device, which would disturb who
// has it.
std::vector<Finding> CheckDevice(const shim::Config& config);

}  // namespace userstack::tool
