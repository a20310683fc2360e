// Image: an ELF object of x86-64, where its bytes lie and what its headers say. Two ways in: an
// object that the loader has mapped, and the bytes of a file. Everything is read through At, which
// knows the bounds, so that a corrupt header is a value that is not found and nothing else.
//
// Addresses are those of the file (without the loader's base). Owner: whoever made it; it points
// into memory that it does not own.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>

namespace userstack::shim::rewrite {

struct Segment {
  uint64_t address = 0;
  const uint8_t* bytes = nullptr;
  uint64_t size = 0;  // of the file's bytes: what is zero-filled holds no code and no tables
  bool executable = false;
};

// What a section header says; empty: there is none.
struct Section {
  uint64_t address = 0;
  uint64_t size = 0;
};

// The section `name` of an ELF file of x86-64 whose bytes these are. Sections are for linkers, and
// may be missing or lie.
Section FindSection(const uint8_t* bytes, size_t size, const char* name);

struct BuildId {
  static constexpr size_t kMaxSize = 32;
  uint8_t size = 0;  // 0: the object has none
  uint8_t bytes[kMaxSize] = {};
};

class Image {
 public:
  static constexpr unsigned kMaxSegments = 16;

  // A mapped object: `base` and its program headers, as dl_iterate_phdr gives them.
  static Image Mapped(uintptr_t base, const Elf64_Phdr* headers, size_t count);
  // A file in memory. False: no ELF object of this machine, or a corrupt one.
  static bool FromFile(const uint8_t* bytes, size_t size, Image* image);

  // `size` bytes at `address`, or null when they are not all of one segment.
  const uint8_t* At(uint64_t address, uint64_t size) const;
  // The same, in an executable segment.
  const uint8_t* CodeAt(uint64_t address, uint64_t size) const;

  const Segment* segments() const { return segments_; }
  unsigned segment_count() const { return segment_count_; }
  uint64_t unwind_header() const { return unwind_header_; }          // .eh_frame_hdr; 0: none
  const Section& unwind_section() const { return unwind_section_; }  // .eh_frame; empty: unknown
  // A mapped object does not tell: who has its file says it.
  void SetUnwindSection(const Section& section) { unwind_section_ = section; }
  const BuildId& build_id() const { return build_id_; }
  bool is_go() const { return is_go_; }
  // A static program: there is no libc underneath whose symbols we have, and what is not proved to
  // be no system call has to be known.
  bool is_whole() const { return is_whole_; }
  void MarkWhole() { is_whole_ = true; }
  // An address that the object holds, and that the loader may have relocated, as the file has it.
  uint64_t FromMemory(uint64_t address) const {
    return Find(address, 1, false) == nullptr ? address - base_ : address;
  }
  // One past the last address of any segment.
  uint64_t end() const { return end_; }

 private:
  const uint8_t* Find(uint64_t address, uint64_t size, bool executable) const;
  void Add(const Elf64_Phdr& header, const uint8_t* bytes, uint64_t size);
  void ReadNotes(uint64_t address, uint64_t size);

  Segment segments_[kMaxSegments];
  unsigned segment_count_ = 0;
  uint64_t unwind_header_ = 0;
  Section unwind_section_;
  uint64_t end_ = 0;
  uint64_t base_ = 0;
  bool is_go_ = false;
  bool is_whole_ = false;
  BuildId build_id_;
};

}  // namespace userstack::shim::rewrite
