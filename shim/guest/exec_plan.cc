// Exec plan: see exec_plan.h.
#include "shim/guest/exec_plan.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "shim/guest/program.h"
#include "shim/guest/start.h"
#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim::guest {
namespace {

constinit char g_launcher[PATH_MAX] = {};  // "": there is none

size_t Count(char* const* list) {
  size_t count = 0;
  while (list != nullptr && list[count] != nullptr) ++count;
  return count;
}

// The file's bytes, for the time of one look.
class MappedFile {
 public:
  explicit MappedFile(const char* path) {
    const long fd = RawSyscall(SYS_open, Word(path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    if (RawSyscall(SYS_fstat, fd, Word(&status_)) == 0 && S_ISREG(status_.st_mode) &&
        status_.st_size > 0) {
      const long bytes = RawSyscall(SYS_mmap, 0, status_.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
      if (bytes > 0 || bytes < -4096) bytes_ = reinterpret_cast<const uint8_t*>(bytes);
    }
    RawSyscall(SYS_close, fd);
  }
  ~MappedFile() {
    if (bytes_ != nullptr) RawSyscall(SYS_munmap, Word(bytes_), status_.st_size);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* bytes() const { return bytes_; }
  size_t size() const { return static_cast<size_t>(status_.st_size); }
  bool ChangesIdentity() const { return (status_.st_mode & (S_ISUID | S_ISGID)) != 0; }

 private:
  struct stat status_ = {};
  const uint8_t* bytes_ = nullptr;
};

void CopyWord(const char* from, size_t size, char* to, size_t room) {
  if (size >= room) size = room - 1;
  memcpy(to, from, size);
  to[size] = '\0';
}

// Only for programs that would have come to the stack: the mode is not decided before.
bool MayLoad(const char* path, bool changes_identity) {
  if (CurrentMode() != Mode::kStack) return false;
  const char* why = nullptr;
  if (changes_identity) {
    why = "it changes its user or group";
  } else if (!CurrentConfig().rewrite) {
    why = "USERSTACK_REWRITE is not on";
  } else if (g_launcher[0] == '\0') {
    why = "userstack-load is not beside the library";
  }
  if (why == nullptr) return true;
  Log(LogLevel::kWarn, "%.300s is a static program and runs on the kernel: %s", path, why);
  return false;
}

}  // namespace

ExecPlan::ExecPlan(const char* path, char* const* arguments)
    : path_(path), arguments_(arguments), room_(Count(arguments) + 2 * kLevels + 2) {
  variable_[0] = '\0';
  const char* program = path;
  for (size_t level = 0; program != nullptr; ++level) {
    Interpreter* const next = level < kLevels ? &levels_[level] : nullptr;
    const Look look = LookAt(program, next);
    if (look == Look::kLoad) UseLauncher(program, level);
    if (look != Look::kScript) return;
    program = levels_[level].path;
  }
}

ExecPlan::Look ExecPlan::LookAt(const char* path, Interpreter* interpreter) const {
  const MappedFile file(path);
  if (file.bytes() == nullptr || RawSyscall(SYS_access, Word(path), X_OK) != 0) return Look::kLeave;
  const Program program = ReadProgram(file.bytes(), file.size());
  switch (program.kind) {
    case Kind::kStatic:
    case Kind::kStaticPie:
      return MayLoad(path, file.ChangesIdentity()) ? Look::kLoad : Look::kLeave;
    case Kind::kScript:
      if (interpreter == nullptr) return Look::kLeave;
      CopyWord(program.interpreter, program.interpreter_size, interpreter->path, kWord);
      CopyWord(program.argument, program.argument_size, interpreter->argument, kWord);
      return Look::kScript;
    case Kind::kDynamic:
    case Kind::kObject:
    case Kind::kForeign:
    case Kind::kUnknown:
    case Kind::kCorrupt:
      return Look::kLeave;
  }
  return Look::kLeave;
}

// Linux, load_script: the interpreter and its argument come in front of the script's path, which
// replaces the first argument.
void ExecPlan::UseLauncher(const char* program, size_t levels) {
  if (!room_.ok()) return;
  size_t n = 0;
  for (size_t level = levels; level-- > 0;) {
    room_[n++] = levels_[level].path;
    if (levels_[level].argument[0] != '\0') room_[n++] = levels_[level].argument;
  }
  const size_t given = Count(arguments_);
  size_t next = 0;
  if (levels > 0) {
    room_[n++] = const_cast<char*>(path_);
    next = 1;
  }
  for (; next < given; ++next) room_[n++] = arguments_[next];
  room_[n] = nullptr;
  snprintf(variable_, sizeof variable_, "%s=%s", kProgramVariable, program);
  path_ = g_launcher;
  arguments_ = room_.data();
}

void FindLauncher() {
  Dl_info own{};
  if (dladdr(reinterpret_cast<void*>(&userstack_guest_entry), &own) == 0) return;
  const char* slash = strrchr(own.dli_fname, '/');
  const int length = slash == nullptr ? 0 : static_cast<int>(slash + 1 - own.dli_fname);
  snprintf(g_launcher, sizeof g_launcher, "%.*s%s", length, own.dli_fname, kLauncher);
  if (RawSyscall(SYS_access, Word(g_launcher), X_OK) != 0) g_launcher[0] = '\0';
}

}  // namespace userstack::shim::guest
