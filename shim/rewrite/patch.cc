// Patch: see patch.h.
#include "shim/rewrite/patch.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "backend/system_call.h"
#include "shim/rewrite/stubs.h"
#include "shim/rewrite/trampoline.h"

namespace userstack::shim::rewrite {
namespace {

using backend::SystemCall;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kReach = (uint64_t{1} << 31) - (uint64_t{64} << 20);
constexpr uint64_t kFirstStep = 64 << 10;

bool Failed(long result) { return result < 0 && result > -4096; }

// Memory for the trampolines, executable from the beginning.
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
  uint64_t address() const { return address_; }
  size_t size() const { return static_cast<size_t>(size_); }
  void Keep() { address_ = 0; }

 private:
  long Map(uint64_t address) {
    const long result =
        SystemCall(SYS_mmap, static_cast<long>(address), size_, PROT_READ | PROT_EXEC,
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
    if (result_.rewritten == 0) {
      GiveBackStubs(stubs_, count_);
      return result_;
    }
    result_.trampolines = {memory_.address(), memory_.size(), stubs_, count_};
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

  uint64_t StubOf(size_t index) const { return stubs_ + index * kStubSize; }
  TrampolinePlace PlaceOf(size_t index) const {
    return {base_, memory_.address() + kHeader + index * kMaxTrampoline, memory_.address(),
            StubOf(index) + kStubReal};
  }

  bool TakeAllStubs() {
    long error = 0;
    stubs_ = ReuseStubs(count_);
    if (stubs_ == 0) stubs_ = TakeStubs(count_, &error);
    return stubs_ != 0 || Fail("no executable memory for its calls", error);
  }

  // Every trampoline at its index among the sites.
  bool Build(void (*entry)()) {
    const long reserved = memory_.Reserve(base_ + image_.segments()[0].address,
                                          base_ + image_.end(), kHeader + count_ * kMaxTrampoline);
    if (reserved < 0) return Fail("no executable memory near the code", reserved);
    if (!TakeAllStubs()) return false;
    std::vector<uint8_t> near(kHeader + count_ * kMaxTrampoline);
    std::vector<uint8_t> stubs(count_ * kStubSize);
    memcpy(near.data(), &entry, sizeof entry);
    reachable_.assign(count_, false);
    for (size_t i = 0; i < count_; ++i) {
      const Site& site = sites_[i];
      if (!IsWritable(site, image_)) continue;
      const Trampoline made =
          MakeTrampoline(site, PlaceOf(i), near.data() + kHeader + i * kMaxTrampoline);
      uint8_t stub[kStubSize];
      MakeStub({base_ + site.syscall + kSyscallSize, made.tail, entry}, StubOf(i), stub);
      memcpy(stubs.data() + i * kStubSize, stub, kStubSize);
      reachable_[i] = made.size != 0;
    }
    return WriteAll(memory_.address(), near) && WriteAll(stubs_, stubs);
  }

  bool WriteAll(uint64_t address, const std::vector<uint8_t>& bytes) {
    const long error = CodeWriter().Write(address, bytes.data(), nullptr, bytes.size());
    return error == 0 || Fail("code cannot be written through /proc/self/mem", error);
  }

  bool WriteJumps() {
    const CodeWriter code;
    for (size_t i = 0; i < count_; ++i) {
      const Site& site = sites_[i];
      if (!IsWritable(site, image_)) continue;
      uint8_t jump[Site::kMaxCode];
      if (!reachable_[i] || !MakeJump(site, PlaceOf(i), jump)) {
        ++result_.left;
        continue;
      }
      const long error = code.Write(base_ + site.start(), jump, site.code, site.patched);
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
  uint64_t stubs_ = 0;
  std::vector<bool> reachable_;  // their trampolines could be made
  NearMemory memory_;
  PatchResult result_;
};

}  // namespace

PatchResult PatchSites(uintptr_t base, const Image& image, const Site* sites, size_t count,
                       void (*entry)()) {
  return Patching(base, image, sites, count).Run(entry);
}

void FreeTrampolines(const Trampolines& trampolines) {
  if (trampolines.memory == 0) return;
  SystemCall(SYS_munmap, static_cast<long>(trampolines.memory),
             static_cast<long>(trampolines.size));
  GiveBackStubs(trampolines.stubs, trampolines.stub_count);
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
  uint8_t far[sizeof kJumpThere + sizeof target];
  memcpy(far, kJumpThere, sizeof kJumpThere);
  memcpy(far + sizeof kJumpThere, &target, sizeof target);
  const CodeWriter code;
  long error = code.Write(near.address(), far, nullptr, sizeof far);
  if (error != 0) return error;
  uint8_t jump[kJumpSize];
  if (!MakeNearJump(function, near.address(), jump)) return -ERANGE;
  error = code.Write(function, jump, old, sizeof jump);
  if (error == 0) near.Keep();
  return error;
}

}  // namespace userstack::shim::rewrite
