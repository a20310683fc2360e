// Internal: what the files behind runtime.h share with each other. Nothing here is for dispatch/.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shim/config.h"
#include "shim/descriptors.h"
#include "shim/runtime.h"

namespace userstack::shim {

// --- configuration (mode.cc) ---
// Valid once CurrentMode() has returned kStack; never changes after.
const Config& CurrentConfig();
// From now on the stack cannot be had in this process.
void BreakMode();

// --- log (log.cc) ---
void ConfigureLog(LogLevel level, const char* file);
// Called before the line of a failed Check is written (audit.cc).
void OnCheckFailed();

// --- our own descriptors (internal_descriptors.cc) ---
// Moves `fd` above the program's numbers, close-on-exec, and marks it ours. Returns the new number,
// or -errno (then `fd` is closed too).
int MoveInternal(int fd);
// A descriptor that already is where it should be (inherited).
void MarkInternal(int fd);
void CloseInternal(int fd);

}  // namespace userstack::shim
