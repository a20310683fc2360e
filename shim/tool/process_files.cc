// ProcessFiles: see process_files.h.
#include "shim/tool/process_files.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace userstack::tool {
namespace {

constexpr size_t kMostBytes = 64 << 20;

// Field 22 of /proc/PID/stat; the second one, in parentheses, may hold anything.
uint64_t StartTime(const std::string& stat) {
  const size_t end = stat.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(end + 1));
  std::string field;
  for (int number = 3; number <= 22 && (fields >> field); ++number) {
    if (number == 22) return strtoull(field.c_str(), nullptr, 10);
  }
  return 0;
}

// The rest of the line that begins with `key`.
std::string Line(const std::string& text, const std::string& key) {
  const size_t at = text.starts_with(key) ? 0 : text.find("\n" + key);
  if (at == std::string::npos) return {};
  const size_t start = at + key.size() + (at == 0 ? 0 : 1);
  return text.substr(start, text.find('\n', start) - start);
}

// "0100007F:1F90", or 32 digits for IPv6: words as they lie in this machine's memory.
bool ParseEnd(const std::string& text, Endpoint* end) {
  const size_t colon = text.find(':');
  if (colon != 8 && colon != 32) return false;
  uint8_t bytes[16];
  for (size_t i = 0; i < colon; i += 8) {
    const uint32_t word = static_cast<uint32_t>(strtoul(text.substr(i, 8).c_str(), nullptr, 16));
    memcpy(bytes + i / 2, &word, sizeof word);
  }
  end->address = colon == 8 ? IpAddress::V4FromBytes(bytes) : IpAddress::V6FromBytes(bytes);
  end->port = static_cast<uint16_t>(strtoul(text.c_str() + colon + 1, nullptr, 16));
  return true;
}

void ReadTable(const std::string& text, const std::string& kind,
               std::map<uint64_t, KernelSocket>* out) {
  std::istringstream lines(text);
  std::string line;
  getline(lines, line);  // the names of the columns
  while (getline(lines, line)) {
    std::istringstream fields(line);
    std::string field[10];
    for (std::string& f : field) fields >> f;
    KernelSocket socket;
    socket.kind = kind;
    if (!ParseEnd(field[1], &socket.local) || !ParseEnd(field[2], &socket.peer)) continue;
    const auto state = static_cast<unsigned>(strtoul(field[3].c_str(), nullptr, 16));
    if (kind == "tcp") socket.state = TcpStateName(state);
    (*out)[strtoull(field[9].c_str(), nullptr, 10)] = socket;
  }
}

}  // namespace

const char* TcpStateName(unsigned state) {
  constexpr const char* kNames[] = {"",           "ESTAB",      "SYN-SENT",  "SYN-RECV",
                                    "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN",
                                    "CLOSE-WAIT", "LAST-ACK",   "LISTEN",    "CLOSING"};
  return state < sizeof kNames / sizeof kNames[0] ? kNames[state] : "";
}

std::string ReadWhole(const std::string& path) {
  std::string text;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char part[65536];
  ssize_t got = 0;
  while (text.size() < kMostBytes && (got = read(fd, part, sizeof part)) > 0) {
    text.append(part, static_cast<size_t>(got));
  }
  const int error = errno;
  close(fd);
  errno = error;
  return text;
}

std::string ProcessFiles::Path(const char* name) const {
  return "/proc/" + std::to_string(pid_) + "/" + name;
}

bool ProcessFiles::Open(pid_t pid, std::string* why) {
  pid_ = pid;
  const std::string who = "process " + std::to_string(pid);
  const std::string status = ReadWhole(Path("status"));
  start_time_ = StartTime(ReadWhole(Path("stat")));
  if (status.empty() || start_time_ == 0) {
    *why = who + ": there is none";
    return false;
  }
  name_ = Line(status, "Name:\t");
  const std::string numbers = Line(status, "NSpid:");
  const size_t last = numbers.find_last_of(" \t");
  inner_pid_ = atoi(numbers.c_str() + (last == std::string::npos ? 0 : last + 1));
  if (Line(status, "State:").find_first_of("ZX") != std::string::npos) {
    *why = who + " (" + name_ + ") has ended; nobody has waited for it yet";
    return false;
  }
  DIR* const directory = opendir(Path("fd").c_str());
  if (directory == nullptr) {
    *why = errno == EACCES || errno == EPERM
               ? who + " (" + name_ + ") belongs to user" +
                     Line(status, "Uid:").substr(0, Line(status, "Uid:").find('\t', 1)) +
                     ", or is protected: ask as that user or as root"
               : who + " has ended meanwhile";
    std::replace(why->begin(), why->end(), '\t', ' ');
    return false;
  }
  closedir(directory);
  return true;
}

bool ProcessFiles::HasEnded() const {
  const std::string stat = ReadWhole(Path("stat"));
  const size_t end = stat.rfind(')');
  return StartTime(stat) != start_time_ || stat.compare(end, 3, ") Z") == 0;
}

std::vector<OpenFile> ProcessFiles::Files() const {
  std::vector<OpenFile> files;
  DIR* const directory = opendir(Path("fd").c_str());
  if (directory == nullptr) return files;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    char target[PATH_MAX];
    const ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target);
    if (length < 0) continue;
    OpenFile file;
    file.number = atoi(entry->d_name);
    file.target.assign(target, static_cast<size_t>(length));
    if (file.target.starts_with("socket:[")) {
      file.socket = strtoull(file.target.c_str() + 8, nullptr, 10);
    }
    files.push_back(std::move(file));
  }
  closedir(directory);
  std::sort(files.begin(), files.end(),
            [](const OpenFile& a, const OpenFile& b) { return a.number < b.number; });
  return files;
}

std::vector<std::string> ProcessFiles::Environment() const {
  std::vector<std::string> variables;
  std::istringstream all(ReadWhole(Path("environ")));
  for (std::string variable; getline(all, variable, '\0');) variables.push_back(variable);
  return variables;
}

bool ProcessFiles::Maps(const std::string& file_name) const {
  return ReadWhole(Path("maps")).find("/" + file_name) != std::string::npos;
}

std::map<uint64_t, KernelSocket> ProcessFiles::KernelSockets() const {
  std::map<uint64_t, KernelSocket> sockets;
  for (const char* kind : {"tcp", "udp", "udplite", "raw", "icmp"}) {
    for (const char* family : {"", "6"}) {
      const std::string table = std::string("net/") + kind + family;
      ReadTable(ReadWhole(Path(table.c_str())), kind, &sockets);
    }
  }
  return sockets;
}

}  // namespace userstack::tool
