// Cache: see cache.h.
#include "shim/rewrite/cache.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "backend/system_call.h"
#include "shim/rewrite/trampoline.h"

namespace userstack::shim::rewrite {
namespace {

using backend::OwnedDescriptor;
using backend::SystemCall;

constexpr char kMagic[8] = {'u', 's', 'r', 's', 'i', 't', 'e', 's'};
// Changes with Site, and with what the finder believes or chooses. It is in the file's name too, so
// that libraries of two versions may share a directory.
constexpr uint32_t kVersion = 4;
constexpr size_t kMaxSites = 1 << 16;

struct Header {
  char magic[sizeof kMagic];
  uint32_t version;
  uint32_t count;
  uint32_t unknown;
  uint32_t reserved;
  uint8_t build[BuildId::kMaxSize];
  uint64_t checksum;  // of everything, with this field 0
};

long Word(const void* pointer) { return reinterpret_cast<long>(pointer); }

// FNV-1a over words: it tells damage, not malice; against that stand the owner and the mode.
uint64_t Checksum(const uint8_t* bytes, size_t size) {
  uint64_t hash = 0xcbf29ce484222325;
  while (size >= sizeof hash) {
    uint64_t word = 0;
    memcpy(&word, bytes, sizeof word);
    hash = (hash ^ word) * 0x100000001b3;
    hash ^= hash >> 29;
    bytes += sizeof word;
    size -= sizeof word;
  }
  for (; size > 0; --size) hash = (hash ^ *bytes++) * 0x100000001b3;
  return hash;
}

bool IsOwn(const struct stat& status) {
  return status.st_uid == static_cast<uid_t>(SystemCall(SYS_geteuid)) &&
         (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

}  // namespace

std::vector<uint8_t> EncodeSites(const BuildId& build, const std::vector<Site>& sites,
                                 uint32_t unknown) {
  std::vector<uint8_t> bytes(sizeof(Header) + sites.size() * sizeof(Site));
  Header header{};
  memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.count = static_cast<uint32_t>(sites.size());
  header.unknown = unknown;
  memcpy(header.build, build.bytes, sizeof header.build);
  memcpy(bytes.data(), &header, sizeof header);
  if (!sites.empty()) {
    memcpy(bytes.data() + sizeof header, sites.data(), sites.size() * sizeof(Site));
  }
  header.checksum = Checksum(bytes.data(), bytes.size());
  memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

bool DecodeSites(const uint8_t* bytes, size_t size, const BuildId& build, std::vector<Site>* sites,
                 uint32_t* unknown) {
  Header header;
  if (size < sizeof header) return false;
  memcpy(&header, bytes, sizeof header);
  if (memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version != kVersion ||
      memcmp(header.build, build.bytes, sizeof header.build) != 0 || header.count > kMaxSites ||
      size != sizeof header + header.count * sizeof(Site)) {
    return false;
  }
  std::vector<uint8_t> copy(bytes, bytes + size);
  memset(copy.data() + offsetof(Header, checksum), 0, sizeof header.checksum);
  if (Checksum(copy.data(), size) != header.checksum) return false;
  if (unknown != nullptr) *unknown = header.unknown;
  sites->resize(header.count);
  if (header.count == 0) return true;
  memcpy(sites->data(), bytes + sizeof header, header.count * sizeof(Site));
  uint64_t end = 0;
  for (const Site& site : *sites) {
    if (!IsSound(site) || site.start() < end) return false;
    if (site.patched != 0) end = site.start() + site.patched;
  }
  return true;
}

Cache::Cache(const char* cache_home, const char* home) {
  int length = 0;
  if (cache_home != nullptr && cache_home[0] == '/') {
    length = snprintf(directory_, sizeof directory_, "%s/userstack", cache_home);
  } else if (home != nullptr && home[0] == '/') {
    length = snprintf(directory_, sizeof directory_, "%s/.cache/userstack", home);
  }
  constexpr int kLongestName = 2 * BuildId::kMaxSize + 32;
  if (length < 0 || length + kLongestName > static_cast<int>(kMaxPath)) directory_[0] = '\0';
}

bool Cache::PathOf(const BuildId& build, const char* suffix, char (&path)[kMaxPath]) const {
  if (directory_[0] == '\0' || build.size == 0) return false;
  char name[2 * BuildId::kMaxSize + 1] = {};
  for (size_t i = 0; i < build.size; ++i) snprintf(name + 2 * i, 3, "%02x", build.bytes[i]);
  const int length =
      snprintf(path, kMaxPath, "%s/%s.%u.sites%s", directory_, name, kVersion, suffix);
  return length > 0 && length < static_cast<int>(kMaxPath);
}

CacheState Cache::Load(const BuildId& build, std::vector<Site>* sites, uint32_t* unknown) const {
  char path[kMaxPath];
  struct stat status;
  if (!PathOf(build, "", path)) return CacheState::kMissing;
  const OwnedDescriptor file(
      static_cast<int>(backend::KernelOpen(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)));
  if (file.get() == -ELOOP) return CacheState::kForeign;
  if (!file.valid() || SystemCall(SYS_fstat, file.get(), Word(&status)) != 0) {
    return CacheState::kMissing;
  }
  struct stat directory;
  if (SystemCall(SYS_stat, Word(directory_), Word(&directory)) != 0 || !IsOwn(directory) ||
      !IsOwn(status) || !S_ISREG(status.st_mode)) {
    return CacheState::kForeign;
  }
  constexpr off_t kLargest = sizeof(Header) + kMaxSites * sizeof(Site);
  if (status.st_size <= 0 || status.st_size > kLargest) return CacheState::kCorrupt;
  std::vector<uint8_t> bytes(static_cast<size_t>(status.st_size));
  const long got = SystemCall(SYS_read, file.get(), Word(bytes.data()), status.st_size);
  if (got != status.st_size || !DecodeSites(bytes.data(), bytes.size(), build, sites, unknown)) {
    sites->clear();
    return CacheState::kCorrupt;
  }
  return CacheState::kFound;
}

// Both levels that are ours to make: the user's cache directory, and our own in it.
bool Cache::MakeDirectory() const {
  char parent[kMaxPath];
  memcpy(parent, directory_, sizeof parent);
  *strrchr(parent, '/') = '\0';
  SystemCall(SYS_mkdir, Word(parent), 0700);
  SystemCall(SYS_mkdir, Word(directory_), 0700);
  struct stat status;
  return SystemCall(SYS_stat, Word(directory_), Word(&status)) == 0 && S_ISDIR(status.st_mode) &&
         IsOwn(status);
}

void Cache::Store(const BuildId& build, const std::vector<Site>& sites, uint32_t unknown) const {
  char path[kMaxPath];
  char temporary[kMaxPath];
  char suffix[24];
  snprintf(suffix, sizeof suffix, ".%ld", SystemCall(SYS_getpid));
  if (!PathOf(build, "", path) || !PathOf(build, suffix, temporary) || !MakeDirectory()) return;
  const std::vector<uint8_t> bytes = EncodeSites(build, sites, unknown);
  const OwnedDescriptor file(static_cast<int>(
      backend::KernelOpen(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)));
  if (!file.valid()) return;
  const long written =
      SystemCall(SYS_write, file.get(), Word(bytes.data()), static_cast<long>(bytes.size()));
  const bool whole = written == static_cast<long>(bytes.size());
  if (!whole || SystemCall(SYS_rename, Word(temporary), Word(path)) != 0) {
    SystemCall(SYS_unlink, Word(temporary));
  }
}

}  // namespace userstack::shim::rewrite
