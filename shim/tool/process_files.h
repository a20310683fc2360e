// ProcessFiles: what /proc tells of another process: its descriptors, its environment, the library
// in its memory, and the kernel's Internet sockets that it could own.
//
// Everything may change or go away while it is read: a value that is not there is an empty one, and
// Open says in one line why there is nothing to see at all.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "netstack/base/ip_address.h"

namespace userstack::tool {

struct OpenFile {
  int number = -1;
  std::string target;   // as /proc/PID/fd has it: "socket:[123]", a path
  uint64_t socket = 0;  // its inode; 0: no socket
};

// A line of /proc/PID/net/{tcp,udp,raw}[6].
struct KernelSocket {
  std::string kind;   // "tcp", "udp", "raw"
  std::string state;  // as ss says it; "" where there is none
  Endpoint local;
  Endpoint peer;
};

class ProcessFiles {
 public:
  // False: *why is one line.
  bool Open(pid_t pid, std::string* why);
  // It is no longer there, or no longer the process that it was.
  bool HasEnded() const;

  pid_t pid() const { return pid_; }
  // Its number in its own pid namespace, by which the stack knows it.
  pid_t inner_pid() const { return inner_pid_; }
  uint64_t start_time() const { return start_time_; }
  const std::string& name() const { return name_; }

  std::vector<OpenFile> Files() const;
  // NAME=VALUE, as it was started.
  std::vector<std::string> Environment() const;
  bool Maps(const std::string& file_name) const;
  // By inode.
  std::map<uint64_t, KernelSocket> KernelSockets() const;

 private:
  std::string Path(const char* name) const;

  pid_t pid_ = 0;
  pid_t inner_pid_ = 0;
  uint64_t start_time_ = 0;
  std::string name_;
};

// TCP's states in the kernel's numbers, as ss says them.
const char* TcpStateName(unsigned state);

// A file of /proc, of 64 MiB at the most; "" when it cannot be read (errno says why).
std::string ReadWhole(const std::string& path);

}  // namespace userstack::tool
