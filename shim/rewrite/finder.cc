// Finder: see finder.h.
#include "shim/rewrite/finder.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "shim/rewrite/go_table.h"
#include "shim/rewrite/numbers.h"
#include "shim/rewrite/unwind_table.h"

namespace userstack::shim::rewrite {
namespace {

constexpr uint8_t kSyscallFirst = 0x0f;
constexpr uint8_t kSyscallSecond = 0x05;
constexpr uint8_t kLoadNumber = 0xb8;  // mov $imm32,%eax
constexpr uint64_t kLargestFunction = 1 << 20;

Scope ScopeOf(const Image& image) {
  if (image.is_whole()) return Scope::kWhole;
  return image.is_go() ? Scope::kGo : Scope::kBesideLibc;
}

// The bytes in front look like the load of a number that cannot concern the stack. Not a proof, but
// good enough to leave the place alone without decoding: most of libc's hits are such.
bool LooksIrrelevant(const Segment& segment, const uint8_t* hit, Scope scope) {
  constexpr ptrdiff_t kLoadSize = 5;
  if (hit - segment.bytes < kLoadSize || hit[-kLoadSize] != kLoadNumber) return false;
  int32_t number = 0;
  memcpy(&number, hit - kLoadSize + 1, sizeof number);
  return number >= 0 && number < 1024 && !IsRelevant(number, scope);
}

// The bytes in front load a number that may concern the stack, as compilers and programmers write
// it. Said of a hit that nothing proves or refutes, in an object whose tables know its compiled
// code: data between the instructions of hand-written code does not look so.
bool LooksLikeCall(const Image& image, uint64_t hit) {
  constexpr uint8_t kLongLoad[] = {0x48, 0xc7, 0xc0};  // mov $imm32,%rax
  constexpr size_t kImmediate = sizeof(int32_t);
  int32_t number = -1;
  const uint8_t* load = image.CodeAt(hit - 1 - kImmediate, 1 + kImmediate);
  if (load == nullptr) return false;
  memcpy(&number, load + 1, sizeof number);
  if (number < 0 || !IsRelevant(number, ScopeOf(image))) return false;
  if (load[0] == kLoadNumber) return true;
  load = image.CodeAt(hit - sizeof kLongLoad - kImmediate, sizeof kLongLoad + kImmediate);
  return load != nullptr && memcmp(load, kLongLoad, sizeof kLongLoad) == 0;
}

void Search(const Segment& segment, Scope scope, std::vector<uint64_t>* hits, Findings* findings) {
  const uint8_t pattern[] = {kSyscallFirst, kSyscallSecond};
  const uint8_t* at = segment.bytes;
  const uint8_t* const end = segment.bytes + segment.size;
  while (at < end) {
    at = static_cast<const uint8_t*>(
        memmem(at, static_cast<size_t>(end - at), pattern, sizeof pattern));
    if (at == nullptr) return;
    ++findings->hits;
    if (LooksIrrelevant(segment, at, scope)) {
      ++findings->irrelevant;
    } else {
      hits->push_back(segment.address + static_cast<uint64_t>(at - segment.bytes));
    }
    at += sizeof pattern;
  }
}

// Where functions begin: the unwind tables, and what a Go program has beside them.
class Functions {
 public:
  explicit Functions(const Image& image)
      : has_unwind_(UnwindTable::Open(image, &unwind_)), has_go_(GoTable::Open(image, &go_)) {}
  bool any() const { return has_unwind_ || has_go_; }
  bool FunctionAt(uint64_t address, Function* function) const {
    if (has_unwind_ && unwind_.FunctionAt(address, function)) return true;
    return has_go_ && go_.FunctionAt(address, function);
  }
  // What follows a function closely, with that function in front: clone's authors end its
  // description before the call, because it would be wrong in the child. *described: the function's
  // own size.
  bool TailAt(uint64_t address, Function* function, uint64_t* described) const {
    constexpr uint64_t kTail = 64;
    if (!has_unwind_ || !unwind_.FunctionBefore(address, function)) return false;
    *described = function->size;
    if (address - function->start >= function->size + kTail) return false;
    uint64_t end = address + kSyscallSize;
    Function next;
    while (end < address + kTail && !unwind_.FunctionAt(end, &next)) ++end;
    function->size = end - function->start;
    function->has_landing_pads = true;
    return true;
  }

 private:
  UnwindTable unwind_;
  GoTable go_;
  bool has_unwind_;
  bool has_go_;
};

class Finding {
 public:
  Finding(const Image& image, const Functions& table, DecodeFunction decode, Findings* findings)
      : image_(image), table_(table), decode_(decode), findings_(*findings) {}

  // Takes the hits that one function holds off the front; false: the decoder failed.
  bool TakeFunction(const std::vector<uint64_t>& hits, size_t* next) {
    Function function;
    const uint64_t hit = hits[*next];
    uint64_t described = 0;
    const bool known =
        table_.FunctionAt(hit, &function) || table_.TailAt(hit, &function, &described);
    const uint8_t* code = known ? image_.CodeAt(function.start, function.size) : nullptr;
    if (code == nullptr || function.size > kLargestFunction) {
      LeaveUnproved(hit);
      ++*next;
      return true;
    }
    offsets_.clear();
    while (*next < hits.size() && hits[*next] - function.start < function.size) {
      offsets_.push_back(static_cast<uint32_t>(hits[(*next)++] - function.start));
    }
    proved_.resize(offsets_.size());
    DecodeRequest request;
    request.code = code;
    request.size = function.size;
    request.described = described == 0 ? function.size : described;
    request.address = function.start;
    request.hidden_entries = function.has_landing_pads;
    request.hits = offsets_.data();
    request.hit_count = static_cast<uint32_t>(offsets_.size());
    const int count = decode_(&request, proved_.data());
    if (count < 0) return false;
    // Ascending, both.
    int taken = 0;
    for (const uint32_t offset : offsets_) {
      const uint64_t address = function.start + offset;
      if (taken < count && proved_[static_cast<size_t>(taken)].syscall == address) {
        Keep(proved_[static_cast<size_t>(taken++)]);
      } else {
        LeaveUnproved(address);
      }
    }
    return true;
  }

 private:
  void LeaveUnproved(uint64_t hit) {
    ++findings_.unproved;
    if (LooksLikeCall(image_, hit)) ++findings_.unknown;
    KeepUnproved(hit);
  }
  void Keep(const Site& site) {
    if (!IsRelevant(site.number, ScopeOf(image_))) {
      ++findings_.irrelevant;
    } else {
      findings_.sites.push_back(site);
    }
  }

  // In a static program it may be a call all the same, which is to be known; it is not rewritten.
  void KeepUnproved(uint64_t address) {
    if (!image_.is_whole()) return;
    Site site;
    site.syscall = address;
    site.code[0] = kSyscallFirst;
    site.code[1] = kSyscallSecond;
    findings_.sites.push_back(site);
  }

  const Image& image_;
  const Functions& table_;
  DecodeFunction decode_;
  Findings& findings_;
  std::vector<uint32_t> offsets_;
  std::vector<Site> proved_;
};

// Two jumps must not share a byte: of neighbours whose patches meet, the later is left alone.
void SeparateNeighbours(std::vector<Site>* sites) {
  uint64_t end = 0;
  for (Site& site : *sites) {
    if (site.patched == 0) continue;
    if (site.start() < end) {
      site.patched = 0;
      continue;
    }
    end = std::max(site.start() + site.patched, site.start() + site.code_size());
  }
}

}  // namespace

bool IsRelevant(int32_t number, Scope scope) {
  if (scope == Scope::kWhole) return number != SYS_rt_sigreturn;
  if (number == kUnknownNumber) return true;
  const Concern concern = ConcernOf(number);
  if (concern == Concern::kEnd) return scope == Scope::kGo;
  return concern != Concern::kNever;
}

bool FindSites(const Image& image, DecodeFunction (*load)(), Findings* findings) {
  std::vector<uint64_t> hits;
  for (unsigned i = 0; i < image.segment_count(); ++i) {
    if (image.segments()[i].executable)
      Search(image.segments()[i], ScopeOf(image), &hits, findings);
  }
  std::sort(hits.begin(), hits.end());
  hits.erase(std::unique(hits.begin(), hits.end()), hits.end());
  if (hits.empty()) return true;
  const Functions table(image);
  if (!table.any() && !image.is_whole()) {
    findings->unproved = findings->unknown = static_cast<uint32_t>(hits.size());
    return true;
  }
  const DecodeFunction decode = load();
  if (decode == nullptr) return false;
  Finding finding(image, table, decode, findings);
  for (size_t next = 0; next < hits.size();) {
    if (!finding.TakeFunction(hits, &next)) return false;
  }
  std::sort(findings->sites.begin(), findings->sites.end(),
            [](const Site& a, const Site& b) { return a.syscall < b.syscall; });
  SeparateNeighbours(&findings->sites);
  return true;
}

}  // namespace userstack::shim::rewrite
