// Proved site: see proved_site.h.
#include "shim/rewrite/proved_site.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstring>

#include "shim/rewrite/maps.h"
#include "shim/rewrite/stubs.h"

namespace userstack::shim::rewrite {
namespace {

using backend::SystemCall;

constexpr uint64_t kPage = 4096;
constexpr size_t kMostPages = 256;
constexpr uint64_t kJumpBytes = 6;  // jmp *rel32(%rip)
constexpr uint64_t kSlotBytes = 8;

// A page where jumps of sites lead: a bit for each byte in use.
struct LandingPage {
  uint64_t address = 0;
  uint64_t used[kPage / 64] = {};

  bool IsFree(uint64_t at, uint64_t size) const {
    for (uint64_t i = at; i < at + size; ++i) {
      if ((used[i / 64] >> (i % 64) & 1) != 0) return false;
    }
    return true;
  }
  void Take(uint64_t at, uint64_t size) {
    for (uint64_t i = at; i < at + size; ++i) used[i / 64] |= uint64_t{1} << (i % 64);
  }
};

constinit LandingPage g_pages[kMostPages] = {};

bool HasThreads() {
  struct stat status;
  constexpr nlink_t kOwnLinks = 2;
  const long result = SystemCall(SYS_stat, reinterpret_cast<long>("/proc/self/task"),
                                 reinterpret_cast<long>(&status));
  return result != 0 || status.st_nlink > kOwnLinks + 1;
}

// Of a file, and written by nobody: what is there now stays.
bool IsFixedCode(uint64_t site) {
  MapsReader maps;
  for (Mapping mapping; maps.Next(&mapping);) {
    if (!mapping.range.Holds(site)) continue;
    return mapping.of_file && mapping.executable && !mapping.writable &&
           mapping.range.Holds(site + kProvedSiteBytes - 1);
  }
  return false;
}

// Where the heap or the first thread's stack will grow.
bool IsNeeded(uint64_t address) {
  constexpr uint64_t kHeapRoom = uint64_t{64} << 20;
  constexpr uint64_t kStackRoom = uint64_t{256} << 20;
  const auto heap = static_cast<uint64_t>(SystemCall(SYS_brk, 0));
  const uint64_t stack = getauxval(AT_EXECFN);
  return (address + kPage > heap && address - heap < kHeapRoom) ||
         (address < stack && stack - address < kStackRoom);
}

LandingPage* PageAt(uint64_t address) {
  LandingPage* free = nullptr;
  for (LandingPage& page : g_pages) {
    if (page.address == address) return &page;
    if (page.address == 0 && free == nullptr) free = &page;
  }
  if (free == nullptr || IsNeeded(address)) return nullptr;
  const auto wanted = static_cast<long>(address);
  const long got = SystemCall(SYS_mmap, wanted, kPage, PROT_READ | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != wanted) {
    // Kernels before 4.17 take the flag for a hint.
    if (got > 0) SystemCall(SYS_munmap, got, kPage);
    return nullptr;
  }
  free->address = address;
  return free;
}

// Puts a jump to `target` at `landing`.
bool MakeLanding(uint64_t landing, uint64_t target, const CodeWriter& code) {
  constexpr uint64_t kLowest = 65536;
  const uint64_t at = landing % kPage;
  if (landing < kLowest || landing >> 47 != 0 || at + kJumpBytes > kPage) return false;
  LandingPage* page = PageAt(landing - at);
  if (page == nullptr || !page->IsFree(at, kJumpBytes)) return false;
  page->Take(at, kJumpBytes);
  for (uint64_t slot = 0; slot < kPage; slot += kSlotBytes) {
    if (!page->IsFree(slot, kSlotBytes)) continue;
    uint8_t jump[kJumpBytes] = {0xff, 0x25};
    const auto displacement =
        static_cast<int32_t>(static_cast<int64_t>(slot) - static_cast<int64_t>(at + kJumpBytes));
    memcpy(jump + 2, &displacement, sizeof displacement);
    page->Take(slot, kSlotBytes);
    return code.Write(page->address + slot, reinterpret_cast<const uint8_t*>(&target), nullptr,
                      sizeof target) == 0 &&
           code.Write(landing, jump, nullptr, sizeof jump) == 0;
  }
  return false;
}

// What unwinders and debuggers know a signal's frame by.
bool IsSignalReturn(uint64_t site) {
  constexpr uint8_t kLoad[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0};  // mov $15,%rax
  return memcmp(reinterpret_cast<const void*>(site - sizeof kLoad), kLoad, sizeof kLoad) == 0;
}

}  // namespace

bool RewriteProvedSite(uint64_t site, uint64_t target) {
  if (!IsFixedCode(site) || site % kPage < kSlotBytes || IsSignalReturn(site)) return false;
  uint8_t bytes[kProvedSiteBytes];
  memcpy(bytes, reinterpret_cast<const void*>(site), sizeof bytes);
  if (bytes[0] != 0x0f || bytes[1] != 0x05) return false;
  const CodeWriter code;
  int32_t displacement = 0;
  memcpy(&displacement, bytes + 1, sizeof displacement);
  const auto behind = [&](uint64_t size) {
    return site + size + static_cast<uint64_t>(static_cast<int64_t>(displacement));
  };
  constexpr uint8_t kJump[] = {0xe9};
  if (MakeLanding(behind(5), target, code)) return code.Write(site, kJump, nullptr, 1) == 0;
  if (HasThreads()) return false;
  constexpr uint8_t kPrefixedJump[] = {0x48, 0xe9};
  memcpy(&displacement, bytes + 2, sizeof displacement);
  return MakeLanding(behind(6), target, code) &&
         code.Write(site, kPrefixedJump, bytes, sizeof kPrefixedJump) == 0;
}

}  // namespace userstack::shim::rewrite
