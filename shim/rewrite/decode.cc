// Decode: which of the `0f 05` in a function are system calls, what number reaches them, and what
// can be replaced around them. Built into libuserstack-decode.so with capstone, which is loaded
// only when a site is not in the cache.
//
// Invariants: 1. A hit is believed only when it is the start of an instruction in the one decoding
// that begins at the function's first byte. 2. No jump ever covers the start of an instruction that
// a branch of the function leads to; where branches may be hidden (an indirect jump, landing pads)
// a jump replaces no more than one instruction.
#include <capstone/capstone.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "shim/rewrite/decoder.h"

namespace userstack::shim::rewrite {
namespace {

constexpr size_t kMaxBefore = 32;
constexpr size_t kMaxLookBack = 24;  // instructions

struct Instruction {
  uint32_t offset = 0;
  uint8_t size = 0;
  uint8_t fixup = 0;  // where its displacement from rip begins; 0: none
  bool is_syscall = false;
  bool leaves = false;   // a branch, call, return or trap: nothing that can be copied
  bool movable = false;  // means the same elsewhere
};

// What an instruction does to eax.
struct NumberEffect {
  bool writes = false;
  int64_t value = kUnknownNumber;  // when it is a constant
};

bool Has(const cs_insn& insn, uint8_t group) {
  const cs_detail& detail = *insn.detail;
  return std::find(detail.groups, detail.groups + detail.groups_count, group) !=
         detail.groups + detail.groups_count;
}

bool IsNumberRegister(uint16_t reg) {
  return reg == X86_REG_RAX || reg == X86_REG_EAX || reg == X86_REG_AX || reg == X86_REG_AH ||
         reg == X86_REG_AL;
}

// What a write of eax leaves there, when it is a constant.
int64_t ConstantOf(const cs_insn& insn) {
  const cs_x86& x86 = insn.detail->x86;
  if (x86.op_count != 2 || x86.operands[0].type != X86_OP_REG) return kUnknownNumber;
  const x86_reg target = x86.operands[0].reg;
  if (target != X86_REG_EAX && target != X86_REG_RAX) return kUnknownNumber;
  const cs_x86_op& source = x86.operands[1];
  if (insn.id == X86_INS_MOV && source.type == X86_OP_IMM) return source.imm;
  const bool clears = insn.id == X86_INS_XOR && source.type == X86_OP_REG && source.reg == target;
  return clears ? 0 : kUnknownNumber;
}

bool FallsThrough(const cs_insn& insn) {
  const bool always = insn.id == X86_INS_JMP || insn.id == X86_INS_LJMP || insn.id == X86_INS_UD2 ||
                      insn.id == X86_INS_HLT || Has(insn, CS_GRP_RET) || Has(insn, CS_GRP_IRET) ||
                      Has(insn, CS_GRP_CALL);
  return !always;
}

// One function, decoded.
class Decoding {
 public:
  Decoding(csh handle, const DecodeRequest& request) : handle_(handle), request_(request) {}

  // False: no hit is an instruction; then the rest of the function was not looked at.
  bool Run();
  // Index of the instruction that starts at `offset`, or -1.
  long Find(uint32_t offset) const;
  const Instruction& operator[](size_t index) const { return instructions_[index]; }
  bool hidden_entries() const { return hidden_entries_; }
  bool IsTarget(size_t index) const { return targets_[instructions_[index].offset]; }
  size_t size() const { return instructions_.size(); }
  NumberEffect EffectOf(size_t index) const;

 private:
  bool AnyHitProved() const;
  void Take(const cs_insn& insn);
  void TakeOperands(const cs_insn& insn, Instruction* instruction);

  csh handle_;
  const DecodeRequest& request_;
  std::vector<Instruction> instructions_;
  std::vector<bool> targets_;
  bool hidden_entries_ = false;
};

bool Decoding::Run() {
  hidden_entries_ = request_.hidden_entries;
  targets_.assign(request_.size, false);
  cs_insn* insn = cs_malloc(handle_);
  if (insn == nullptr) return false;
  const uint64_t last_hit = request_.address + request_.hits[request_.hit_count - 1];
  const uint8_t* code = request_.code;
  size_t left = request_.size;
  uint64_t address = request_.address;
  bool proved = false;
  while (cs_disasm_iter(handle_, &code, &left, &address, insn)) {
    Take(*insn);
    const uint64_t done = address - request_.address;
    if (done == request_.described && request_.size > done && !FallsThrough(*insn)) break;
    if (proved || address <= last_hit) continue;
    proved = AnyHitProved();
    if (!proved) break;
  }
  cs_free(insn, 1);
  return proved || AnyHitProved();
}

bool Decoding::AnyHitProved() const {
  for (uint32_t i = 0; i < request_.hit_count; ++i) {
    const long index = Find(request_.hits[i]);
    if (index >= 0 && instructions_[static_cast<size_t>(index)].is_syscall) return true;
  }
  return false;
}

void Decoding::Take(const cs_insn& insn) {
  Instruction instruction;
  instruction.offset = static_cast<uint32_t>(insn.address - request_.address);
  instruction.size = static_cast<uint8_t>(insn.size);
  instruction.is_syscall = insn.id == X86_INS_SYSCALL && insn.size == kSyscallSize;
  const bool jumps = Has(insn, CS_GRP_JUMP);
  instruction.leaves =
      jumps || Has(insn, CS_GRP_CALL) || Has(insn, CS_GRP_RET) || Has(insn, CS_GRP_INT) ||
      Has(insn, CS_GRP_IRET) || insn.id == X86_INS_LOOP || insn.id == X86_INS_LOOPE ||
      insn.id == X86_INS_LOOPNE || insn.id == X86_INS_JRCXZ || insn.id == X86_INS_JECXZ ||
      insn.id == X86_INS_XBEGIN || insn.id == X86_INS_XABORT || insn.id == X86_INS_UD2 ||
      insn.id == X86_INS_HLT || insn.id == X86_INS_SYSENTER;
  TakeOperands(insn, &instruction);
  // The mark of an indirect branch's target must stay where it is.
  const bool mark = insn.id == X86_INS_ENDBR64 || insn.id == X86_INS_ENDBR32;
  instruction.movable =
      !instruction.leaves && !instruction.is_syscall && !mark && !(instruction.fixup == UINT8_MAX);
  if (instruction.fixup == UINT8_MAX) instruction.fixup = 0;
  instructions_.push_back(instruction);
}

void Decoding::TakeOperands(const cs_insn& insn, Instruction* instruction) {
  const cs_x86& x86 = insn.detail->x86;
  for (uint8_t i = 0; i < x86.op_count; ++i) {
    const cs_x86_op& operand = x86.operands[i];
    if (operand.type == X86_OP_IMM && instruction->leaves) {
      const auto target = static_cast<uint64_t>(operand.imm) - request_.address;
      if (target < targets_.size()) targets_[target] = true;
    }
    if (operand.type != X86_OP_IMM && Has(insn, CS_GRP_JUMP)) hidden_entries_ = true;
    if (operand.type != X86_OP_MEM) continue;
    if (operand.mem.base == X86_REG_RIP && operand.mem.segment == X86_REG_INVALID) {
      instruction->fixup =
          x86.encoding.disp_size == 4 ? x86.encoding.disp_offset : uint8_t{UINT8_MAX};
    } else if (operand.mem.base == X86_REG_RIP || operand.mem.base == X86_REG_EIP) {
      instruction->fixup = UINT8_MAX;
    }
  }
}

NumberEffect Decoding::EffectOf(size_t index) const {
  NumberEffect effect{true, kUnknownNumber};
  const Instruction& instruction = instructions_[index];
  cs_insn* insn = nullptr;
  if (cs_disasm(handle_, request_.code + instruction.offset, instruction.size,
                request_.address + instruction.offset, 1, &insn) != 1) {
    return effect;
  }
  cs_regs read;
  cs_regs write;
  uint8_t read_count = 0;
  uint8_t write_count = 0;
  if (cs_regs_access(handle_, insn, read, &read_count, write, &write_count) == CS_ERR_OK) {
    effect.writes = std::any_of(write, write + write_count, IsNumberRegister);
  }
  if (effect.writes) effect.value = ConstantOf(*insn);
  cs_free(insn, 1);
  return effect;
}

long Decoding::Find(uint32_t offset) const {
  const auto found = std::lower_bound(
      instructions_.begin(), instructions_.end(), offset,
      [](const Instruction& instruction, uint32_t at) { return instruction.offset < at; });
  if (found == instructions_.end() || found->offset != offset) return -1;
  return found - instructions_.begin();
}

// The choice for one system call.
class Choice {
 public:
  Choice(const Decoding& code, const DecodeRequest& request, size_t index)
      : code_(code), request_(request), index_(index), first_(FirstOfLine()) {}

  Site Make() {
    Site site;
    site.syscall = request_.address + code_[index_].offset;
    site.number = Number();
    Place(&site);
    const size_t offset = code_[index_].offset - site.before;
    memcpy(site.code, request_.code + offset, site.code_size());
    return site;
  }

 private:
  // The first instruction from which nothing but the next one is reached, up to the call.
  size_t FirstOfLine() const {
    size_t at = index_;
    while (at > 0 && index_ - at < kMaxLookBack && !code_.IsTarget(at)) {
      if (code_[at - 1].leaves || code_[at - 1].is_syscall) break;
      --at;
    }
    return at;
  }

  int32_t Number() const {
    int64_t number = kUnknownNumber;
    for (size_t i = first_; i < index_; ++i) {
      const NumberEffect effect = code_.EffectOf(i);
      if (effect.writes) number = effect.value;
    }
    return number >= 0 && number <= INT32_MAX ? static_cast<int32_t>(number) : kUnknownNumber;
  }

  // A jump at instruction `from`: sets before, after and patched. False: not there.
  bool Fits(size_t from, Site* site) const {
    const uint32_t start = code_[from].offset;
    uint32_t end = start;
    size_t next = from;
    while (end - start < kJumpSize || next <= index_) {
      if (next >= code_.size()) return false;
      const Instruction& instruction = code_[next];
      const bool patched = end - start < kJumpSize;
      if (next != index_ && !instruction.movable) return false;
      if (patched && next != from && (code_.IsTarget(next) || code_.hidden_entries())) return false;
      end = instruction.offset + instruction.size;
      if (patched) site->patched = static_cast<uint8_t>(end - start);
      ++next;
    }
    const uint32_t before = code_[index_].offset - start;
    const uint32_t after = end - (code_[index_].offset + kSyscallSize);
    if (before > kMaxBefore || before + after + kSyscallSize > Site::kMaxCode) return false;
    site->before = static_cast<uint8_t>(before);
    site->after = static_cast<uint8_t>(after);
    return NoteFixups(from, next, start, site);
  }

  bool NoteFixups(size_t from, size_t to, uint32_t start, Site* site) const {
    size_t count = 0;
    site->fixups[0] = site->fixups[1] = 0;
    for (size_t i = from; i < to; ++i) {
      if (code_[i].fixup == 0) continue;
      if (count == 2) return false;
      site->fixups[count++] = static_cast<uint8_t>(code_[i].offset - start + code_[i].fixup);
    }
    return true;
  }

  // One long instruction in front is best: every other byte keeps its meaning. Then what is behind
  // the call, then several instructions in front.
  void Place(Site* site) const {
    for (size_t from = index_; from-- > first_;) {
      if (code_[from].size >= kJumpSize && Fits(from, site)) return;
    }
    for (size_t from = index_ + 1; from-- > first_;) {
      if (Fits(from, site)) return;
    }
    site->before = site->after = site->patched = 0;
    site->fixups[0] = site->fixups[1] = 0;
  }

  const Decoding& code_;
  const DecodeRequest& request_;
  size_t index_;
  size_t first_;
};

csh OpenHandle() {
  csh handle = 0;
  if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) return 0;
  cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
  return handle;
}

}  // namespace
}  // namespace userstack::shim::rewrite

extern "C" [[gnu::visibility("default")]] int userstack_decode_function(
    const userstack::shim::rewrite::DecodeRequest* request, userstack::shim::rewrite::Site* sites) {
  using namespace userstack::shim::rewrite;  // NOLINT: this is its only entry
  // One handle for as long as the module is loaded: making one costs more than most functions do.
  // The finder runs under the lock of its caller.
  static const csh handle = OpenHandle();
  if (handle == 0) return -1;
  int count = 0;
  Decoding code(handle, *request);
  if (!code.Run()) return 0;
  for (uint32_t i = 0; i < request->hit_count; ++i) {
    const long index = code.Find(request->hits[i]);
    if (index < 0 || !code[static_cast<size_t>(index)].is_syscall) continue;
    sites[count++] = Choice(code, *request, static_cast<size_t>(index)).Make();
  }
  return count;
}
