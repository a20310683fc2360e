// Explain: `userstack explain PID`: each socket of a live process, whose it is, and why.
#pragma once

#include "shim/tool/command.h"

namespace userstack::tool {

void AddExplain(CLI::App& app, int* status);

}  // namespace userstack::tool
