// Hooks: stdio over sockets. libc's streams read and write past the exported symbols, so a stream
// over a socket of the stack is a cookie stream whose functions come here. fileno() stays right:
// the stream carries the number.
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "shim/hooks/hook.h"
#include "shim/hooks/processes.h"

namespace userstack::shim {
namespace {

constinit Original<FILE*(int, const char*)> real_fdopen("fdopen");
constinit Original<int(int, const char*, va_list)> real_vdprintf("vdprintf");
constinit Original<int(int, int, const char*, va_list)> real_vdprintf_chk("__vdprintf_chk");

[[gnu::constructor]] void BindAll() { Bind(real_fdopen, real_vdprintf, real_vdprintf_chk); }

std::atomic<bool> g_streams_made{false};

int Number(void* cookie) { return static_cast<int>(reinterpret_cast<intptr_t>(cookie)); }

ssize_t ReadStream(void* cookie, char* buffer, size_t size) {
  return Return(sys_read(Number(cookie), buffer, size));
}

// Everything, or as much as went before the error; libc takes less than `size` for an error.
ssize_t WriteAll(int fd, const char* data, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = Return(sys_write(fd, data + done, size - done));
    if (n < 0) break;
    done += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(done);
}

ssize_t WriteStream(void* cookie, const char* data, size_t size) {
  return WriteAll(Number(cookie), data, size);
}

// Streams ask for their position when they turn from reading to writing, and take ESPIPE, and no
// other error, as "this has none".
int SeekStream(void*, off64_t*, int) {
  errno = ESPIPE;
  return -1;
}

int CloseStream(void* cookie) { return ReturnInt(sys_close(Number(cookie))); }

bool IsMode(const char* mode) {
  return mode != nullptr && (mode[0] == 'r' || mode[0] == 'w' || mode[0] == 'a');
}

FILE* OpenStream(int fd, const char* mode) {
  if (!IsMode(mode)) {
    errno = EINVAL;
    return nullptr;
  }
  // Flags like 'e' and 'm' are of the opening of files.
  const char plain[] = {mode[0], std::strchr(mode, '+') != nullptr ? '+' : '\0', '\0'};
  const cookie_io_functions_t functions{ReadStream, WriteStream, SeekStream, CloseStream};
  FILE* stream = fopencookie(reinterpret_cast<void*>(static_cast<intptr_t>(fd)), plain, functions);
  if (stream == nullptr) return nullptr;
  stream->_fileno = fd;
  g_streams_made.store(true, std::memory_order_relaxed);
  return stream;
}

int PrintTo(int fd, const char* format, va_list arguments) {
  char small[1024];
  va_list again;
  va_copy(again, arguments);
  const int length = vsnprintf(small, sizeof small, format, arguments);
  int result = -1;
  if (length >= 0 && static_cast<size_t>(length) < sizeof small) {
    result = WriteAll(fd, small, static_cast<size_t>(length)) == length ? length : -1;
  } else if (length >= 0) {
    auto* large = static_cast<char*>(malloc(static_cast<size_t>(length) + 1));
    if (large != nullptr) {
      vsnprintf(large, static_cast<size_t>(length) + 1, format, again);
      result = WriteAll(fd, large, static_cast<size_t>(length)) == length ? length : -1;
      const int saved = errno;
      free(large);
      errno = saved;
    }
  }
  va_end(again);
  return result;
}

}  // namespace

void FlushStreams() {
  if (g_streams_made.load(std::memory_order_relaxed)) fflush(nullptr);
}

}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

FILE* fdopen(int fd, const char* mode) noexcept {
  if (!IsOurs(fd)) return real_fdopen(fd, mode);
  return OpenStream(fd, mode);
}

int vdprintf(int fd, const char* format, va_list arguments) {
  if (!IsOurs(fd)) return real_vdprintf(fd, format, arguments);
  return PrintTo(fd, format, arguments);
}

int dprintf(int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = vdprintf(fd, format, arguments);
  va_end(arguments);
  return result;
}

int __vdprintf_chk(int fd, int flag, const char* format, va_list arguments) {
  if (!IsOurs(fd)) return real_vdprintf_chk(fd, flag, format, arguments);
  return PrintTo(fd, format, arguments);
}

int __dprintf_chk(int fd, int flag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = __vdprintf_chk(fd, flag, format, arguments);
  va_end(arguments);
  return result;
}

}  // extern "C"
