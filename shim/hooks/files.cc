// Hooks: files opened by name, for one name: /etc/resolv.conf, when USERSTACK_RESOLV_CONF stands in
// for it. Everything else is libc's as it was; nothing of ours is asked before the name fits.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdarg>
#include <cstdio>

#include "shim/dispatch/replaced_file.h"
#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

// On x86-64 the names with 64 are other names of the same functions.
constinit Original<int(const char*, int, ...)> real_open("open");
constinit Original<int(const char*, int)> real_open_2("__open_2");
constinit Original<int(int, const char*, int, ...)> real_openat("openat");
constinit Original<FILE*(const char*, const char*)> real_fopen("fopen");
constinit Original<int(const char*, struct stat*)> real_stat("stat");

[[gnu::constructor]] void BindAll() {
  Bind(real_open, real_open_2, real_openat, real_fopen, real_stat);
}

// libc's symbols for what OpenReplaced does.
long OpenInstead(const char* file, int flags, mode_t mode) {
  return OpenReplaced(SYS_openat, AT_FDCWD, Word(file), flags, mode);
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = va_arg(list, mode_t);
  va_end(list);
  if (const char* file = ReplacedFile(path)) return ReturnInt(OpenInstead(file, flags, mode));
  return real_open(path, flags, mode);
}
[[gnu::alias("open"), gnu::nonnull(1)]] int __open(const char* path, int flags, ...);
[[gnu::alias("open"), gnu::nonnull(1)]] int open64(const char* path, int flags, ...);
[[gnu::alias("open"), gnu::nonnull(1)]] int __open64(const char* path, int flags, ...);

int __open_2(const char* path, int flags) {
  if (const char* file = ReplacedFile(path)) return ReturnInt(OpenInstead(file, flags, 0));
  return real_open_2(path, flags);
}
[[gnu::alias("__open_2")]] int __open64_2(const char* path, int flags);

int openat(int directory, const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = va_arg(list, mode_t);
  va_end(list);
  if (const char* file = ReplacedFile(path)) return ReturnInt(OpenInstead(file, flags, mode));
  return real_openat(directory, path, flags, mode);
}
[[gnu::alias("openat"), gnu::nonnull(2)]] int openat64(int directory, const char* path, int flags,
                                                       ...);

FILE* fopen(const char* path, const char* mode) {
  const char* const file = ReplacedFile(path);
  if (file == nullptr) return real_fopen(path, mode);
  FILE* const stream = real_fopen(file, mode);
  if (stream == nullptr) OpenInstead(file, O_RDONLY, 0);  // for the line that says so
  return stream;
}
[[gnu::alias("fopen")]] FILE* fopen64(const char* path, const char* mode);

int stat(const char* path, struct stat* out) noexcept {
  const char* const file = ReplacedFile(path);
  return real_stat(file != nullptr ? file : path, out);
}
int stat64(const char* path, struct stat64* out) noexcept {
  static_assert(sizeof(struct stat64) == sizeof(struct stat));
  return stat(path, reinterpret_cast<struct stat*>(out));
}

}  // extern "C"
