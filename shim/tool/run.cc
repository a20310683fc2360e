// Run: see run.h. What the program is decides how it is executed: a dynamic one with the library in
// LD_PRELOAD, a static one by the launcher. Both get both, for the programs that they start. A
// program that the library could not reach is refused, never run on the kernel instead.
#include "shim/tool/run.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "shim/guest/program.h"
#include "shim/guest/start.h"

namespace userstack::tool {
namespace {

using shim::guest::Kind;

// Each has a value.
constexpr const char* kOptions[] = {"--device", "--address", "--gateway",
                                    "--config", "--log",     "--rewrite"};

struct Options {
  std::string device;
  std::string address;
  std::string gateway;
  std::string config;
  std::string log;
  std::string rewrite;
};

// A file with what is known of it; unmapped at its end.
class ProgramFile {
 public:
  explicit ProgramFile(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    error_ = fd < 0 ? errno : 0;
    if (fd < 0) return;
    if (fstat(fd, &status_) != 0 || !S_ISREG(status_.st_mode)) error_ = EACCES;
    capabilities_ = fgetxattr(fd, "security.capability", nullptr, 0) > 0;
    if (error_ == 0 && status_.st_size > 0) {
      bytes_ = mmap(nullptr, static_cast<size_t>(status_.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
      if (bytes_ == MAP_FAILED) error_ = errno;
    }
    close(fd);
    if (error_ == 0 && bytes_ != nullptr) {
      program_ = shim::guest::ReadProgram(static_cast<const uint8_t*>(bytes_),
                                          static_cast<size_t>(status_.st_size));
    }
  }
  ~ProgramFile() {
    if (bytes_ != nullptr && bytes_ != MAP_FAILED) {
      munmap(bytes_, static_cast<size_t>(status_.st_size));
    }
  }
  ProgramFile(const ProgramFile&) = delete;
  ProgramFile& operator=(const ProgramFile&) = delete;

  int error() const { return error_; }
  const shim::guest::Program& program() const { return program_; }
  std::string Interpreter() const { return {program_.interpreter, program_.interpreter_size}; }
  // The kernel would make the process another user's, or give it capabilities; then the dynamic
  // loader ignores LD_PRELOAD.
  bool GainsPrivilege() const {
    const bool user = (status_.st_mode & S_ISUID) != 0 && status_.st_uid != geteuid();
    const bool group = (status_.st_mode & S_ISGID) != 0 && status_.st_gid != getegid();
    return user || group || (capabilities_ && geteuid() != 0);
  }

 private:
  struct stat status_ = {};
  void* bytes_ = nullptr;
  bool capabilities_ = false;
  int error_ = 0;
  shim::guest::Program program_;
};

bool IsRegular(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// As execvp looks for it. "": not found; *status and one line say why.
std::string Find(const std::string& command, int* status) {
  const auto describe = [&](const char* why, int code) {
    *status = Fail(code, command + ": " + why);
    return std::string();
  };
  if (command.find('/') != std::string::npos) {
    if (access(command.c_str(), F_OK) != 0) return describe(strerror(errno), kNotFound);
    if (!IsRegular(command)) return describe("no file that can be run", kCannotRun);
    if (access(command.c_str(), X_OK) != 0) return describe(strerror(errno), kCannotRun);
    return command;
  }
  const char* variable = getenv("PATH");
  const std::string list = variable == nullptr ? "/bin:/usr/bin" : variable;
  bool seen = false;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(':', begin), list.size());
    const std::string directory = list.substr(begin, end - begin);
    const std::string path = (directory.empty() ? "." : directory) + "/" + command;
    if (IsRegular(path)) {
      if (access(path.c_str(), X_OK) == 0) return path;
      seen = true;
    }
    begin = end + 1;
  }
  if (seen) return describe("not executable", kCannotRun);
  return describe("not found in PATH", kNotFound);
}

void SetOption(const char* name, const std::string& value) {
  if (!value.empty()) setenv(name, value.c_str(), 1);
}

void Configure(const Options& options, const std::string& library) {
  SetOption("USERSTACK_DEV", options.device);
  SetOption("USERSTACK_ADDR", options.address);
  SetOption("USERSTACK_GATEWAY", options.gateway);
  SetOption("USERSTACK_CONFIG", options.config);
  SetOption("USERSTACK_LOG", options.log);
  SetOption("USERSTACK_REWRITE", options.rewrite);
  if (getenv("USERSTACK_CONFIG") == nullptr) setenv("USERSTACK_REWRITE", "on", 0);
  const char* given = getenv("LD_PRELOAD");
  const std::string rest = given == nullptr || *given == '\0' ? "" : std::string(":") + given;
  setenv("LD_PRELOAD", (library + rest).c_str(), 1);
}

// 0, or the status after one line. `how` is the interpreter of a script, followed to its end.
int Examine(const std::string& path, int depth, bool* is_static) {
  constexpr int kMostScripts = 5;  // Linux, exec_binprm
  const ProgramFile file(path);
  if (file.error() != 0) return Fail(kCannotRun, path + ": " + strerror(file.error()));
  const shim::guest::Program& program = file.program();
  const auto refuse = [&](const char* why) { return Fail(kRefused, path + ": " + why); };
  switch (program.kind) {
    case Kind::kUnknown:
      return Fail(kCannotRun, path + ": neither a program nor a script");
    case Kind::kCorrupt:
      return Fail(kCannotRun, path + ": a damaged program: " + program.reason);
    case Kind::kForeign:
      return refuse("a program for another machine: the library is for x86-64");
    case Kind::kScript:
      if (access(file.Interpreter().c_str(), X_OK) != 0) {
        return Fail(kNotFound,
                    path + ": its interpreter " + file.Interpreter() + ": " + strerror(errno));
      }
      if (depth == kMostScripts) return Fail(kCannotRun, path + ": too many scripts in a row");
      return Examine(file.Interpreter(), depth + 1, is_static);
    case Kind::kDynamic:
      if (access(file.Interpreter().c_str(), X_OK) != 0) {
        return Fail(kNotFound,
                    path + ": its loader " + file.Interpreter() + ": " + strerror(errno));
      }
      if (file.Interpreter().find("/ld-musl-") != std::string::npos) {
        return refuse("linked dynamically with musl, and the library is for glibc");
      }
      break;
    case Kind::kObject:
      break;
    case Kind::kStatic:
    case Kind::kStaticPie:
      *is_static = true;
      break;
  }
  if (file.GainsPrivilege()) {
    return refuse("it changes its user, group or capabilities, so that the library is not loaded");
  }
  return 0;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

// For a static program or a script of one the library's own execve finds the launcher: the tool is
// not wrapped, so it does the same by hand.
int RunStatic(const std::string& path, std::vector<std::string> arguments) {
  std::string program = path;
  for (;;) {
    const ProgramFile file(program);
    if (file.program().kind != Kind::kScript) break;
    arguments[0] = program;
    if (file.program().argument_size != 0) {
      arguments.insert(arguments.begin(), {file.program().argument, file.program().argument_size});
    }
    program = file.Interpreter();
    arguments.insert(arguments.begin(), program);
  }
  const std::string launcher = Beside(shim::guest::kLauncher);
  setenv(shim::guest::kProgramVariable, program.c_str(), 1);
  execv(launcher.c_str(), Pointers(arguments).data());
  return Fail(kToolFailed, launcher + ": " + strerror(errno));
}

int Run(const Options& options, std::vector<std::string> arguments) {
  if (arguments.empty())
    return Fail(kToolFailed, "run: no command (userstack run --help says more)");
  const std::string library = Beside("libuserstack.so");
  if (access(library.c_str(), R_OK) != 0)
    return Fail(kToolFailed, library + ": " + strerror(errno));
  Configure(options, library);
  if (getenv("USERSTACK_DEV") == nullptr && getenv("USERSTACK_CONFIG") == nullptr) {
    return Fail(kToolFailed,
                "run: no stack: --device, --config, USERSTACK_DEV or USERSTACK_CONFIG names it");
  }
  int status = 0;
  const std::string path = Find(arguments[0], &status);
  if (path.empty()) return status;
  bool is_static = false;
  status = Examine(path, 0, &is_static);
  if (status != 0) return status;
  const char* rewrite = getenv("USERSTACK_REWRITE");
  if (is_static && rewrite != nullptr && strcmp(rewrite, "off") == 0) {
    return Fail(kRefused, path + ": a static program, and USERSTACK_REWRITE is off");
  }
  if (is_static) return RunStatic(path, std::move(arguments));
  execv(path.c_str(), Pointers(arguments).data());
  return Fail(errno == ENOENT ? kNotFound : kCannotRun, path + ": " + strerror(errno));
}

}  // namespace

std::string DropSeparator(int* argc, char** argv) {
  if (*argc < 3 || strcmp(argv[1], "run") != 0) return "";
  // Every option but --help has a value, which may follow.
  int at = 2;
  while (at < *argc && argv[at][0] == '-' && strcmp(argv[at], "--") != 0) {
    const std::string option(argv[at], strcspn(argv[at], "="));
    if (option == "--help" || option == "-h") return "";
    if (std::find(std::begin(kOptions), std::end(kOptions), option) == std::end(kOptions)) {
      return option;
    }
    at += strchr(argv[at], '=') == nullptr ? 2 : 1;
  }
  if (at >= *argc || strcmp(argv[at], "--") != 0) return "";
  for (; at < *argc; ++at) argv[at] = argv[at + 1];
  --*argc;
  return "";
}

void AddRun(CLI::App& app, int* status) {
  const auto options = std::make_shared<Options>();
  CLI::App* const command = app.add_subcommand(
      "run",
      "run [OPTIONS] [--] COMMAND [ARGUMENTS...]: on a stack of its own, and what it starts.");
  command->add_option("--device", options->device, "USERSTACK_DEV, as tap:us0 or xdp:eth1");
  command->add_option("--address", options->address, "USERSTACK_ADDR, as 10.0.0.2/24");
  command->add_option("--gateway", options->gateway, "USERSTACK_GATEWAY");
  command->add_option("--config", options->config, "USERSTACK_CONFIG, a TOML file");
  command->add_option("--log", options->log, "USERSTACK_LOG: error, warn, info or debug");
  command->add_option("--rewrite", options->rewrite,
                      "USERSTACK_REWRITE: on (here the default) or off");
  command->prefix_command();
  command->callback([command, options, status] { *status = Run(*options, command->remaining()); });
}

}  // namespace userstack::tool
