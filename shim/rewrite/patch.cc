// Patch: see patch.h.
#include "shim/rewrite/patch.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "backend/system_call.h"
#include "shim/rewrite/trampoline.h"

namespace userstack::shim::rewrite {
namespace {

using backend::OwnedDescriptor;
using backend::SystemCall;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kReach = (uint64_t{1} << 31) - (uint64_t{64} << 20);
constexpr uint64_t kFirstStep = 64 << 10;

long Word(const void* pointer) { return reinterpret_cast<long>(pointer); }
bool Failed(long result) { return result < 0 && result > -4096; }

// Memory for the trampolines, written first and executable after.
class NearMemory {
 public:
  NearMemory() = default;
  NearMemory(const NearMemory&) = delete;
  NearMemory& operator=(const NearMemory&) = delete;
  ~NearMemory() {
    if (address_ != 0) SystemCall(SYS_munmap, static_cast<long>(address_), size_);
  }

  // Within reach of everything from `begin` to `end`; in front of it first, because what is behind
  // a program grows (brk). 0 or -errno.
  long Reserve(uint64_t begin, uint64_t end, size_t size) {
    size_ = (size + kPage - 1) & ~(kPage - 1);
    begin &= ~(kPage - 1);
    end = (end + kPage - 1) & ~(kPage - 1);
    long result = -ENOMEM;
    for (uint64_t step = kFirstStep; step + (end - begin) + size_ < kReach; step *= 2) {
      if (begin > step + size_) result = Map(begin - step - size_);
      if (address_ != 0) return 0;
    }
    for (uint64_t step = kFirstStep; step + (end - begin) + size_ < kReach; step *= 2) {
      result = Map(end + step);
      if (address_ != 0) return 0;
    }
    return result;
  }
  long MakeExecutable() {
    return SystemCall(SYS_mprotect, static_cast<long>(address_), size_, PROT_READ | PROT_EXEC);
  }
  uint64_t address() const { return address_; }
  size_t size() const { return static_cast<size_t>(size_); }
  uint8_t* bytes() const { return reinterpret_cast<uint8_t*>(address_); }
  void Keep() { address_ = 0; }

 private:
  long Map(uint64_t address) {
    const long result =
        SystemCall(SYS_mmap, static_cast<long>(address), size_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (Failed(result)) return result;
    // Kernels before 4.17 take the flag for a hint.
    if (static_cast<uint64_t>(result) != address) {
      SystemCall(SYS_munmap, result, size_);
      return -EEXIST;
    }
    address_ = address;
    return 0;
  }

  uint64_t address_ = 0;
  long size_ = 0;
};

bool IsWritable(const Site& site, const Image& image) {
  if (site.patched == 0 || !IsSound(site)) return false;
  const uint8_t* now = image.CodeAt(site.start(), site.code_size());
  return now != nullptr && memcmp(now, site.code, site.code_size()) == 0;
}

// All of it, or nothing: what was written of a failed attempt is taken back.
long WriteCode(int memory, uint64_t address, const uint8_t* bytes, const uint8_t* old,
               size_t size) {
  const long written = SystemCall(SYS_pwrite64, memory, Word(bytes), static_cast<long>(size),
                                  static_cast<long>(address));
  if (written == static_cast<long>(size)) return 0;
  if (written > 0) {
    SystemCall(SYS_pwrite64, memory, Word(old), written, static_cast<long>(address));
  }
  return written < 0 ? written : -EIO;
}

class Patching {
 public:
  Patching(uintptr_t base, const Image& image, const Site* sites, size_t count)
      : base_(base), image_(image), sites_(sites), count_(count) {}

  PatchResult Run(void (*entry)()) {
    for (size_t i = 0; i < count_; ++i) writable_ += IsWritable(sites_[i], image_);
    result_.left = static_cast<uint32_t>(count_ - writable_);
    if (writable_ == 0) return result_;
    if (!Build(entry)) return result_;
    WriteJumps();
    if (result_.rewritten == 0) return result_;
    result_.memory = memory_.address();
    result_.memory_size = memory_.size();
    memory_.Keep();
    return result_;
  }

 private:
  static constexpr size_t kHeader = 16;  // the entry's address, and room to the first trampoline

  bool Fail(const char* what, long error) {
    result_.failure = what;
    result_.error = error;
    result_.left = static_cast<uint32_t>(count_) - result_.rewritten;
    return false;
  }

  TrampolinePlace PlaceOf(size_t index) const {
    return {base_, memory_.address() + kHeader + index * kMaxTrampoline, memory_.address()};
  }

  // Every trampoline at its index among the sites.
  bool Build(void (*entry)()) {
    const long reserved = memory_.Reserve(base_ + image_.segments()[0].address,
                                          base_ + image_.end(), kHeader + count_ * kMaxTrampoline);
    if (reserved < 0) return Fail("no memory near the code", reserved);
    memcpy(memory_.bytes(), &entry, sizeof entry);
    for (size_t i = 0; i < count_; ++i) {
      if (!IsWritable(sites_[i], image_)) continue;
      const TrampolinePlace place = PlaceOf(i);
      uint8_t* out = memory_.bytes() + (place.address - memory_.address());
      if (MakeTrampoline(sites_[i], place, out) == 0) out[0] = 0;
    }
    const long executable = memory_.MakeExecutable();
    return executable == 0 || Fail("memory cannot be made executable", executable);
  }

  bool WriteJumps() {
    const OwnedDescriptor memory(
        static_cast<int>(backend::KernelOpen("/proc/self/mem", O_RDWR | O_CLOEXEC)));
    if (!memory.valid()) return Fail("/proc/self/mem cannot be opened", memory.get());
    for (size_t i = 0; i < count_; ++i) {
      const Site& site = sites_[i];
      if (!IsWritable(site, image_)) continue;
      const TrampolinePlace place = PlaceOf(i);
      uint8_t jump[Site::kMaxCode];
      if (memory_.bytes()[place.address - memory_.address()] == 0 || !MakeJump(site, place, jump)) {
        ++result_.left;
        continue;
      }
      const long error =
          WriteCode(memory.get(), base_ + site.start(), jump, site.code, site.patched);
      if (error != 0) return Fail("code cannot be written through /proc/self/mem", error);
      ++result_.rewritten;
    }
    return true;
  }

  uintptr_t base_;
  const Image& image_;
  const Site* sites_;
  size_t count_;
  size_t writable_ = 0;
  NearMemory memory_;
  PatchResult result_;
};

}  // namespace

PatchResult PatchSites(uintptr_t base, const Image& image, const Site* sites, size_t count,
                       void (*entry)()) {
  return Patching(base, image, sites, count).Run(entry);
}

void FreeTrampolines(uint64_t memory, size_t size) {
  if (memory != 0) SystemCall(SYS_munmap, static_cast<long>(memory), static_cast<long>(size));
}

long RedirectEmptyFunction(uintptr_t function, size_t room, void (*target)()) {
  constexpr uint8_t kReturn = 0xc3;
  constexpr uint8_t kJumpThere[] = {0xff, 0x25, 0, 0, 0, 0};  // jmp *(%rip): what follows
  uint8_t old[kJumpSize];
  if (room < sizeof old) return -ENOSPC;
  memcpy(old, reinterpret_cast<const void*>(function), sizeof old);
  if (old[0] != kReturn) return -EINVAL;
  NearMemory near;
  const long reserved = near.Reserve(function, function + room, kPage);
  if (reserved < 0) return reserved;
  memcpy(near.bytes(), kJumpThere, sizeof kJumpThere);
  memcpy(near.bytes() + sizeof kJumpThere, &target, sizeof target);
  const long executable = near.MakeExecutable();
  if (executable != 0) return executable;
  uint8_t jump[kJumpSize];
  if (!MakeNearJump(function, near.address(), jump)) return -ERANGE;
  const OwnedDescriptor memory(
      static_cast<int>(backend::KernelOpen("/proc/self/mem", O_RDWR | O_CLOEXEC)));
  if (!memory.valid()) return memory.get();
  const long error = WriteCode(memory.get(), function, jump, old, sizeof jump);
  if (error == 0) near.Keep();
  return error;
}

}  // namespace userstack::shim::rewrite
