// Program: what a file would be if it were executed, from its bytes alone: an ELF program of this
// machine and how it lies in memory, a script, or something else. Everything is checked against the
// file's size, so that a corrupt one is a reason in words and nothing else.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>

#include "shim/rewrite/image.h"

namespace userstack::shim::guest {

// A list of a fixed size: programs are looked at in children of fork, which must not allocate.
class Headers {
 public:
  static constexpr size_t kMost = 64;
  void push_back(const Elf64_Phdr& header) { headers_[size_++] = header; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const Elf64_Phdr* data() const { return headers_; }
  const Elf64_Phdr* begin() const { return headers_; }
  const Elf64_Phdr* end() const { return headers_ + size_; }
  const Elf64_Phdr& back() const { return headers_[size_ - 1]; }

 private:
  size_t size_ = 0;
  Elf64_Phdr headers_[kMost];
};

enum class Kind : uint8_t {
  kDynamic,    // asks for an interpreter: the dynamic loader
  kStatic,     // at a fixed address
  kStaticPie,  // anywhere
  kObject,     // a shared object, or the dynamic loader itself: no program of its own
  kScript,     // #!
  kForeign,    // of another machine, or of 32 bits
  kUnknown,    // no ELF file, no script
  kCorrupt,    // see `reason`
};

struct Program {
  Kind kind = Kind::kUnknown;
  const char* reason = "";  // of kCorrupt
  uint64_t entry = 0;
  uint64_t begin = 0;  // of what it occupies, whole pages
  uint64_t end = 0;
  uint64_t headers = 0;  // address of the program headers in memory; 0: not loaded
  uint64_t headers_offset = 0;
  Headers segments;         // PT_LOAD, ascending
  Headers all;              // every program header
  rewrite::Section unwind;  // .eh_frame, which no program header tells; empty: unknown
  const char* interpreter =
      nullptr;  // of kDynamic and kScript: in the file's bytes, not terminated
  size_t interpreter_size = 0;
  const char* argument = nullptr;  // of kScript: all that follows, trimmed; null: nothing
  size_t argument_size = 0;
};

// `bytes`: the whole file.
Program ReadProgram(const uint8_t* bytes, size_t size);

}  // namespace userstack::shim::guest
