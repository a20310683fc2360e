// Command: see command.h.
#include "shim/tool/command.h"

#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>

#include "netstack/base/check.h"

namespace userstack {

// The rooms' code that the tool has in it ends here, not in a stack that gives up.
[[noreturn]] void CheckFailed(const char* what, const char* file, unsigned line) {
  fprintf(stderr, "userstack: %s (%s:%u)\n", what, file, line);
  abort();
}

}  // namespace userstack

namespace userstack::tool {

int Fail(int status, const std::string& line) {
  fprintf(stderr, "userstack: %s\n", Printable(line).c_str());
  return status;
}

std::string Beside(const std::string& name) {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  const std::string tool(path, length > 0 ? static_cast<size_t>(length) : 0);
  const size_t slash = tool.rfind('/');
  return slash == std::string::npos ? name : tool.substr(0, slash + 1) + name;
}

std::string Printable(const std::string& text) {
  std::string line = text;
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return line;
}

}  // namespace userstack::tool
