// Exec plan: what has to be executed so that a program stays on the stack. A dynamic program is
// executed as it is, and LD_PRELOAD brings the library; a static one is loaded by the launcher
// beside the library; a script is what its interpreter is. What cannot be had on the stack is the
// kernel's, with one line.
//
// Allocates nothing: it is made between fork and exec.
#pragma once

#include <linux/limits.h>

#include <cstddef>

#include "shim/dispatch/scratch.h"

namespace userstack::shim::guest {

class ExecPlan {
 public:
  // `path` as execve takes it; both arguments outlive the plan.
  ExecPlan(const char* path, char* const* arguments);
  const char* path() const { return path_; }
  char* const* arguments() const { return arguments_; }
  // True: path, arguments and an assignment for the environment are other than what was given.
  bool changed() const { return variable_[0] != '\0'; }
  const char* variable() const { return changed() ? variable_ : nullptr; }

 private:
  static constexpr size_t kLevels = 5;    // Linux, exec_binprm: so many scripts in a row
  static constexpr size_t kName = 24;     // of the variable
  static constexpr size_t kWord = 256;    // BINPRM_BUF_SIZE
  static constexpr size_t kInline = 128;  // arguments

  struct Interpreter {
    char path[kWord];
    char argument[kWord];  // "": none
  };

  enum class Look : unsigned char { kLeave, kLoad, kScript };

  Look LookAt(const char* path, Interpreter* interpreter) const;
  void UseLauncher(const char* program, size_t levels);

  const char* path_;
  char* const* arguments_;
  Scratch<char*, kInline> room_;
  Interpreter levels_[kLevels];
  char variable_[kName + PATH_MAX];
};

// Finds the launcher beside the library; when the library is loaded, because later it may be in a
// child of fork.
void FindLauncher();

}  // namespace userstack::shim::guest
