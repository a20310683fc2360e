// Inspection: what a file would be if it were executed, and which system calls its code holds, told
// from bytes alone: nothing of it is run, but the dynamic loader to name its libraries. The verdict
// on system calls is the library's own finder's (shim/rewrite), which is why it can be believed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace userstack::tool {

enum class ProgramKind : uint8_t {
  kDynamic,    // LD_PRELOAD reaches it
  kStatic,     // it does not
  kOtherLibc,  // dynamic, by another loader than glibc's
  kForeign,    // of another machine
  kUnknown,    // no program that is known
};

// The calls in one object.
struct ObjectReport {
  std::string path;
  bool is_go = false;
  bool is_libc = false;
  uint32_t hits = 0;   // `0f 05` in its code
  uint32_t sites = 0;  // proved, and they may concern a socket
  uint32_t left = 0;   // of these, without a safe way to rewrite them
  uint32_t irrelevant = 0;
  uint32_t unproved = 0;  // no system call, as far as is known
  uint32_t unknown = 0;   // of those: they may be, all the same
  bool has_io_uring = false;
};

struct Inspection {
  std::string path;                  // of the ELF file in the end
  std::vector<std::string> scripts;  // what led there: each a script with `#!`
  ProgramKind kind = ProgramKind::kUnknown;
  std::string machine;  // of kForeign
  std::string loader;   // PT_INTERP
  bool is_go = false;
  bool raises_privilege = false;  // setuid or setgid to somebody else, or file capabilities
  std::string privilege;          // how
  bool filters_itself = false;    // it links libseccomp
  std::vector<ObjectReport> objects;
  std::vector<std::string> missing;  // libraries that are not found
};

// `command` as execvp takes it. 0, 126 or 127 with *why set.
int Inspect(const std::string& command, Inspection* inspection, std::string* why);

}  // namespace userstack::tool
