#include "tests/backend/fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace userstack::backend {
namespace {

void WriteFile(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, text.data(), text.size()) < 0) std::perror(path);
  close(fd);
}

}  // namespace

std::string EnterNamespace() {
  const uid_t uid = getuid();
  const gid_t gid = getgid();
  int flags = CLONE_NEWNET | CLONE_NEWNS;
  if (uid != 0) flags |= CLONE_NEWUSER;
  if (unshare(flags) != 0) return std::string("no namespaces here: ") + std::strerror(errno);
  if (uid != 0) {
    WriteFile("/proc/self/setgroups", "deny");
    WriteFile("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1");
    WriteFile("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
  }
  mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) return std::string("/dev/net/tun: ") + std::strerror(errno);
  close(fd);
  return "";
}

bool RunCommand(const std::string& command) { return std::system(command.c_str()) == 0; }

}  // namespace userstack::backend
