// Machine: the whole state of the processor around one `syscall`, for tests that nothing changes.
#pragma once

#include <cstdint>

namespace userstack::testing {

struct Machine {
  uint64_t general[16];  // rax rbx rcx rdx rsi rdi rbp (rsp: not set) r8 ... r15
  uint64_t flags;
  uint64_t masks[8];
  uint64_t red_zone[16];  // the 128 bytes below the stack pointer
  alignas(64) uint8_t vectors[32][64];
};

enum GeneralRegister { kRax, kRbx, kRcx, kRdx, kRsi, kRdi, kRbp, kRsp, kR8, kR9, kR10, kR11 };

// The carry, parity, adjust, zero, sign, direction and overflow flags.
inline constexpr uint64_t kFlags = 0xcd5;

}  // namespace userstack::testing

extern "C" {

// machine.S. Loads machine_in, makes a system call, and stores what it finds in machine_out. How
// the call is made is what differs: `front` loads its number relative to rip right before it (the
// jump goes over that), `behind` has it in rax long before (the jump goes over the call and what
// follows).
extern userstack::testing::Machine machine_in;
extern userstack::testing::Machine machine_out;
extern uint32_t machine_level;  // 0 xmm, 1 ymm, 2 zmm
void machine_run_front();
void machine_run_behind();

// A call with a number and six arguments, in a function that an unwinder knows; `plain` is never
// rewritten.
long machine_call(long number, long a, long b, long c, long d, long e, long f);
long machine_call_plain(long number, long a, long b, long c, long d, long e, long f);
long machine_call_small(long number, long a, long b, long c, long d, long e, long f);
// Makes the call, with 4096 bytes below its stack filled with `pattern`; how many words changed.
long machine_untouched(long number, long pattern);
// vfork (its number is the argument): the child ends with status 7.
long machine_vfork(long number);
}
