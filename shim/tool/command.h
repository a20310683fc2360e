// Command: what the subcommands of `userstack` share. Each has files of its own and one function
// that adds it to the command line. The tool runs beside wrapped programs, never inside them: it
// may use the heap, exceptions and every library.
//
// Exit statuses are those of env and timeout: 123 when a command may not or cannot be on the stack,
// 125 when the tool itself fails, 126 and 127 when a
// command cannot be run or found, otherwise the command's. stdout is the answer's or the command's;
// a failure is one line on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace userstack::tool {

inline constexpr int kRefused = 123;
inline constexpr int kToolFailed = 125;
inline constexpr int kCannotRun = 126;
inline constexpr int kNotFound = 127;

// One line on stderr, "userstack: ...", unprintable bytes replaced. Returns `status`.
int Fail(int status, const std::string& line);

// `name` in the directory of the running tool, where the build and packages put the library too.
std::string Beside(const std::string& name);

// Text of somebody else (a program's name, a path) as one printable line.
std::string Printable(const std::string& text);

}  // namespace userstack::tool
