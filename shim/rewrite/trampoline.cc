// Trampoline: see trampoline.h.
#include "shim/rewrite/trampoline.h"

#include <cstring>

namespace userstack::shim::rewrite {
namespace {

constexpr uint8_t kJump = 0xe9;  // jmp rel32
constexpr uint8_t kTrap = 0xcc;  // int3
constexpr uint8_t kSyscall[] = {0x0f, 0x05};
constexpr uint8_t kLoadReal[] = {0x48, 0x8b, 0x0d};  // mov rel32(%rip),%rcx
constexpr uint8_t kJumpEntry[] = {0xff, 0x25};       // jmp *rel32(%rip)

// `to` as a displacement from `from`; false: it does not fit.
bool Displacement(uint64_t from, uint64_t to, int32_t* displacement) {
  const auto distance = static_cast<int64_t>(to - from);
  *displacement = static_cast<int32_t>(distance);
  return *displacement == distance;
}

class Writer {
 public:
  Writer(uint8_t* out, uint64_t address) : out_(out), address_(address) {}

  uint64_t here() const { return address_ + size_; }
  size_t size() const { return ok_ ? size_ : 0; }

  void Bytes(const void* bytes, size_t size) {
    memcpy(out_ + size_, bytes, size);
    size_ += size;
  }
  void Near(uint64_t target) {
    int32_t displacement = 0;
    if (!Displacement(here() + sizeof displacement, target, &displacement)) ok_ = false;
    Bytes(&displacement, sizeof displacement);
  }
  // Instructions of the site from `offset` on, which come to lie elsewhere.
  void Moved(const Site& site, uint64_t base, size_t offset, size_t size) {
    const uint64_t distance = base + site.start() + offset - here();
    uint8_t* copy = out_ + size_;
    Bytes(site.code + offset, size);
    for (const uint8_t fixup : site.fixups) {
      if (fixup == 0 || fixup < offset || fixup >= offset + size) continue;
      int32_t old = 0;
      memcpy(&old, copy + (fixup - offset), sizeof old);
      const int64_t moved = old + static_cast<int64_t>(distance);
      const auto displacement = static_cast<int32_t>(moved);
      if (displacement != moved) ok_ = false;
      memcpy(copy + (fixup - offset), &displacement, sizeof displacement);
    }
  }

 private:
  uint8_t* out_;
  uint64_t address_;
  size_t size_ = 0;
  bool ok_ = true;
};

}  // namespace

Trampoline MakeTrampoline(const Site& site, const TrampolinePlace& place, uint8_t* out) {
  constexpr size_t kJumpToEntry = sizeof kJumpEntry + sizeof(int32_t);
  const size_t behind = size_t{site.before} + kSyscallSize;
  Writer code(out, place.address);
  code.Moved(site, place.site_base, 0, site.before);
  code.Bytes(kLoadReal, sizeof kLoadReal);
  const uint64_t tail = code.here() + sizeof(int32_t) + kJumpToEntry;
  code.Near(tail + site.after + kJumpSize);
  code.Bytes(kJumpEntry, sizeof kJumpEntry);
  code.Near(place.entry_slot);
  code.Moved(site, place.site_base, behind, site.after);
  code.Bytes(&kJump, 1);
  code.Near(place.site_base + site.syscall + kSyscallSize + site.after);
  code.Bytes(&place.real, sizeof place.real);
  return {code.size(), tail};
}

bool MakeNearJump(uint64_t from, uint64_t to, uint8_t* out) {
  int32_t displacement = 0;
  if (!Displacement(from + kJumpSize, to, &displacement)) return false;
  out[0] = kJump;
  memcpy(out + 1, &displacement, sizeof displacement);
  return true;
}

bool MakeJump(const Site& site, const TrampolinePlace& place, uint8_t* out) {
  memset(out, kTrap, site.patched);
  return MakeNearJump(place.site_base + site.start(), place.address, out);
}

bool IsSound(const Site& site) {
  if (site.code_size() > Site::kMaxCode || site.syscall < site.before) return false;
  if (memcmp(site.code + site.before, kSyscall, sizeof kSyscall) != 0) return false;
  if (site.patched != 0 && (site.patched < kJumpSize || site.patched > site.code_size())) {
    return false;
  }
  // What is patched behind the call is copied, all of it.
  if (site.patched != 0 && site.after != 0 && site.patched != site.code_size()) return false;
  for (const uint8_t fixup : site.fixups) {
    if (fixup == 0) continue;
    const bool in_front = fixup + sizeof(int32_t) <= site.before;
    const size_t behind = size_t{site.before} + kSyscallSize;
    if (!in_front && (fixup < behind || fixup + sizeof(int32_t) > site.code_size())) return false;
  }
  return true;
}

}  // namespace userstack::shim::rewrite
