// userstack-load: the process around a static program. The library beside it, which it is linked
// with, does the work; this is what the kernel can execute. Its arguments are the program's, whose
// file USERSTACK_PROGRAM names (start.h).
#include <elf.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "shim/guest/start.h"

int main(int argc, char** argv) {
  using userstack::shim::guest::kLoadNumber;
  // Behind the environment, from which the library may have taken variables: then it ends early,
  // and pointers follow. The vector begins with a tag, which is a small number and not 0.
  constexpr uint64_t kLowestPointer = 4096;
  const auto* auxiliary = reinterpret_cast<const uint64_t*>(environ);
  while (*auxiliary == 0 || *auxiliary >= kLowestPointer) ++auxiliary;
  syscall(kLoadNumber, static_cast<long>(argc), argv, auxiliary);
  fprintf(stderr, "userstack: libuserstack.so is not loaded beside %s\n", argv[0]);
  return 126;
}
