// Mode: what the environment asks for, found out at the first socket() and not before: a program
// that uses no sockets pays nothing and says nothing.
//
// Process-local. g_mode is written once by whoever wins g_decider (and later from kStack to kBroken
// only); g_config is written before g_mode and constant afterwards.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "shim/internal.h"
#include "shim/real.h"
#include "shim/signals.h"

namespace userstack::shim {
namespace {

constexpr int kUndecided = -1;
constexpr size_t kMaxFileBytes = 1 << 20;

constinit std::atomic<int> g_mode{kUndecided};
constinit std::atomic<int> g_decider{0};  // the thread that decides
constinit Config g_config;
constinit ConfigError g_config_error;

}  // namespace

constinit bool g_replaces_files = false;

namespace {

bool FailFile(const char* path, long error, ConfigError* out) {
  snprintf(out->text, sizeof(out->text),
           "USERSTACK_CONFIG=%.200s: cannot be read (errno %ld); accepted is the path of a TOML "
           "file up to 1 MiB",
           path, error);
  return false;
}

bool ReadAndParse(const char* path, Config* config, ConfigError* error) {
  const long fd = RawSyscall(SYS_open, Word(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FailFile(path, -fd, error);
  auto* text = static_cast<char*>(malloc(kMaxFileBytes));
  size_t length = 0;
  long n = text == nullptr ? -ENOMEM : 1;
  while (n > 0 && length < kMaxFileBytes) {
    n = RawSyscall(SYS_read, fd, Word(text + length), static_cast<long>(kMaxFileBytes - length));
    if (n > 0) length += static_cast<size_t>(n);
  }
  RawSyscall(SYS_close, fd);
  if (n == 0) {
    // The path in the error is the one that was given.
    const bool ok = ParseFile(path, text, length, config, error);
    free(text);
    return ok;
  }
  free(text);
  return FailFile(path, n < 0 ? -n : EFBIG, error);
}

Mode Decide() {
  bool ok = ParseEnvironment(environ, &g_config, &g_config_error);
  if (ok && g_config.config_file[0] != '\0') {
    ok = ReadAndParse(g_config.config_file, &g_config, &g_config_error);
  }
  if (ok) ok = FinishConfig(&g_config, &g_config_error);
  ConfigureLog(g_config.log_level, g_config.log_file);
  if (!ok) {
    Log(LogLevel::kError, "%s", g_config_error.text);
    return Mode::kBroken;
  }
  if (!IsConfigured(g_config)) {
    Log(LogLevel::kInfo, "no configuration (USERSTACK_DEV is not set): sockets are the kernel's");
    return Mode::kKernel;
  }
  g_replaces_files = g_config.resolv_conf[0] != '\0';
  return Mode::kStack;
}

bool HasSettings() {
  constexpr std::string_view kPrefix = "USERSTACK_";
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (strncmp(*entry, kPrefix.data(), kPrefix.size()) == 0) return true;
  }
  return false;
}

Mode DecideOnce() {
  if (environ == nullptr) return Mode::kKernel;  // before libc is ready; asked again later
  // Without a system call: who has no configuration makes none but its own.
  int undecided = kUndecided;
  if (!HasSettings() && g_decider.load() == 0 &&
      g_mode.compare_exchange_strong(undecided, static_cast<int>(Mode::kKernel))) {
    return Mode::kKernel;
  }
  // A handler that left by a jump would leave it undecided, and every socket the kernel's.
  const SignalsHeld held;
  const auto self = static_cast<int>(RawSyscall(SYS_gettid));
  int expected = 0;
  if (g_decider.compare_exchange_strong(expected, self)) {
    const Mode mode = Decide();
    g_mode.store(static_cast<int>(mode), std::memory_order_release);
    return mode;
  }
  if (expected == self) return Mode::kKernel;  // our own input and output while deciding
  while (g_mode.load(std::memory_order_acquire) == kUndecided) RawSyscall(SYS_sched_yield);
  return CurrentMode();
}

}  // namespace

Mode CurrentMode() {
  const int mode = g_mode.load(std::memory_order_acquire);
  return mode != kUndecided ? static_cast<Mode>(mode) : DecideOnce();
}

bool MayHaveStack() {
  const int mode = g_mode.load(std::memory_order_acquire);
  return mode != kUndecided ? static_cast<Mode>(mode) != Mode::kKernel : HasSettings();
}

const Config& CurrentConfig() { return g_config; }

void BreakMode() { g_mode.store(static_cast<int>(Mode::kBroken), std::memory_order_release); }

bool IsKernelDestination(const Endpoint& endpoint) {
  for (unsigned i = 0; i < g_config.kernel_count; ++i) {
    if (g_config.kernel[i].Contains(endpoint.address)) return true;
  }
  return false;
}

}  // namespace userstack::shim
