// The finder: which `0f 05` are believed, what number is seen, and what would be replaced.
#include "shim/rewrite/finder.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "shim/rewrite/unwind_table.h"
#include "tests/rewrite/small_elf.h"

namespace userstack::shim::rewrite {
namespace {

using testing::MakeSmallElf;
using testing::MakeSmallGo;
using testing::SmallElf;
using testing::SmallFunction;
using Code = std::vector<uint8_t>;

DecodeFunction Decoder() { return userstack_decode_function; }

Findings FindIn(const std::vector<uint8_t>& file) {
  Image image;
  Findings findings;
  EXPECT_TRUE(Image::FromFile(file.data(), file.size(), &image));
  EXPECT_TRUE(FindSites(image, Decoder, &findings));
  return findings;
}

Findings FindInCode(const Code& code, bool landing_pads = false) {
  return FindIn(MakeSmallElf({{code, landing_pads, false}}).bytes);
}

std::vector<uint8_t> ReadWhole(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Code Join(std::initializer_list<Code> parts) {
  Code all;
  for (const Code& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

const Code kSyscall = {0x0f, 0x05};
const Code kLoadSocket = {0xb8, 41, 0, 0, 0};  // mov $41,%eax
const Code kReturn = {0xc3};
const Code kClear = {0x31, 0xc0};                            // xor %eax,%eax: read
const Code kCompare = {0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff};  // cmp $-4096,%rax
const Code kCopyNumber = {0x89, 0xf8};                       // mov %edi,%eax

TEST(Finder, ReplacesTheLoadOfTheNumber) {
  const Findings found = FindInCode(Join({kLoadSocket, kSyscall, kReturn}));
  ASSERT_EQ(found.sites.size(), 1u);
  const Site& site = found.sites[0];
  EXPECT_EQ(site.number, SYS_socket);
  EXPECT_EQ(site.before, 5);
  EXPECT_EQ(site.patched, 5);
  EXPECT_EQ(site.after, 0);
}

TEST(Finder, ReplacesWhatIsBehindWhenNothingInFrontIsLongEnough) {
  const Findings found = FindInCode(Join({kClear, kSyscall, kCompare, kReturn}));
  ASSERT_EQ(found.sites.size(), 1u);
  const Site& site = found.sites[0];
  EXPECT_EQ(site.number, SYS_read);
  EXPECT_EQ(site.before, 0);
  EXPECT_EQ(site.after, 6);
  EXPECT_EQ(site.patched, 8);
}

TEST(Finder, LeavesCallsAloneThatCannotConcernTheStack) {
  const Code getpid = {0xb8, 39, 0, 0, 0};
  const Findings found = FindInCode(Join({getpid, kSyscall, kReturn}));
  EXPECT_TRUE(found.sites.empty());
  EXPECT_EQ(found.irrelevant, 1u);
}

TEST(Finder, DoesNotBelieveBytesInsideAnInstruction) {
  // mov $0x050f,%eax; mov $0x050f0000,%ebx
  const Code code = {0xb8, 0x0f, 0x05, 0, 0, 0xbb, 0, 0, 0x0f, 0x05, 0xc3};
  const Findings found = FindInCode(code);
  EXPECT_TRUE(found.sites.empty());
  EXPECT_EQ(found.unproved, 2u);
}

TEST(Finder, DoesNotBelieveWhatLiesBehindBytesThatAreNoInstruction) {
  const Code bad = {0x06, 0x06};  // push %es: not in 64-bit mode
  const Findings found = FindInCode(Join({kReturn, bad, kLoadSocket, kSyscall, kReturn}));
  EXPECT_TRUE(found.sites.empty());
  EXPECT_EQ(found.unproved, 1u);
}

TEST(Finder, DoesNotBelieveAHitInNoFunction) {
  SmallElf elf = MakeSmallElf({{Join({kReturn}), false, false}});
  // Behind the function, in the padding.
  elf.bytes[elf.functions[0] + 4] = 0x0f;
  elf.bytes[elf.functions[0] + 5] = 0x05;
  const Findings found = FindIn(elf.bytes);
  EXPECT_TRUE(found.sites.empty());
  EXPECT_EQ(found.unproved, 1u);
}

TEST(Finder, NeverTouchesWhatSignalHandlersReturnTo) {
  const Code code = Join({kCopyNumber, kSyscall, kCompare, kReturn});
  EXPECT_EQ(FindIn(MakeSmallElf({{code, false, false}}).bytes).sites.size(), 1u);
  EXPECT_TRUE(FindIn(MakeSmallElf({{code, false, true}}).bytes).sites.empty());
}

TEST(Finder, DoesNotTrustANumberAcrossABranchTarget) {
  // jmp +0 makes the call itself a target: another number may come that way.
  const Code jump = {0xeb, 0xf7};  // back to the syscall
  const Findings found =
      FindInCode(Join({kLoadSocket, kSyscall, {0x90, 0x90, 0x90, 0x90, 0x90}, jump}));
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].number, kUnknownNumber);
  // The load in front may be passed by: what is behind is replaced.
  EXPECT_EQ(found.sites[0].before, 0);
}

TEST(Finder, NeverCoversABranchTarget) {
  // The comparison behind the call is jumped to, and nothing in front is movable.
  const Code jump = {0x74, 0xf8};  // je to the comparison
  const Findings found = FindInCode(Join({kClear, kSyscall, kCompare, jump, kReturn}));
  ASSERT_EQ(found.sites.size(), 1u);
  const Site& site = found.sites[0];
  const uint64_t target = site.syscall + 2;
  EXPECT_TRUE(site.patched == 0 || site.start() + site.patched <= target)
      << "patched " << int{site.patched} << " from " << int{site.before} << " in front";
}

TEST(Finder, ReplacesOneInstructionOnlyWhereBranchesMayBeHidden) {
  const Code indirect = {0xff, 0xe1};  // jmp *%rcx
  for (const Code& code : {Join({kClear, kSyscall, kCompare, indirect}),
                           Join({kClear, kSyscall, kCompare, kReturn})}) {
    const Findings found = FindInCode(code, true);
    ASSERT_EQ(found.sites.size(), 1u);
    EXPECT_EQ(found.sites[0].patched, 0);
  }
  const Findings found = FindInCode(Join({kLoadSocket, kSyscall, indirect}), true);
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].patched, 5);
}

TEST(Finder, NotesOperandsThatAreRelativeToTheInstruction) {
  const Code load = {0x8b, 0x05, 0x10, 0x20, 0x30, 0x40};  // mov 0x40302010(%rip),%eax
  const Findings found = FindInCode(Join({load, kSyscall, kReturn}));
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].number, kUnknownNumber);
  EXPECT_EQ(found.sites[0].before, 6);
  EXPECT_EQ(found.sites[0].fixups[0], 2);
}

TEST(Finder, NeverMovesTheMarkOfAnIndirectTarget) {
  const Code mark = {0xf3, 0x0f, 0x1e, 0xfa};  // endbr64
  const Findings found = FindInCode(Join({mark, kSyscall, kReturn}));
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].patched, 0);
}

TEST(Finder, KeepsNeighboursApart) {
  const Code code = Join(
      {kCopyNumber, kSyscall, kCopyNumber, kSyscall, kCopyNumber, kSyscall, kCompare, kReturn});
  uint64_t end = 0;
  for (const Site& site : FindInCode(code).sites) {
    if (site.patched == 0) continue;
    EXPECT_GE(site.start(), end);
    end = site.start() + site.patched;
  }
}

TEST(Finder, SeesEveryCallOfLibcThatIsExported) {
  const std::vector<uint8_t> libc = ReadWhole("/lib/x86_64-linux-gnu/libc.so.6");
  if (libc.empty()) GTEST_SKIP() << "no libc there";
  const Findings found = FindIn(libc);
  for (const int32_t number :
       {SYS_read, SYS_write, SYS_close, SYS_socket, SYS_connect, SYS_sendto, SYS_recvfrom,
        SYS_sendmmsg, SYS_poll, SYS_ioctl, SYS_getsockname, SYS_setsockopt, SYS_epoll_wait,
        SYS_accept4, SYS_dup2, SYS_fcntl, SYS_close_range}) {
    bool seen = false;
    for (const Site& site : found.sites) seen |= site.number == number && site.patched != 0;
    EXPECT_TRUE(seen) << "system call " << number;
  }
  for (const Site& site : found.sites) EXPECT_NE(site.patched, 0) << std::hex << site.syscall;
}

// Data between the instructions of hand-written code, and displacements: patching them made ECDSA
// fail.
TEST(Finder, BelievesNoneOfTheFalseHitsOfLibcryptoAndNode) {
  for (const char* path : {"/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/usr/bin/node",
                           "/usr/lib/x86_64-linux-gnu/libnode.so.108"}) {
    const std::vector<uint8_t> object = ReadWhole(path);
    Image image;
    if (!Image::FromFile(object.data(), object.size(), &image)) continue;
    const Findings found = FindIn(object);
    EXPECT_EQ(found.sites.size(), 0u) << path;
    EXPECT_EQ(found.unknown, 0u) << path << ": nothing there is worth watching";
  }
}

TEST(Finder, SaysWhatMayBeACallThoughNothingProvesIt) {
  SmallElf elf = MakeSmallElf({{Join({kReturn}), false, false}});
  // Behind the function, where it does not fall through to: the load of a number, and the call.
  const Code call = Join({kLoadSocket, kSyscall});
  std::copy(call.begin(), call.end(), elf.bytes.begin() + static_cast<long>(elf.functions[0]) + 2);
  const Findings found = FindIn(elf.bytes);
  EXPECT_TRUE(found.sites.empty());
  EXPECT_EQ(found.unproved, 1u);
  EXPECT_EQ(found.unknown, 1u);
}

// As clone is written: its description ends in front of the call.
TEST(Finder, BelievesACallThatADescribedFunctionFallsThroughTo) {
  SmallElf elf = MakeSmallElf({{kLoadSocket, false, false}});
  const Code rest = Join({kSyscall, kCompare, kReturn});
  std::copy(rest.begin(), rest.end(), elf.bytes.begin() + static_cast<long>(elf.functions[0]) + 5);
  const Findings found = FindIn(elf.bytes);
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].number, SYS_socket);
  EXPECT_EQ(found.sites[0].patched, 5) << "the load, and nothing of what is not described";
}

TEST(UnwindTable, KnowsWhereFunctionsBeginAndEnd) {
  const SmallElf elf = MakeSmallElf({{Code(40, 0x90), false, false}, {Code(9, 0x90), true, false}});
  Image image;
  UnwindTable table;
  ASSERT_TRUE(Image::FromFile(elf.bytes.data(), elf.bytes.size(), &image));
  ASSERT_TRUE(UnwindTable::Open(image, &table));
  Function function;
  ASSERT_TRUE(table.FunctionAt(elf.functions[0] + 39, &function));
  EXPECT_EQ(function.start, elf.functions[0]);
  EXPECT_EQ(function.size, 40u);
  EXPECT_FALSE(function.has_landing_pads);
  ASSERT_TRUE(table.FunctionAt(elf.functions[1], &function));
  EXPECT_TRUE(function.has_landing_pads);
  EXPECT_FALSE(table.FunctionAt(elf.functions[0] + 40, &function));
  EXPECT_FALSE(table.FunctionAt(elf.functions[0] - 1, &function));
  EXPECT_FALSE(table.FunctionAt(elf.functions[1] + 9, &function));
}

// Static programs at a fixed address come without the linker's sorted table.
TEST(UnwindTable, IsTheSameFromItsSectionAlone) {
  const std::vector<uint8_t> file = ReadWhole("/lib/x86_64-linux-gnu/libc.so.6");
  if (file.empty()) GTEST_SKIP() << "no libc there";
  std::vector<uint8_t> bare = file;
  Elf64_Ehdr header;
  memcpy(&header, bare.data(), sizeof header);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    uint8_t* segment = bare.data() + header.e_phoff + i * sizeof(Elf64_Phdr);
    uint32_t type = 0;
    memcpy(&type, segment, sizeof type);
    if (type == PT_GNU_EH_FRAME) memset(segment, 0, sizeof type);  // PT_NULL
  }
  Image sorted_image, bare_image;
  UnwindTable sorted, section;
  ASSERT_TRUE(Image::FromFile(file.data(), file.size(), &sorted_image));
  ASSERT_TRUE(Image::FromFile(bare.data(), bare.size(), &bare_image));
  ASSERT_EQ(bare_image.unwind_header(), 0u);
  ASSERT_TRUE(UnwindTable::Open(sorted_image, &sorted));
  ASSERT_TRUE(UnwindTable::Open(bare_image, &section));
  EXPECT_GT(section.size(), 1000u);
  for (uint64_t address = 0; address < sorted_image.end(); address += 16) {
    Function one, other;
    const bool known = sorted.FunctionAt(address, &one);
    ASSERT_EQ(known, section.FunctionAt(address, &other)) << std::hex << address;
    if (!known) continue;
    ASSERT_EQ(one.start, other.start);
    ASSERT_EQ(one.size, other.size);
  }
}

TEST(UnwindTable, ASectionThatLiesIsNotRead) {
  const SmallElf elf = MakeSmallElf({{Code(40, 0x90), false, false}});
  Image image;
  ASSERT_TRUE(Image::FromFile(elf.bytes.data(), elf.bytes.size(), &image));
  EXPECT_EQ(FindSection(elf.bytes.data(), elf.bytes.size(), ".eh_frame").size, 0u) << "it has none";
  Image bare;
  UnwindTable table;
  for (const Section& section : {Section{0, 0}, Section{~uint64_t{0} - 8, 64},
                                 Section{elf.functions[0], 40}, Section{0x400000, ~uint64_t{0}}}) {
    bare.SetUnwindSection(section);
    EXPECT_FALSE(UnwindTable::Open(bare, &table));
  }
}

TEST(GoTable, TellsTheFinderWhereFunctionsBegin) {
  const Code exit = {0xb8, 231, 0, 0, 0};
  const SmallElf elf = MakeSmallGo({{Join({kLoadSocket, kSyscall, kReturn}), false, false},
                                    {Join({kClear, kSyscall, kCompare, kReturn}), false, false},
                                    {Join({exit, kSyscall}), false, false}});
  const Findings found = FindIn(elf.bytes);
  ASSERT_EQ(found.sites.size(), 3u);
  EXPECT_EQ(found.sites[0].number, SYS_socket);
  EXPECT_EQ(found.sites[1].number, SYS_read);
  EXPECT_EQ(found.sites[2].number, SYS_exit_group) << "Go ends a process without libc";
  EXPECT_TRUE(FindInCode(Join({exit, kSyscall})).sites.empty()) << "libc's own is hooked";
}

TEST(GoTable, IsReadInsideItsBoundsOnly) {
  SmallElf elf = MakeSmallGo({{Join({kLoadSocket, kSyscall, kReturn}), false, false}});
  const uint64_t table = (elf.functions[0] + 8 + 15) & ~uint64_t{15};
  for (size_t byte = table; byte < table + 72 + 12; ++byte) {
    for (const uint8_t value : {0x00, 0x7f, 0xff}) {
      std::vector<uint8_t> changed = elf.bytes;
      changed[byte] = value;
      EXPECT_LE(FindIn(changed).sites.size(), 1u);
    }
  }
}

TEST(Image, RefusesWhatIsNoObjectOfThisMachine) {
  std::vector<uint8_t> elf = MakeSmallElf({{kReturn, false, false}}).bytes;
  Image image;
  EXPECT_TRUE(Image::FromFile(elf.data(), elf.size(), &image));
  EXPECT_EQ(image.build_id().size, 20);
  EXPECT_FALSE(Image::FromFile(elf.data(), 63, &image));
  EXPECT_FALSE(Image::FromFile(elf.data(), 0x1000, &image)) << "its segment is cut off";
  elf[4] = 1;  // 32 bits
  EXPECT_FALSE(Image::FromFile(elf.data(), elf.size(), &image));
}

}  // namespace
}  // namespace userstack::shim::rewrite
