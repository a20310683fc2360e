// Image: see image.h. Program headers, but for where unwind tables lie that have none.
#include "shim/rewrite/image.h"

#include <cstring>

namespace userstack::shim::rewrite {
namespace {

constexpr uint32_t kGoBuildId = 4;  // a note of the name "Go"

constexpr uint64_t Align4(uint64_t value) { return (value + 3) & ~uint64_t{3}; }

}  // namespace

Section FindSection(const uint8_t* bytes, size_t size, const char* name) {
  Elf64_Ehdr file;
  if (size < sizeof file) return {};
  memcpy(&file, bytes, sizeof file);
  const auto holds = [size](uint64_t offset, uint64_t length) {
    return offset <= size && size - offset >= length;
  };
  if (file.e_shentsize != sizeof(Elf64_Shdr) || file.e_shstrndx >= file.e_shnum ||
      !holds(file.e_shoff, uint64_t{file.e_shnum} * sizeof(Elf64_Shdr))) {
    return {};
  }
  const auto header = [&](unsigned index) {
    Elf64_Shdr section;
    memcpy(&section, bytes + file.e_shoff + index * sizeof section, sizeof section);
    return section;
  };
  const Elf64_Shdr names = header(file.e_shstrndx);
  if (!holds(names.sh_offset, names.sh_size)) return {};
  const size_t length = strlen(name) + 1;
  for (unsigned i = 0; i < file.e_shnum; ++i) {
    const Elf64_Shdr section = header(i);
    if ((section.sh_flags & SHF_ALLOC) == 0 || section.sh_name >= names.sh_size ||
        names.sh_size - section.sh_name < length) {
      continue;
    }
    if (memcmp(bytes + names.sh_offset + section.sh_name, name, length) != 0) continue;
    return {section.sh_addr, section.sh_size};
  }
  return {};
}

void Image::Add(const Elf64_Phdr& header, const uint8_t* bytes, uint64_t size) {
  const bool readable = (header.p_flags & PF_R) != 0;
  if (!readable || size == 0 || segment_count_ == kMaxSegments) return;
  if (header.p_vaddr + size < size) return;
  segments_[segment_count_++] = {header.p_vaddr, bytes, size, (header.p_flags & PF_X) != 0};
  if (header.p_vaddr + size > end_) end_ = header.p_vaddr + size;
}

Image Image::Mapped(uintptr_t base, const Elf64_Phdr* headers, size_t count) {
  Image image;
  image.base_ = base;
  for (size_t i = 0; i < count; ++i) {
    if (headers[i].p_type != PT_LOAD) continue;
    image.Add(headers[i], reinterpret_cast<const uint8_t*>(base + headers[i].p_vaddr),
              headers[i].p_filesz);
  }
  for (size_t i = 0; i < count; ++i) {
    if (headers[i].p_type == PT_GNU_EH_FRAME) image.unwind_header_ = headers[i].p_vaddr;
    if (headers[i].p_type == PT_NOTE) image.ReadNotes(headers[i].p_vaddr, headers[i].p_filesz);
  }
  return image;
}

bool Image::FromFile(const uint8_t* bytes, size_t size, Image* image) {
  Elf64_Ehdr file;
  if (size < sizeof file) return false;
  memcpy(&file, bytes, sizeof file);
  if (memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 || file.e_ident[EI_CLASS] != ELFCLASS64 ||
      file.e_ident[EI_DATA] != ELFDATA2LSB || file.e_machine != EM_X86_64) {
    return false;
  }
  if (file.e_phentsize != sizeof(Elf64_Phdr) || file.e_phoff > size ||
      (size - file.e_phoff) / sizeof(Elf64_Phdr) < file.e_phnum) {
    return false;
  }
  *image = {};
  for (int pass = 0; pass < 2; ++pass) {
    for (unsigned i = 0; i < file.e_phnum; ++i) {
      Elf64_Phdr header;
      memcpy(&header, bytes + file.e_phoff + i * sizeof header, sizeof header);
      if (header.p_offset > size || size - header.p_offset < header.p_filesz) return false;
      if (pass == 0 && header.p_type == PT_LOAD) {
        image->Add(header, bytes + header.p_offset, header.p_filesz);
      }
      if (pass == 0) continue;
      if (header.p_type == PT_GNU_EH_FRAME) image->unwind_header_ = header.p_vaddr;
      if (header.p_type == PT_NOTE) image->ReadNotes(header.p_vaddr, header.p_filesz);
    }
  }
  image->unwind_section_ = FindSection(bytes, size, ".eh_frame");
  return true;
}

const uint8_t* Image::Find(uint64_t address, uint64_t size, bool executable) const {
  for (unsigned i = 0; i < segment_count_; ++i) {
    const Segment& segment = segments_[i];
    if (executable && !segment.executable) continue;
    if (address < segment.address || address - segment.address > segment.size) continue;
    const uint64_t offset = address - segment.address;
    if (segment.size - offset >= size) return segment.bytes + offset;
  }
  return nullptr;
}

const uint8_t* Image::At(uint64_t address, uint64_t size) const {
  return Find(address, size, false);
}

const uint8_t* Image::CodeAt(uint64_t address, uint64_t size) const {
  return Find(address, size, true);
}

void Image::ReadNotes(uint64_t address, uint64_t size) {
  const uint8_t* notes = At(address, size);
  uint64_t at = 0;
  while (notes != nullptr && size - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    memcpy(&note, notes + at, sizeof note);
    at += sizeof note;
    const uint64_t name = Align4(note.n_namesz);
    const uint64_t content = Align4(note.n_descsz);
    if (size - at < name + content) return;
    const auto* owner = reinterpret_cast<const char*>(notes + at);
    const uint8_t* text = notes + at + name;
    if (note.n_namesz == 4 && memcmp(owner, "GNU", 4) == 0 && note.n_type == NT_GNU_BUILD_ID &&
        note.n_descsz > 0 && note.n_descsz <= BuildId::kMaxSize) {
      build_id_ = {};
      build_id_.size = static_cast<uint8_t>(note.n_descsz);
      memcpy(build_id_.bytes, text, note.n_descsz);
    } else if (note.n_namesz == 4 && memcmp(owner, "Go\0", 4) == 0 && note.n_type == kGoBuildId &&
               note.n_descsz >= BuildId::kMaxSize) {
      is_go_ = true;
      // Its end is the hash of the contents. A GNU build-id, where there is one too, is better.
      if (build_id_.size == 0) {
        build_id_.size = BuildId::kMaxSize;
        memcpy(build_id_.bytes, text + note.n_descsz - BuildId::kMaxSize, BuildId::kMaxSize);
      }
    }
    at += name;
    at += content;
  }
}

}  // namespace userstack::shim::rewrite
