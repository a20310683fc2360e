// Run: `userstack run -- COMMAND`: a program on the stack, whatever it is linked with.
#pragma once

#include "shim/tool/command.h"

namespace userstack::tool {

void AddRun(CLI::App& app, int* status);

// CLI11 has no `--` in front of a command that has options of its own: it is taken out of the
// arguments of `userstack run`, the only place where it means that. Empty, or an option in front of
// the command that `run` does not have.
std::string DropSeparator(int* argc, char** argv);

}  // namespace userstack::tool
