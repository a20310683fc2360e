// Rights: see rights.h.
#include "shim/dispatch/rights.h"

#include <sys/stat.h>

#include <cstring>

#include "shim/descriptors.h"
#include "shim/real.h"
#include "shim/runtime.h"

namespace userstack::shim {
namespace {

// Calls `visit` with each number in the message's SCM_RIGHTS; stops when it returns true.
template <typename Visit>
bool AnyRight(const msghdr* message, Visit visit) {
  if (message == nullptr || message->msg_control == nullptr) return false;
  for (cmsghdr* item = CMSG_FIRSTHDR(message); item != nullptr;
       item = CMSG_NXTHDR(const_cast<msghdr*>(message), item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    if (item->cmsg_len < CMSG_LEN(0)) break;
    const size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
      if (visit(fd)) return true;
    }
  }
  return false;
}

}  // namespace

bool CarriesOurs(const msghdr* message) {
  if (g_slots == nullptr) return false;
  return AnyRight(message, [](int fd) { return IsOurs(fd); });
}

void BeforeSendRights(const msghdr* message) {
  Session session;
  if (session.failed()) return;
  AnyRight(message, [](int fd) {
    Description* description = Lookup(fd);
    if (description != nullptr) AddReference(description);
    return false;
  });
}

void AfterSendRights(const msghdr* message, long result) {
  if (result >= 0) return;
  Session session;
  if (session.failed()) return;
  AnyRight(message, [&session](int fd) {
    Description* description = Lookup(fd);
    if (description != nullptr) DropReference(description, session.now());
    return false;
  });
}

void AdoptReceivedRights(const msghdr* message, int flags) {
  if (g_slots == nullptr || !AnyRight(message, [](int) { return true; })) return;
  Session session;
  if (session.failed()) return;
  AnyRight(message, [&session, flags](int fd) {
    struct stat status;
    if (RawSyscall(SYS_fstat, fd, Word(&status)) != 0 || !S_ISSOCK(status.st_mode)) return false;
    Description* description = FindByInode(status.st_ino);
    if (description == nullptr || static_cast<unsigned>(fd) >= kMaxDescriptors) return false;
    Install(CurrentProcess(), fd, description);
    if ((flags & MSG_PEEK) == 0) DropReference(description, session.now());
    return false;
  });
}

}  // namespace userstack::shim
