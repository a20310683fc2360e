// Doctor: `userstack doctor COMMAND`: what would happen to a command on the stack, before it runs.
#pragma once

#include "shim/tool/command.h"

namespace userstack::tool {

void AddDoctor(CLI::App& app, int* status);

}  // namespace userstack::tool
