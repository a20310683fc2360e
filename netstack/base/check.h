// Check: for our own bugs only. No byte from a peer and no argument from a caller may reach a
// failing Check. CheckFailed is defined by the embedder (the shim logs and aborts; the tests print
// the location and abort).
#pragma once

namespace userstack {

[[noreturn]] void CheckFailed(const char* what, const char* file, unsigned line);

// Not std::source_location: clang 14 has none with libstdc++.
inline void Check(bool condition, const char* what, const char* file = __builtin_FILE(),
                  unsigned line = __builtin_LINE()) {
  if (!condition) [[unlikely]]
    CheckFailed(what, file, line);
}

}  // namespace userstack
