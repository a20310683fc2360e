// A small ELF object: see small_elf.h. One segment holds everything; addresses equal file offsets.
#include "tests/rewrite/small_elf.h"

#include <elf.h>

#include <cstring>

namespace userstack::testing {
namespace {

constexpr uint64_t kCode = 0x1000;

class Bytes {
 public:
  size_t size() const { return bytes_.size(); }
  template <typename T>
  void Put(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    memcpy(bytes_.data() + at, &value, sizeof value);
  }
  template <typename T>
  void Set(size_t at, T value) {
    memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void Text(const std::string& text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
  void PadTo(size_t size) { bytes_.resize(size); }
  void Align(size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_.push_back(0);
  }
  void Append(const std::vector<uint8_t>& more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
  }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
};

// Begins an entry of .eh_frame; EndEntry fills its length in.
size_t BeginEntry(Bytes* out) {
  out->Put<uint32_t>(0);
  return out->size();
}
void EndEntry(Bytes* out, size_t begin) {
  out->Align(4);
  out->Set(begin - 4, static_cast<uint32_t>(out->size() - begin));
}

uint64_t PutCommon(Bytes* out, const SmallFunction& function) {
  const uint64_t address = out->size();
  const size_t begin = BeginEntry(out);
  out->Put<uint32_t>(0);
  out->Put<uint8_t>(1);
  std::string augmentation = "zR";
  if (function.has_landing_pads) augmentation += 'L';
  if (function.is_signal_frame) augmentation += 'S';
  out->Text(augmentation);
  out->Put<uint8_t>(0);
  out->Put<uint8_t>(1);     // code alignment
  out->Put<uint8_t>(0x78);  // data alignment: -8
  out->Put<uint8_t>(16);    // return address
  out->Put<uint8_t>(function.has_landing_pads ? 2 : 1);
  out->Put<uint8_t>(0x1b);
  if (function.has_landing_pads) out->Put<uint8_t>(0x1b);
  EndEntry(out, begin);
  return address;
}

uint64_t PutEntry(Bytes* out, const SmallFunction& function, uint64_t start) {
  const uint64_t common = PutCommon(out, function);
  const uint64_t address = out->size();
  const size_t begin = BeginEntry(out);
  out->Put(static_cast<uint32_t>(begin - common));
  out->Put(static_cast<int32_t>(start - out->size()));
  out->Put(static_cast<uint32_t>(function.code.size()));
  out->Put<uint8_t>(function.has_landing_pads ? 4 : 0);
  if (function.has_landing_pads) out->Put<int32_t>(0x40);
  EndEntry(out, begin);
  return address;
}

void PutProgramHeader(Bytes* out, uint32_t type, uint32_t flags, uint64_t offset, uint64_t size) {
  Elf64_Phdr header{};
  header.p_type = type;
  header.p_flags = flags;
  header.p_offset = header.p_vaddr = header.p_paddr = offset;
  header.p_filesz = header.p_memsz = size;
  header.p_align = 4096;
  out->Put(header);
}

// Headers in front of everything: `table` up to `note` are the unwind tables, `note` up to the end
// notes.
void Finish(SmallElf* elf, Bytes* out, uint64_t table, uint64_t note) {
  const uint64_t end = out->size();
  Elf64_Ehdr header{};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_DYN;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_phoff = sizeof header;
  header.e_ehsize = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 3;
  Bytes head;
  head.Put(header);
  PutProgramHeader(&head, PT_LOAD, PF_R | PF_X, 0, end);
  PutProgramHeader(&head, PT_GNU_EH_FRAME, PF_R, table, note - table);
  PutProgramHeader(&head, PT_NOTE, PF_R, note, end - note);
  elf->bytes = out->Take();
  const std::vector<uint8_t> front = head.Take();
  memcpy(elf->bytes.data(), front.data(), front.size());
}

}  // namespace

SmallElf MakeSmallElf(const std::vector<SmallFunction>& functions, const std::string& build_id) {
  SmallElf elf;
  Bytes out;
  out.PadTo(kCode);
  for (const SmallFunction& function : functions) {
    elf.functions.push_back(out.size());
    out.Append(function.code);
    out.Align(16);
  }
  std::vector<uint64_t> entries;
  for (size_t i = 0; i < functions.size(); ++i) {
    entries.push_back(PutEntry(&out, functions[i], elf.functions[i]));
  }
  out.Put<uint32_t>(0);
  const uint64_t table = out.size();
  out.Put<uint32_t>(0x3b031b01);  // version 1, pcrel sdata4, udata4, datarel sdata4
  out.Put(static_cast<int32_t>(entries.empty() ? 0 : entries[0] - (table + 4)));
  out.Put(static_cast<uint32_t>(entries.size()));
  for (size_t i = 0; i < entries.size(); ++i) {
    out.Put(static_cast<int32_t>(elf.functions[i] - table));
    out.Put(static_cast<int32_t>(entries[i] - table));
  }
  const uint64_t note = out.size();
  out.Put<uint32_t>(4);
  out.Put(static_cast<uint32_t>(build_id.size()));
  out.Put<uint32_t>(NT_GNU_BUILD_ID);
  out.Text(std::string("GNU\0", 4) + build_id);
  out.Align(4);
  Finish(&elf, &out, table, note);
  return elf;
}

SmallElf MakeSmallGo(const std::vector<SmallFunction>& functions) {
  SmallElf elf;
  Bytes out;
  out.PadTo(kCode);
  for (const SmallFunction& function : functions) {
    elf.functions.push_back(out.size());
    out.Append(function.code);
  }
  const uint64_t code_end = out.size();
  out.Align(16);
  out.Put<uint32_t>(0xfffffff0);
  out.Put<uint32_t>(0x08010000);
  const uint64_t numbers[] = {functions.size(), 0, kCode, 0, 0, 0, 0, 72};
  for (const uint64_t number : numbers) out.Put(number);
  for (const uint64_t function : elf.functions) {
    out.Put(static_cast<uint32_t>(function - kCode));
    out.Put<uint32_t>(0);
  }
  out.Put(static_cast<uint32_t>(code_end - kCode));
  const uint64_t note = out.size();
  const std::string id = "0123456789abcdefghij/0123456789abcdefghij";
  out.Put<uint32_t>(4);
  out.Put(static_cast<uint32_t>(id.size()));
  out.Put<uint32_t>(4);
  out.Text(std::string("Go\0\0", 4) + id);
  out.Align(4);
  Finish(&elf, &out, note, note);
  return elf;
}

}  // namespace userstack::testing
