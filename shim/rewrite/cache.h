// Cache: what the finder found in an object, by the object's build-id, so that capstone runs once
// an object and user. One file an object under $XDG_CACHE_HOME/userstack or $HOME/.cache/userstack.
//
// A file says where code will be overwritten, so it is believed only when it is the user's own
// (file and directory, writable by nobody else), whole (checksum), and about this very object made
// by this very finder; and PatchSites still compares every byte. Anything else is not read further
// and the object is decoded again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shim/rewrite/image.h"
#include "shim/rewrite/site.h"

namespace userstack::shim::rewrite {

enum class CacheState : uint8_t {
  kMissing,  // no file, or no place for one
  kFound,
  kForeign,  // somebody else's, or writable by somebody else
  kCorrupt,  // cut off, changed, or of another object or version
};

// The bytes of a file. `unknown` as in Findings.
std::vector<uint8_t> EncodeSites(const BuildId& build, const std::vector<Site>& sites,
                                 uint32_t unknown = 0);
// False: corrupt.
bool DecodeSites(const uint8_t* bytes, size_t size, const BuildId& build, std::vector<Site>* sites,
                 uint32_t* unknown = nullptr);

class Cache {
 public:
  static constexpr size_t kMaxPath = 512;

  // `home` and `cache_home` as the environment has them; either may be null.
  Cache(const char* cache_home, const char* home);

  CacheState Load(const BuildId& build, std::vector<Site>* sites,
                  uint32_t* unknown = nullptr) const;
  // Best effort: a full disk or a missing home leaves nothing behind.
  void Store(const BuildId& build, const std::vector<Site>& sites, uint32_t unknown = 0) const;
  // "" when there is no place.
  const char* directory() const { return directory_; }

 private:
  bool PathOf(const BuildId& build, const char* suffix, char (&path)[kMaxPath]) const;
  bool MakeDirectory() const;

  char directory_[kMaxPath] = {};
};

}  // namespace userstack::shim::rewrite
