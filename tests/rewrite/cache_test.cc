// The cache of sites: whole files of one's own are believed, nothing else is.
#include "shim/rewrite/cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace userstack::shim::rewrite {
namespace {

namespace fs = std::filesystem;

BuildId SomeBuild(uint8_t seed = 1) {
  BuildId build;
  build.size = 20;
  for (uint8_t i = 0; i < build.size; ++i) build.bytes[i] = static_cast<uint8_t>(seed + i);
  return build;
}

Site SomeSite(uint64_t address) {
  Site site;
  site.syscall = address;
  site.number = 41;
  site.before = 5;
  site.patched = 5;
  const uint8_t code[] = {0xb8, 41, 0, 0, 0, 0x0f, 0x05};
  memcpy(site.code, code, sizeof code);
  return site;
}

class CacheTest : public ::testing::Test {
 protected:
  CacheTest() {
    char name[] = "/tmp/userstack-cache-XXXXXX";
    home_ = mkdtemp(name);
  }
  ~CacheTest() override { fs::remove_all(home_); }

  Cache Here() const { return {nullptr, home_.c_str()}; }
  fs::path OnlyFile() const {
    for (const auto& entry : fs::directory_iterator(home_ + "/.cache/userstack")) {
      return entry.path();
    }
    return {};
  }
  CacheState Load() const {
    std::vector<Site> sites;
    return Here().Load(SomeBuild(), &sites);
  }

  std::string home_;
  const std::vector<Site> sites_ = {SomeSite(0x1000), SomeSite(0x2000)};
};

TEST_F(CacheTest, GivesBackWhatWasStored) {
  EXPECT_EQ(Load(), CacheState::kMissing);
  Here().Store(SomeBuild(), sites_);
  std::vector<Site> sites;
  ASSERT_EQ(Here().Load(SomeBuild(), &sites), CacheState::kFound);
  ASSERT_EQ(sites.size(), sites_.size());
  EXPECT_EQ(memcmp(sites.data(), sites_.data(), sites.size() * sizeof(Site)), 0);
  EXPECT_EQ(Here().Load(SomeBuild(2), &sites), CacheState::kMissing);
}

TEST_F(CacheTest, RemembersThatAnObjectHasNoSites) {
  Here().Store(SomeBuild(), {});
  EXPECT_EQ(Load(), CacheState::kFound);
}

TEST_F(CacheTest, BelievesNoFileThatWasCutOff) {
  Here().Store(SomeBuild(), sites_);
  const auto whole = fs::file_size(OnlyFile());
  for (uintmax_t size = 0; size < whole; size += 7) {
    fs::resize_file(OnlyFile(), size);
    EXPECT_EQ(Load(), CacheState::kCorrupt) << size;
    Here().Store(SomeBuild(), sites_);
  }
  fs::resize_file(OnlyFile(), whole + 1);
  EXPECT_EQ(Load(), CacheState::kCorrupt);
}

TEST_F(CacheTest, BelievesNoFileInWhichABitWasTurned) {
  const std::vector<uint8_t> bytes = EncodeSites(SomeBuild(), sites_);
  std::vector<Site> sites;
  ASSERT_TRUE(DecodeSites(bytes.data(), bytes.size(), SomeBuild(), &sites));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::vector<uint8_t> turned = bytes;
    turned[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(DecodeSites(turned.data(), turned.size(), SomeBuild(), &sites)) << bit;
  }
}

TEST_F(CacheTest, BelievesNoSitesThatContradictThemselves) {
  Site site = SomeSite(0x1000);
  site.patched = 4;
  std::vector<Site> sites;
  std::vector<uint8_t> bytes = EncodeSites(SomeBuild(), {site});
  EXPECT_FALSE(DecodeSites(bytes.data(), bytes.size(), SomeBuild(), &sites));
  bytes = EncodeSites(SomeBuild(), {SomeSite(0x1000), SomeSite(0x1003)});
  EXPECT_FALSE(DecodeSites(bytes.data(), bytes.size(), SomeBuild(), &sites)) << "they overlap";
}

TEST_F(CacheTest, BelievesNothingThatOthersMayWrite) {
  Here().Store(SomeBuild(), sites_);
  chmod(OnlyFile().c_str(), 0620);
  EXPECT_EQ(Load(), CacheState::kForeign);
  chmod(OnlyFile().c_str(), 0600);
  EXPECT_EQ(Load(), CacheState::kFound);
  chmod((home_ + "/.cache/userstack").c_str(), 0777);
  EXPECT_EQ(Load(), CacheState::kForeign);
}

TEST_F(CacheTest, BelievesNothingOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  Here().Store(SomeBuild(), sites_);
  ASSERT_EQ(chown(OnlyFile().c_str(), 65534, 65534), 0);
  EXPECT_EQ(Load(), CacheState::kForeign);
  ASSERT_EQ(chown(OnlyFile().c_str(), 0, 0), 0);
  ASSERT_EQ(chown((home_ + "/.cache/userstack").c_str(), 65534, 65534), 0);
  EXPECT_EQ(Load(), CacheState::kForeign);
}

TEST_F(CacheTest, FollowsNoLink) {
  Here().Store(SomeBuild(), sites_);
  const fs::path file = OnlyFile();
  fs::rename(file, home_ + "/elsewhere");
  fs::create_symlink(home_ + "/elsewhere", file);
  EXPECT_EQ(Load(), CacheState::kForeign);
}

TEST_F(CacheTest, DoesWithoutAPlace) {
  std::vector<Site> sites;
  for (const char* home : {static_cast<const char*>(nullptr), "", "relative", "/nonexistent/x"}) {
    const Cache cache(nullptr, home);
    cache.Store(SomeBuild(), sites_);
    EXPECT_EQ(cache.Load(SomeBuild(), &sites), CacheState::kMissing);
  }
  const std::string longest(5000, 'x');
  EXPECT_STREQ(Cache(nullptr, ("/" + longest).c_str()).directory(), "");
  BuildId none;
  Here().Store(none, sites_);
  EXPECT_EQ(Here().Load(none, &sites), CacheState::kMissing);
}

TEST_F(CacheTest, LeavesNoTemporaryFileBehind) {
  for (uint8_t i = 0; i < 5; ++i) Here().Store(SomeBuild(i), sites_);
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(home_ + "/.cache/userstack")) {
    EXPECT_EQ(entry.path().extension(), ".sites");
    ++count;
  }
  EXPECT_EQ(count, 5u);
}

}  // namespace
}  // namespace userstack::shim::rewrite
