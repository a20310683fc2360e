// Inspection: see inspection.h.
#include "shim/tool/inspection.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "shim/rewrite/decoder.h"
#include "shim/rewrite/finder.h"
#include "shim/rewrite/image.h"
#include "shim/tool/command.h"

namespace userstack::tool {
namespace {

constexpr int kMostScripts = 5;  // Linux: so many in a row
constexpr char kLoader[] = "/lib64/ld-linux-x86-64.so.2";

// A file's bytes while it lives.
class Bytes {
 public:
  explicit Bytes(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
      size_ = static_cast<size_t>(status.st_size);
      void* const mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
      data_ = mapped == MAP_FAILED ? nullptr : static_cast<const uint8_t*>(mapped);
    }
    if (fd >= 0) close(fd);
  }
  ~Bytes() {
    if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  const uint8_t* data() const { return data_; }
  size_t size() const { return data_ == nullptr ? 0 : size_; }
  std::string Text(size_t at, size_t most) const {
    if (at >= size()) return {};
    const char* const text = reinterpret_cast<const char*>(data_ + at);
    return std::string(text, strnlen(text, std::min(most, size() - at)));
  }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// execvp's search. 0, 126 or 127.
int FindCommand(const std::string& command, std::string* path) {
  const auto look = [path](const std::string& candidate) {
    struct stat status;
    if (stat(candidate.c_str(), &status) != 0) return 127;
    *path = candidate;
    return S_ISREG(status.st_mode) && access(candidate.c_str(), X_OK) == 0 ? 0 : 126;
  };
  if (command.find('/') != std::string::npos) return look(command);
  const char* const variable = getenv("PATH");
  std::istringstream directories(variable == nullptr ? "/usr/bin:/bin" : variable);
  int worst = 127;
  for (std::string directory; getline(directories, directory, ':');) {
    const int found = look((directory.empty() ? "." : directory) + "/" + command);
    if (found == 0) return 0;
    if (found == 126) worst = 126;
  }
  return worst;
}

// "#!/usr/bin/env python3": what is executed in the end. "" when the line names nothing.
std::string InterpreterOf(const std::string& line) {
  std::istringstream words(line.substr(2, line.find('\n') - 2));
  std::string interpreter;
  std::string argument;
  words >> interpreter >> argument;
  const bool is_env = interpreter == "/usr/bin/env" || interpreter == "/bin/env";
  if (is_env && argument == "-S") words >> argument;
  if (!is_env || argument.empty() || argument[0] == '-') return interpreter;
  std::string found;
  return FindCommand(argument, &found) == 0 ? found : interpreter;
}

const char* MachineName(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "i386";
    case EM_AARCH64:
      return "aarch64";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "riscv";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390";
    case EM_X86_64:
      return "x86-64 of 32 bits (x32)";
  }
  return "an unknown machine";
}

void ReadHeaders(const Bytes& file, Inspection* out) {
  shim::rewrite::Image image;
  if (file.size() < sizeof(Elf64_Ehdr) || memcmp(file.data(), ELFMAG, SELFMAG) != 0) return;
  Elf64_Ehdr header;
  memcpy(&header, file.data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64) {
    out->kind = ProgramKind::kForeign;
    out->machine = MachineName(header.e_machine);
    return;
  }
  if (!shim::rewrite::Image::FromFile(file.data(), file.size(), &image)) return;
  out->is_go = image.is_go();
  out->kind = ProgramKind::kStatic;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    memcpy(&segment, file.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type != PT_INTERP) continue;
    out->loader = file.Text(segment.p_offset, segment.p_filesz);
    out->kind = out->loader == kLoader ? ProgramKind::kDynamic : ProgramKind::kOtherLibc;
  }
}

void ReadPrivilege(Inspection* out) {
  struct stat status;
  if (stat(out->path.c_str(), &status) != 0) return;
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid()) {
    out->privilege = "setuid to user " + std::to_string(status.st_uid);
  } else if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 &&
             status.st_gid != getegid()) {
    out->privilege = "setgid to group " + std::to_string(status.st_gid);
  } else if (geteuid() != 0 && getxattr(out->path.c_str(), "security.capability", nullptr, 0) > 0) {
    out->privilege = "file capabilities";
  }
  out->raises_privilege = !out->privilege.empty();
}

// What `loader --list program` says: nothing of the program is run.
std::string AskLoader(const std::string& program) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDERR_FILENO);
    unsetenv("LD_PRELOAD");
    execl(kLoader, kLoader, "--list", program.c_str(), nullptr);
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;) {
    text.append(part, static_cast<size_t>(got));
  }
  close(ends[0]);
  if (child > 0) waitpid(child, nullptr, 0);
  return text;
}

// "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)"
std::vector<std::string> Libraries(const std::string& program, Inspection* out) {
  std::vector<std::string> paths;
  std::istringstream lines(AskLoader(program));
  for (std::string line; getline(lines, line);) {
    const size_t arrow = line.find(" => ");
    const size_t name = line.find_first_not_of(" \t");
    if (arrow == std::string::npos || name == std::string::npos) continue;
    const std::string path = line.substr(arrow + 4, line.rfind(" (") - arrow - 4);
    if (path.starts_with("/")) {
      if (path.find("/ld-linux-") == std::string::npos) paths.push_back(path);
    } else {
      out->missing.push_back(line.substr(name, arrow - name));
    }
  }
  return paths;
}

shim::rewrite::DecodeFunction Decoder() { return userstack_decode_function; }

void Search(const std::string& path, Inspection* out) {
  const Bytes file(path);
  shim::rewrite::Image image;
  ObjectReport report;
  report.path = path;
  report.is_libc = path.ends_with("/libc.so.6");
  if (path.find("/libseccomp.so") != std::string::npos) out->filters_itself = true;
  if (path.find("/liburing.so") != std::string::npos) report.has_io_uring = true;
  shim::rewrite::Findings findings;
  if (file.size() == 0 || !shim::rewrite::Image::FromFile(file.data(), file.size(), &image) ||
      !shim::rewrite::FindSites(image, Decoder, &findings)) {
    return;
  }
  report.is_go = image.is_go();
  report.hits = findings.hits;
  report.sites = static_cast<uint32_t>(findings.sites.size());
  report.irrelevant = findings.irrelevant;
  report.unproved = findings.unproved;
  report.unknown = findings.unknown;
  for (const shim::rewrite::Site& site : findings.sites) {
    if (site.patched == 0) ++report.left;
    if (site.number == SYS_io_uring_setup) report.has_io_uring = true;
  }
  out->objects.push_back(report);
}

}  // namespace

int Inspect(const std::string& command, Inspection* inspection, std::string* why) {
  int status = FindCommand(command, &inspection->path);
  for (int i = 0; status == 0 && i <= kMostScripts; ++i) {
    const Bytes file(inspection->path);
    if (file.size() == 0) {
      *why = inspection->path + ": cannot be read: its kind is not known";
      return kCannotRun;
    }
    ReadPrivilege(inspection);
    if (file.Text(0, 2) != "#!") {
      ReadHeaders(file, inspection);
      break;
    }
    const std::string script = inspection->path;
    inspection->scripts.push_back(script);
    status = FindCommand(InterpreterOf(file.Text(0, 256)), &inspection->path);
    if (status != 0) {
      *why = script + ": its interpreter cannot be run";
      return status;
    }
  }
  if (status != 0) {
    *why = command + (status == kNotFound ? ": not found" : ": not executable");
    return status;
  }
  switch (inspection->kind) {
    case ProgramKind::kDynamic:
      Search(inspection->path, inspection);
      for (const std::string& path : Libraries(inspection->path, inspection)) {
        Search(path, inspection);
      }
      break;
    case ProgramKind::kStatic:
      Search(inspection->path, inspection);
      break;
    case ProgramKind::kOtherLibc:
    case ProgramKind::kForeign:
    case ProgramKind::kUnknown:
      break;
  }
  return 0;
}

}  // namespace userstack::tool
