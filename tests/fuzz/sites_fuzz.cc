// What reads other people's objects before they run: ELF headers, whole programs, unwind tables,
// the finder over them with the real decoder, trampolines for what it finds; and the cache's files.
// Input: {which, bytes}.
#include <cstring>

#include "netstack/base/check.h"
#include "shim/guest/program.h"
#include "shim/rewrite/cache.h"
#include "shim/rewrite/finder.h"
#include "shim/rewrite/trampoline.h"
#include "shim/rewrite/unwind_table.h"
#include "tests/fuzz/fuzz.h"
#include "tests/rewrite/small_elf.h"

namespace userstack::testing {
namespace {

using namespace shim::rewrite;  // NOLINT

constexpr size_t kLargest = 1 << 16;

BuildId FuzzBuild() {
  BuildId build;
  build.size = 4;
  memcpy(build.bytes, "fuzz", 4);
  return build;
}

void CheckSite(const Site& site, const Image& image) {
  Check(IsSound(site), "sites: not sound");
  const uint8_t* code = image.CodeAt(site.start(), site.code_size());
  Check(code != nullptr && memcmp(code, site.code, site.code_size()) == 0, "sites: other bytes");
  if (site.patched == 0) return;
  uint8_t out[kMaxTrampoline];
  const TrampolinePlace place{0x10000000, 0x10800000, 0x10800010, 0x7f0000000000};
  Check(MakeTrampoline(site, place, out).size <= sizeof out, "sites: trampoline too large");
  Check(MakeJump(site, place, out), "sites: no jump");
}

// What start.cc relies on when it maps a static program.
void TryProgram(const Bytes& bytes) {
  using shim::guest::Kind;
  const shim::guest::Program program = shim::guest::ReadProgram(bytes.data(), bytes.size());
  const auto inside = [&bytes](const char* text, size_t size) {
    const auto* begin = reinterpret_cast<const char*>(bytes.data());
    return text >= begin && text + size <= begin + bytes.size();
  };
  if (program.interpreter != nullptr) {
    Check(inside(program.interpreter, program.interpreter_size), "program: interpreter outside");
  }
  if (program.argument != nullptr) {
    Check(inside(program.argument, program.argument_size), "program: argument outside");
  }
  if (program.kind != Kind::kStatic && program.kind != Kind::kStaticPie) return;
  uint64_t end = program.begin;
  bool runs = false;
  for (const Elf64_Phdr& segment : program.segments) {
    Check(segment.p_vaddr >= end, "program: segments meet");
    Check(segment.p_filesz <= segment.p_memsz && segment.p_offset <= bytes.size() &&
              segment.p_filesz <= bytes.size() - segment.p_offset,
          "program: segment outside of the file");
    end = segment.p_vaddr + segment.p_memsz;
    runs |= program.entry >= segment.p_vaddr && program.entry < end;
  }
  Check(runs && end <= program.end && program.begin < program.end, "program: outside of its span");
}

void TryObject(const Bytes& bytes) {
  Image image;
  if (!Image::FromFile(bytes.data(), bytes.size(), &image)) return;
  UnwindTable table;
  Function function;
  if (UnwindTable::Open(image, &table)) {
    for (uint64_t at = 0; at < image.end() && at < kLargest; at += 64) {
      if (!table.FunctionAt(at, &function)) continue;
      Check(image.CodeAt(function.start, function.size) != nullptr, "sites: function outside");
      Check(at - function.start < function.size, "sites: another function");
    }
  }
  Findings findings;
  FindSites(
      image, [] { return DecodeFunction{userstack_decode_function}; }, &findings);
  uint64_t end = 0;
  for (const Site& site : findings.sites) {
    CheckSite(site, image);
    if (site.patched == 0) continue;
    Check(site.start() >= end, "sites: patches meet");
    end = site.start() + site.patched;
  }
}

void TryCache(const Bytes& bytes) {
  std::vector<Site> sites;
  if (!DecodeSites(bytes.data(), bytes.size(), FuzzBuild(), &sites)) return;
  for (const Site& site : sites) Check(IsSound(site), "cache: a site that is not sound");
}

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  Input input(data, size);
  const uint8_t which = input.U8();
  const Bytes bytes = input.Take(kLargest);
  if (which == 0) {
    TryProgram(bytes);
    TryObject(bytes);
  } else {
    TryCache(bytes);
  }
}

std::vector<Bytes> FuzzSeeds() {
  const Bytes socket = {0xb8, 41, 0, 0, 0, 0x0f, 0x05, 0xc3};
  const Bytes read = {0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77, 1, 0xc3, 0xc3};
  const Bytes relative = {0x8b, 0x05, 0, 1, 0, 0, 0x0f, 0x05, 0x48, 0x89, 0x05, 0, 0, 0, 0, 0xc3};
  const Bytes indirect = {0xff, 0xe0, 0x89, 0xf8, 0x0f, 0x05, 0x90, 0x90, 0x90, 0xc3};
  std::vector<Bytes> seeds;
  for (const auto& functions :
       std::vector<std::vector<SmallFunction>>{{{socket, false, false}, {read, false, false}},
                                               {{relative, true, false}, {indirect, false, false}},
                                               {{socket, false, true}}}) {
    Bytes elf = MakeSmallElf(functions).bytes;
    elf.insert(elf.begin(), 0);
    seeds.push_back(elf);
    Image image;
    Findings findings;
    Image::FromFile(elf.data() + 1, elf.size() - 1, &image);
    FindSites(
        image, [] { return DecodeFunction{userstack_decode_function}; }, &findings);
    Bytes cache = EncodeSites(FuzzBuild(), findings.sites);
    cache.insert(cache.begin(), 1);
    seeds.push_back(cache);
  }
  Bytes go = MakeSmallGo({{socket, false, false}, {read, false, false}}).bytes;
  go.insert(go.begin(), 0);
  seeds.push_back(go);
  const SmallElf small = MakeSmallElf({{socket, false, false}, {read, false, false}});
  Bytes fixed = small.bytes;
  Elf64_Ehdr header;
  memcpy(&header, fixed.data(), sizeof header);
  header.e_type = ET_EXEC;
  header.e_entry = small.functions[0];
  memcpy(fixed.data(), &header, sizeof header);
  Check(shim::guest::ReadProgram(fixed.data(), fixed.size()).kind == shim::guest::Kind::kStatic,
        "seed: no static program");
  fixed.insert(fixed.begin(), 0);
  seeds.push_back(fixed);
  constexpr char kScript[] = "\0#! /bin/sh -e\n";
  seeds.emplace_back(kScript, kScript + sizeof kScript - 1);
  return seeds;
}

}  // namespace userstack::testing
