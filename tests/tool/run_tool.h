// RunTool: the tool as its users run it, and what it said.
#pragma once

#include <string>
#include <vector>

namespace userstack::tool {

struct Outcome {
  int status = -1;  // 128 + signal when one ended it
  std::string out;
  std::string error;
};

// `environment`: assignments added to the test's own.
Outcome RunTool(const std::vector<std::string>& arguments,
                const std::vector<std::string>& environment = {});

size_t LinesIn(const std::string& text);

}  // namespace userstack::tool
