// Hooks: exec, posix_spawn, system and popen. The stack's own descriptors become inheritable for
// the time of the call, and the new program's environment gets the one assignment that tells it
// where they are; everything else is passed on as the program gave it.
#include <alloca.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <paths.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "shim/dispatch/scratch.h"
#include "shim/guest/exec_plan.h"
#include "shim/hooks/hook.h"
#include "shim/hooks/processes.h"
#include "shim/signals.h"

namespace userstack::shim {
namespace {

using Arguments = char* const*;

constinit Original<int(const char*, Arguments, Arguments)> real_execve("execve");
constinit Original<int(const char*, Arguments, Arguments)> real_execvpe("execvpe");
constinit Original<int(int, Arguments, Arguments)> real_fexecve("fexecve");
constinit Original<int(int, const char*, Arguments, Arguments, int)> real_execveat("execveat");
using SpawnFunction = int(pid_t*, const char*, const posix_spawn_file_actions_t*,
                          const posix_spawnattr_t*, Arguments, Arguments);
constinit Original<SpawnFunction> real_posix_spawn("posix_spawn");
constinit Original<SpawnFunction> real_posix_spawnp("posix_spawnp");
constinit Original<int(const char*)> real_system("system");
constinit Original<FILE*(const char*, const char*)> real_popen("popen");

[[gnu::constructor]] void BindAll() {
  Bind(real_execve, real_execvpe, real_fexecve, real_execveat, real_posix_spawn, real_posix_spawnp,
       real_system, real_popen);
}

size_t Count(Arguments list) {
  size_t n = 0;
  while (list != nullptr && list[n] != nullptr) ++n;
  return n;
}

// The program's environment with assignments in place of older ones of the same names; those that
// are null are none.
class Environment {
 public:
  Environment(Arguments given, const char* attach, const char* program = nullptr)
      : given_(given),
        room_(attach == nullptr && program == nullptr ? 0 : Count(given) + kOurs + 1) {
    if ((attach == nullptr && program == nullptr) || !room_.ok()) return;
    size_t n = 0;
    for (size_t i = 0; i < Count(given); ++i) {
      if (!IsOf(given[i], attach) && !IsOf(given[i], program)) room_[n++] = given[i];
    }
    for (const char* assignment : {attach, program}) {
      if (assignment != nullptr) room_[n++] = const_cast<char*>(assignment);
    }
    room_[n] = nullptr;
    given_ = room_.data();
  }
  Arguments get() const { return given_; }

 private:
  static constexpr size_t kOurs = 2;

  static bool IsOf(const char* variable, const char* assignment) {
    if (assignment == nullptr) return false;
    const char* equals = std::strchr(assignment, '=');
    const size_t name = equals == nullptr ? std::strlen(assignment) : equals - assignment + 1;
    return std::strncmp(variable, assignment, name) == 0;
  }

  Arguments given_;
  Scratch<char*, 256> room_;
};

// Executes `path`, or the launcher for it. Returns only when it failed.
int ExecutePath(const char* path, Arguments arguments, Arguments environment) {
  const guest::ExecPlan plan(path, arguments);
  const Environment prepared(environment, PrepareExec(), plan.variable());
  const int result = real_execve(plan.path(), plan.arguments(), prepared.get());
  const int saved = errno;
  ExecFailed();
  errno = saved;
  return result;
}

// Where execvp would find `file` first; false: it has to find out itself (not there, not a
// program).
bool FindFile(const char* file, char (&path)[PATH_MAX]) {
  const char* list = getenv("PATH");
  if (list == nullptr || *file == '\0') return false;
  for (const char* at = list;; ++at) {
    const size_t length = std::strcspn(at, ":");
    const int written = std::snprintf(path, sizeof path, "%.*s%s%s", static_cast<int>(length), at,
                                      length == 0 ? "" : "/", file);
    if (written > 0 && written < PATH_MAX && RawSyscall(SYS_access, Word(path), X_OK) == 0) {
      return true;
    }
    at += length;
    if (*at == '\0') return false;
  }
}

// What execveat and fexecve mean, as a path; false: it has none (a deleted file).
bool PathOf(int directory, const char* path, char (&out)[PATH_MAX]) {
  if (*path == '/' || (directory == AT_FDCWD && *path != '\0')) {
    return std::snprintf(out, sizeof out, "%s", path) < PATH_MAX;
  }
  char link[32];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
  const long length = RawSyscall(SYS_readlink, Word(link), Word(out), PATH_MAX - 1);
  if (length <= 0 || out[0] != '/') return false;
  const auto room = static_cast<size_t>(PATH_MAX - length);
  const int more = std::snprintf(out + length, room, "%s%s", *path == '\0' ? "" : "/", path);
  return static_cast<size_t>(more) < room;
}

// A file as execvp takes it. `*path` is where it is, when the launcher has to be told.
bool NeedsLauncher(const char* file, Arguments arguments, char (&found)[PATH_MAX],
                   const char** path) {
  *path = file;
  if (std::strchr(file, '/') == nullptr) {
    if (!FindFile(file, found)) return false;
    *path = found;
  }
  return guest::ExecPlan(*path, arguments).changed();
}

// Runs `call(environment)`, which returns only when it failed.
template <typename Call>
int Execute(Arguments environment, Call call) {
  const Environment prepared(environment, PrepareExec());
  const int result = call(prepared.get());
  const int saved = errno;
  ExecFailed();
  errno = saved;
  return result;
}

// Calls `call` with the arguments of execl and its relatives, the terminating null included. They
// are on this frame's stack: a child of fork must not allocate. `list` is left behind the null.
template <typename Call>
int WithList(const char* first, va_list list, Call call) {
  va_list counting;
  va_copy(counting, list);
  size_t count = 0;
  for (const char* a = first; a != nullptr; a = va_arg(counting, const char*)) ++count;
  va_end(counting);
  auto** all = static_cast<char**>(alloca((count + 1) * sizeof(char*)));
  all[0] = const_cast<char*>(first);
  for (size_t i = 1; i <= count; ++i) all[i] = va_arg(list, char*);
  return call(all);
}

int Spawn(Original<SpawnFunction>& original, pid_t* pid, const char* path,
          const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
          Arguments arguments, Arguments environment) {
  char found[PATH_MAX];
  const char* where = path;
  const bool searches = &original == &real_posix_spawnp && std::strchr(path, '/') == nullptr;
  if (searches && FindFile(path, found)) where = found;
  const guest::ExecPlan plan(where, arguments);
  const char* const program = plan.changed() ? plan.path() : path;
  if (!IsAttached()) {
    const Environment prepared(environment, nullptr, plan.variable());
    return original(pid, program, actions, attributes, plan.arguments(), prepared.get());
  }
  pid_t child = -1;
  PrepareFork();
  int result = 0;
  {
    const Environment prepared(environment, PrepareExec(), plan.variable());
    result = original(&child, program, actions, attributes, plan.arguments(), prepared.get());
    ExecFailed();
  }
  ForkInParent(result == 0 ? child : -1);
  if (result == 0 && pid != nullptr) *pid = child;
  return result;
}

// What libc's system() does around its child: SIGINT and SIGQUIT ignored, SIGCHLD held back.
class QuietSignals {
 public:
  QuietSignals() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    SignalAction(SIGINT, &ignore, &interrupt_);
    SignalAction(SIGQUIT, &ignore, &quit_);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, &mask_);
  }
  ~QuietSignals() {
    SignalAction(SIGINT, &interrupt_, nullptr);
    SignalAction(SIGQUIT, &quit_, nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  void Describe(posix_spawnattr_t* attributes) const {
    sigset_t defaults;
    sigemptyset(&defaults);
    if (interrupt_.sa_handler != SIG_IGN) sigaddset(&defaults, SIGINT);
    if (quit_.sa_handler != SIG_IGN) sigaddset(&defaults, SIGQUIT);
    posix_spawnattr_setsigmask(attributes, &mask_);
    posix_spawnattr_setsigdefault(attributes, &defaults);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }

 private:
  struct sigaction interrupt_ {};
  struct sigaction quit_ {};
  sigset_t mask_;
};

int RunShell(const char* command) {
  const QuietSignals quiet;
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  quiet.Describe(&attributes);
  char shell[] = "sh";
  char option[] = "-c";
  char* const arguments[] = {shell, option, const_cast<char*>(command), nullptr};
  pid_t child = -1;
  const int spawned =
      Spawn(real_posix_spawn, &child, _PATH_BSHELL, nullptr, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  // As a shell that could not be run would have said.
  if (spawned != 0) return W_EXITCODE(127, 0);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return status;
}

}  // namespace

int ExecuteRaw(const char* path, Arguments arguments, Arguments environment) {
  return ExecutePath(path, arguments, environment);
}

}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int execve(const char* path, char* const arguments[], char* const environment[]) noexcept {
  return ExecuteRaw(path, arguments, environment);
}

int execv(const char* path, char* const arguments[]) noexcept {
  return execve(path, arguments, environ);
}

int execvpe(const char* file, char* const arguments[], char* const environment[]) noexcept {
  char found[PATH_MAX];
  const char* path = nullptr;
  if (NeedsLauncher(file, arguments, found, &path)) {
    return ExecutePath(path, arguments, environment);
  }
  return Execute(environment,
                 [=](Arguments prepared) { return real_execvpe(file, arguments, prepared); });
}

int execvp(const char* file, char* const arguments[]) noexcept {
  return execvpe(file, arguments, environ);
}

int fexecve(int fd, char* const arguments[], char* const environment[]) noexcept {
  char path[PATH_MAX];
  if (PathOf(fd, "", path) && guest::ExecPlan(path, arguments).changed()) {
    return ExecutePath(path, arguments, environment);
  }
  return Execute(environment,
                 [=](Arguments prepared) { return real_fexecve(fd, arguments, prepared); });
}

int execveat(int directory, const char* path, char* const arguments[], char* const environment[],
             int flags) noexcept {
  char found[PATH_MAX];
  if (PathOf(directory, path, found) && guest::ExecPlan(found, arguments).changed()) {
    return ExecutePath(found, arguments, environment);
  }
  return Execute(environment, [=](Arguments prepared) {
    return real_execveat(directory, path, arguments, prepared, flags);
  });
}

int execl(const char* path, const char* argument, ...) noexcept {
  va_list list;
  va_start(list, argument);
  const int result =
      WithList(argument, list, [=](Arguments all) { return execve(path, all, environ); });
  va_end(list);
  return result;
}

int execlp(const char* file, const char* argument, ...) noexcept {
  va_list list;
  va_start(list, argument);
  const int result =
      WithList(argument, list, [=](Arguments all) { return execvpe(file, all, environ); });
  va_end(list);
  return result;
}

int execle(const char* path, const char* argument, ...) noexcept {
  va_list list;
  va_start(list, argument);
  const int result = WithList(argument, list, [path, &list](Arguments all) {
    return execve(path, all, va_arg(list, Arguments));  // the environment follows the null
  });
  va_end(list);
  return result;
}

int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const arguments[],
                char* const environment[]) {
  return Spawn(real_posix_spawn, pid, path, actions, attributes, arguments, environment);
}

int posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                 const posix_spawnattr_t* attributes, char* const arguments[],
                 char* const environment[]) {
  return Spawn(real_posix_spawnp, pid, file, actions, attributes, arguments, environment);
}

int system(const char* command) {
  if (command == nullptr || !IsAttached()) return real_system(command);
  return RunShell(command);
}

// libc spawns the child with the process's own environment: for the time of the call that is the
// prepared one. A setenv() in another thread at that moment would be lost, as it may be by libc's
// own rules.
FILE* popen(const char* command, const char* mode) {
  if (!IsAttached()) return real_popen(command, mode);
  char** const saved = environ;
  const Environment prepared(saved, PrepareExec());
  environ = const_cast<char**>(prepared.get());
  FILE* const stream = real_popen(command, mode);
  environ = saved;
  const int error = errno;
  ExecFailed();
  errno = error;
  return stream;
}

}  // extern "C"
