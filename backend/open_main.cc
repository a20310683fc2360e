// userstack-open: opens a device with privilege and runs a command without it.
//
//   userstack-open [--user UID[:GID]] DEVICE COMMAND [ARGUMENT...]
//
// DEVICE is what USERSTACK_DEV takes (tap:NAME, xdp:IFACE[,...]). The command gets the device's
// descriptors from number 3 on, as sd_listen_fds(3) has it (LISTEN_FDS, LISTEN_FDNAMES), and
// USERSTACK_DEV. It runs as the given user, or as the one who called sudo; without either nothing
// is dropped, and that is said. Descriptors alone give the right to use the device, so this program
// must not be installed setuid: anybody could take any interface.
#include <fcntl.h>
#include <grp.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "backend/device.h"
#include "backend/meeting.h"

namespace userstack {

[[noreturn]] void CheckFailed(const char* what, const char* file, unsigned line) {
  fprintf(stderr, "userstack-open: %s (%s:%u)\n", what, file, line);
  abort();
}

}  // namespace userstack

namespace userstack::backend {
namespace {

constexpr int kFirst = 3;     // SD_LISTEN_FDS_START
constexpr int kAside = 100;   // where descriptors wait for their numbers
constexpr int kFailed = 125;  // as env(1) and nohup(1): it was not the command's fault
constexpr int kNotRun = 126;
constexpr int kNotFound = 127;
constexpr char kUsage[] =
    "usage: userstack-open [--user UID[:GID]] tap:NAME|xdp:IFACE[,...] COMMAND [ARGUMENT...]";
constexpr size_t kMostDescriptors = 16;
constexpr int kBusyAttempts = 100;        // 10 ms apart, while its holder gives way
constexpr int kAttemptsAfterRefusal = 5;  // it may have ended in between
constexpr useconds_t kBetweenAttempts = 10'000;

struct Request {
  bool drop = false;
  uid_t user = 0;
  gid_t group = 0;
  std::string device;
  char** command = nullptr;
};

int Complain(const std::string& line) {
  fprintf(stderr, "userstack-open: %s\n", line.c_str());
  return kFailed;
}

bool ParseId(const char*& text, char end, unsigned* id) {
  char* rest = nullptr;
  errno = 0;
  const unsigned long value = strtoul(text, &rest, 10);
  if (rest == text || errno != 0 || value >= 0xffffffffu || (*rest != '\0' && *rest != end)) {
    return false;
  }
  *id = static_cast<unsigned>(value);
  text = rest;
  return true;
}

bool ParseUser(const char* text, Request* request) {
  if (!ParseId(text, ':', &request->user)) return false;
  request->group = request->user;
  request->drop = true;
  if (*text == '\0') return true;
  ++text;
  return ParseId(text, '\0', &request->group);
}

bool Parse(int count, char** words, Request* request) {
  int i = 1;
  if (i + 1 < count && strcmp(words[i], "--user") == 0) {
    if (!ParseUser(words[i + 1], request)) return false;
    i += 2;
  }
  if (i + 1 >= count || words[i][0] == '-') return false;
  request->device = words[i];
  request->command = words + i + 1;
  if (request->drop) return true;
  const char* user = getenv("SUDO_UID");
  const char* group = getenv("SUDO_GID");
  if (user == nullptr || group == nullptr) return true;
  return ParseUser((std::string(user) + ":" + group).c_str(), request);
}

// Puts the descriptors at 3, 4, ... to be inherited.
bool Place(const Device& device, size_t* count) {
  int descriptors[kMostDescriptors];
  *count = device.Descriptors(descriptors, kMostDescriptors);
  for (size_t i = 0; i < *count; ++i) {
    descriptors[i] = fcntl(descriptors[i], F_DUPFD_CLOEXEC, kAside);
    if (descriptors[i] < 0) return false;
  }
  for (size_t i = 0; i < *count; ++i) {
    if (dup2(descriptors[i], kFirst + static_cast<int>(i)) < 0) return false;
  }
  return true;
}

void TellCommand(const std::string& device, size_t count) {
  std::string names;
  for (size_t i = 0; i < count; ++i) names += i == 0 ? "userstack" : ":userstack";
  setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
  setenv("LISTEN_FDNAMES", names.c_str(), 1);
  unsetenv("LISTEN_PID");  // a program that takes sockets this way must not take these
  setenv("USERSTACK_DEV", device.c_str(), 1);
}

bool DropPrivilege(const Request& request) {
  return setgroups(0, nullptr) == 0 &&
         setresgid(request.group, request.group, request.group) == 0 &&
         setresuid(request.user, request.user, request.user) == 0 &&
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

OpenedDevice OpenUnlessHeld(const Request& request, const DeviceOptions& options, Holder holder) {
  if (holder != Holder::kStays) return OpenDevice(request.device, options);
  return {.error = "USERSTACK_DEV=" + request.device +
                   ": the device is busy: programs of this user have their stack on it; what is to "
                   "share a stack is started by one userstack-open"};
}

// What finishes the connections of programs that have ended gives way, when it is asked. It is
// asked first: a TAP of several queues can be opened beside whoever has it, and the kernel then
// gives each a part of the connections that come.
OpenedDevice OpenWhenFree(const Request& request, const DeviceOptions& options) {
  int refusals = 0;
  for (int attempt = 0;; ++attempt) {
    const Holder holder = AskHolder(request.user, request.device);
    const bool gives_way =
        holder == Holder::kGivesWay || AskHolder(0, request.device) == Holder::kGivesWay;
    if (!gives_way || attempt >= kBusyAttempts) {
      OpenedDevice opened = OpenUnlessHeld(request, options, holder);
      const bool busy = opened.device == nullptr && opened.error.find("busy") != std::string::npos;
      if (!busy || ++refusals == kAttemptsAfterRefusal) return opened;
    }
    usleep(kBetweenAttempts);
  }
}

int Main(int count, char** words) {
  if (getauxval(AT_SECURE) != 0) {
    return Complain("must not be installed setuid or with capabilities: it opens any device");
  }
  if (count == 2 && (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0)) {
    printf("%s\n", kUsage);
    return 0;
  }
  Request request;
  if (!Parse(count, words, &request)) {
    return Complain(kUsage);
  }
  DeviceOptions options;
  const char* addresses = getenv("USERSTACK_ADDR");
  if (addresses != nullptr) options.identity = addresses;
  // Above 3, so that Place overwrites none of them; the object itself ends with exec.
  options.descriptor_floor = kAside;
  const OpenedDevice opened = OpenWhenFree(request, options);
  if (!opened.warning.empty()) Complain(opened.warning);
  if (opened.device == nullptr) return Complain(opened.error);
  size_t descriptors = 0;
  if (!Place(*opened.device, &descriptors)) return Complain("no file descriptor is free");
  TellCommand(request.device, descriptors);
  if (!request.drop) {
    Complain("the command keeps all privilege; name a user with --user UID[:GID]");
  } else if (!DropPrivilege(request)) {
    return Complain(std::string("cannot become user ") + std::to_string(request.user) + ": " +
                    strerror(errno));
  }
  execvp(request.command[0], request.command);
  const int error = errno;
  Complain(std::string(request.command[0]) + ": " + strerror(error));
  return error == ENOENT ? kNotFound : kNotRun;
}

}  // namespace
}  // namespace userstack::backend

int main(int count, char** words) { return userstack::backend::Main(count, words); }
