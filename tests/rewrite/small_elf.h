// A small ELF object, made of given functions: headers, .eh_frame_hdr and .eh_frame as linkers
// write them, a build-id, code. For tests of what reads such tables, and as a seed for the fuzzer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace userstack::testing {

struct SmallFunction {
  std::vector<uint8_t> code;
  bool has_landing_pads = false;
  bool is_signal_frame = false;
};

struct SmallElf {
  std::vector<uint8_t> bytes;
  std::vector<uint64_t> functions;  // their addresses
};

// As Go's linker writes it: the functions are in runtime.pclntab only.
SmallElf MakeSmallGo(const std::vector<SmallFunction>& functions);

SmallElf MakeSmallElf(const std::vector<SmallFunction>& functions,
                      const std::string& build_id = "0123456789abcdefghij");

}  // namespace userstack::testing
