// Program: see program.h.
#include "shim/guest/program.h"

#include <cstring>

namespace userstack::shim::guest {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHighest = uint64_t{1} << 47;
constexpr size_t kScriptLine = 256;  // BINPRM_BUF_SIZE: what the kernel looks at

class Reader {
 public:
  Reader(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {}

  Program Read() {
    if (size_ >= 2 && bytes_[0] == '#' && bytes_[1] == '!') {
      ReadScript();
    } else if (size_ < SELFMAG || memcmp(bytes_, ELFMAG, SELFMAG) != 0) {
      program_.kind = Kind::kUnknown;
    } else {
      ReadElf();
    }
    return program_;
  }

 private:
  void Corrupt(const char* reason) {
    program_.kind = Kind::kCorrupt;
    program_.reason = reason;
  }

  bool Holds(uint64_t offset, uint64_t size) const {
    return offset <= size_ && size_ - offset >= size;
  }

  // Linux, load_script: spaces and tabs are skipped, the first word is the interpreter, the rest of
  // the line is one argument.
  void ReadScript() {
    const auto* text = reinterpret_cast<const char*>(bytes_);
    const size_t most = size_ < kScriptLine ? size_ : kScriptLine;
    size_t end = 2;
    while (end < most && text[end] != '\n' && text[end] != '\0') ++end;
    size_t begin = 2;
    const auto is_space = [text](size_t at) { return text[at] == ' ' || text[at] == '\t'; };
    while (begin < end && is_space(begin)) ++begin;
    while (end > begin && is_space(end - 1)) --end;
    size_t word = begin;
    while (word < end && !is_space(word)) ++word;
    if (word == begin) return;
    program_.kind = Kind::kScript;
    program_.interpreter = text + begin;
    program_.interpreter_size = word - begin;
    while (word < end && is_space(word)) ++word;
    if (word == end) return;
    program_.argument = text + word;
    program_.argument_size = end - word;
  }

  void ReadElf() {
    Elf64_Ehdr file;
    if (size_ < sizeof file) return Corrupt("cut off in its header");
    memcpy(&file, bytes_, sizeof file);
    if (file.e_ident[EI_CLASS] != ELFCLASS64 || file.e_ident[EI_DATA] != ELFDATA2LSB ||
        file.e_machine != EM_X86_64) {
      program_.kind = Kind::kForeign;
      return;
    }
    if (file.e_type != ET_EXEC && file.e_type != ET_DYN) return Corrupt("no program");
    if (file.e_phentsize != sizeof(Elf64_Phdr) || file.e_phnum == 0 ||
        file.e_phnum > Headers::kMost) {
      return Corrupt("its program headers are of another form");
    }
    if (!Holds(file.e_phoff, file.e_phnum * sizeof(Elf64_Phdr))) {
      return Corrupt("cut off in its program headers");
    }
    program_.entry = file.e_entry;
    program_.headers_offset = file.e_phoff;
    for (unsigned i = 0; i < file.e_phnum; ++i) {
      Elf64_Phdr header;
      memcpy(&header, bytes_ + file.e_phoff + i * sizeof header, sizeof header);
      program_.all.push_back(header);
      if (header.p_type == PT_LOAD && !AddSegment(header)) return;
    }
    if (program_.segments.empty()) return Corrupt("it has nothing to load");
    if (!CheckEntry()) return Corrupt("its entry is in no code");
    program_.unwind = rewrite::FindSection(bytes_, size_, ".eh_frame");
    Classify(file.e_type);
  }

  bool AddSegment(const Elf64_Phdr& header) {
    const auto fail = [this](const char* reason) {
      Corrupt(reason);
      return false;
    };
    if (header.p_memsz == 0) return true;
    if (header.p_filesz > header.p_memsz) return fail("a segment is larger than its memory");
    if (!Holds(header.p_offset, header.p_filesz)) return fail("cut off in a segment");
    if (header.p_vaddr >= kHighest || header.p_memsz >= kHighest ||
        header.p_vaddr + header.p_memsz > kHighest) {
      return fail("a segment is outside of the address space");
    }
    if (header.p_filesz != 0 && (header.p_offset ^ header.p_vaddr) % kPage != 0) {
      return fail("a segment is not aligned with its pages");
    }
    if (program_.segments.empty()) {
      program_.begin = header.p_vaddr & ~(kPage - 1);
    } else {
      const Elf64_Phdr& before = program_.segments.back();
      if (header.p_vaddr < before.p_vaddr + before.p_memsz) return fail("its segments overlap");
    }
    program_.end = (header.p_vaddr + header.p_memsz + kPage - 1) & ~(kPage - 1);
    if (program_.headers_offset >= header.p_offset &&
        program_.headers_offset - header.p_offset < header.p_filesz) {
      program_.headers = program_.headers_offset - header.p_offset + header.p_vaddr;
    }
    program_.segments.push_back(header);
    return true;
  }

  bool CheckEntry() const {
    for (const Elf64_Phdr& segment : program_.segments) {
      if ((segment.p_flags & PF_X) != 0 && program_.entry >= segment.p_vaddr &&
          program_.entry - segment.p_vaddr < segment.p_memsz) {
        return true;
      }
    }
    return false;
  }

  void Classify(unsigned type) {
    bool says_pie = false;
    for (const Elf64_Phdr& header : program_.all) {
      if (header.p_type == PT_DYNAMIC) says_pie = SaysPie(header);
    }
    program_.kind = type == ET_EXEC ? Kind::kStatic : says_pie ? Kind::kStaticPie : Kind::kObject;
    for (const Elf64_Phdr& header : program_.all) {
      if (header.p_type != PT_INTERP) continue;
      if (!Holds(header.p_offset, header.p_filesz) || header.p_filesz < 2 ||
          header.p_filesz > kPage || bytes_[header.p_offset + header.p_filesz - 1] != '\0') {
        return Corrupt("the name of its interpreter is not whole");
      }
      program_.kind = Kind::kDynamic;
      program_.interpreter = reinterpret_cast<const char*>(bytes_ + header.p_offset);
      program_.interpreter_size = strnlen(program_.interpreter, header.p_filesz);
    }
  }

  // Linkers mark position-independent programs, which else look like libraries.
  bool SaysPie(const Elf64_Phdr& header) const {
    if (!Holds(header.p_offset, header.p_filesz)) return false;
    for (uint64_t at = 0; header.p_filesz - at >= sizeof(Elf64_Dyn); at += sizeof(Elf64_Dyn)) {
      Elf64_Dyn entry;
      memcpy(&entry, bytes_ + header.p_offset + at, sizeof entry);
      if (entry.d_tag == DT_NULL) return false;
      if (entry.d_tag == DT_FLAGS_1) return (entry.d_un.d_val & DF_1_PIE) != 0;
    }
    return false;
  }

  const uint8_t* bytes_;
  size_t size_;
  Program program_;
};

}  // namespace

Program ReadProgram(const uint8_t* bytes, size_t size) { return Reader(bytes, size).Read(); }

}  // namespace userstack::shim::guest
