// Check: for our own bugs only. No byte from a peer and no argument from a caller may reach a
// failing Check. CheckFailed is defined by the embedder (the shim logs and aborts; the tests print
// the location and abort).
#pragma once

#include <source_location>

namespace userstack {

[[noreturn]] void CheckFailed(const char* what, const char* file, unsigned line);

inline void Check(bool condition, const char* what,
                  std::source_location where = std::source_location::current()) {
  if (!condition) [[unlikely]]
    CheckFailed(what, where.file_name(), where.line());
}

}  // namespace userstack
