// Log: one line to stderr, or to USERSTACK_LOG_FILE. Process-local; no lock: a line is one write.
// Never allocates, keeps errno, uses raw system calls only.
#include <fcntl.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include "netstack/base/check.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/runtime.h"

namespace userstack::shim {
namespace {

constinit std::atomic<int> g_log_level{static_cast<int>(LogLevel::kWarn)};
constinit std::atomic<int> g_log_descriptor{2};

void WriteLine(const char* line, size_t length) {
  const int descriptor = g_log_descriptor.load(std::memory_order_relaxed);
  // A program that closed stderr may have a socket of the stack there now; the pump has none at
  // all, so as not to keep the program's from its end of file.
  if (descriptor == 2 && (IsOurs(2) || t_state.own_files)) return;
  RawSyscall(SYS_write, descriptor, Word(line), static_cast<long>(length));
}

}  // namespace

void ConfigureLog(LogLevel level, const char* file) {
  g_log_level.store(static_cast<int>(level), std::memory_order_relaxed);
  if (file[0] == '\0') return;
  const long opened =
      RawSyscall(SYS_open, Word(file), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (opened < 0) {
    Log(LogLevel::kWarn,
        "USERSTACK_LOG_FILE=%.200s: cannot be opened (errno %ld); logging to "
        "stderr",
        file, -opened);
    return;
  }
  const int moved = MoveInternal(static_cast<int>(opened));
  if (moved >= 0) g_log_descriptor.store(moved, std::memory_order_relaxed);
}

int LogDescriptor() { return g_log_descriptor.load(std::memory_order_relaxed); }

void Log(LogLevel level, const char* format, ...) {
  if (static_cast<int>(level) > g_log_level.load(std::memory_order_relaxed)) return;
  const int saved = errno;
  char line[1024] = "userstack: ";
  constexpr size_t kPrefixLength = 11;
  va_list arguments;
  va_start(arguments, format);
  const int n =
      vsnprintf(line + kPrefixLength, sizeof(line) - kPrefixLength - 1, format, arguments);
  va_end(arguments);
  size_t length = kPrefixLength + (n > 0 ? static_cast<size_t>(n) : 0);
  if (length > sizeof(line) - 2) length = sizeof(line) - 2;
  line[length++] = '\n';
  WriteLine(line, length);
  errno = saved;
}

}  // namespace userstack::shim

namespace userstack {

void CheckFailed(const char* what, const char* file, unsigned line) {
  shim::OnCheckFailed(what);
  shim::Log(shim::LogLevel::kError, "internal error: %s (%s:%u)", what, file, line);
  __builtin_trap();
}

}  // namespace userstack
