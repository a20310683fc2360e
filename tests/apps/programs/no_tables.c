// An object that nothing describes: system calls by an instruction of its own.
long no_tables_call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall; cmp $-4095, %%rax"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory", "cc");
  return result;
}
